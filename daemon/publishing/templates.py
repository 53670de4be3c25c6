"""Texts and documents with places to fill in: ``{dataset_type}``, ``{data_id.visit}``, ``{content.value}``.

A text that is nothing but one place becomes the value that stands there, of whatever type; in other texts values are
written out. ``{{`` and ``}}`` are braces. No code is ever run, and nothing is looked up but keys and numbers.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from pantry.errors import PublishError

_PLACE = re.compile(r"\{\{|\}\}|\{(?P<path>[A-Za-z_][A-Za-z0-9_]*(?:\.[^.{}]+)*)\}|[{}]")
NAMES = ("id", "dataset_type", "storage_class", "run", "repository", "data_id", "hash", "size_bytes", "time", "part")
"""What is known of every dataset; ``content``, ``rows`` and ``row`` besides, where there is such a thing."""


class UnfitError(PublishError):
    """A dataset lacks what a target's configuration wants of it, so that it cannot be published there."""


def places(value: Any) -> Iterator[str]:
    """Give the path of each place in a text or document.

    Raises
    ------
    ValueError
        For a brace that is none of a place.
    """
    if isinstance(value, str):
        for match in _PLACE.finditer(value):
            if match["path"] is not None:
                yield match["path"]
            elif len(match[0]) == 1:
                raise ValueError(f"{value!r}: the brace at character {match.start() + 1} is of no place such as {{id}}")
    elif isinstance(value, Mapping):
        for key, one in value.items():
            yield from places(key)
            yield from places(one)
    elif isinstance(value, list | tuple):
        for one in value:
            yield from places(one)


def look_up(path: str, known: Mapping[str, Any]) -> Any:
    """Return what stands at a path; None if nothing does."""
    found: Any = known
    for part in path.split("."):
        if isinstance(found, Mapping):
            found = found.get(part)
        elif isinstance(found, list | tuple) and part.isdecimal() and int(part) < len(found):
            found = found[int(part)]
        else:
            return None
    return found


def fill(template: Any, known: Mapping[str, Any]) -> Any:
    """Return a document with all its places filled in; a place where nothing stands becomes None.

    Raises
    ------
    UnfitError
        For such a place inside a longer text.
    """
    if isinstance(template, str):
        whole = _PLACE.fullmatch(template)
        if whole is not None and whole["path"] is not None:
            return look_up(whole["path"], known)
        return fill_text(template, known, str)
    if isinstance(template, Mapping):
        return {fill_text(key, known, str): fill(one, known) for key, one in template.items()}
    if isinstance(template, list | tuple):
        return [fill(one, known) for one in template]
    return template


def fill_text(template: str, known: Mapping[str, Any], quote: Callable[[str], str]) -> str:
    """Return a text with all its places filled in, each value after ``quote``.

    Raises
    ------
    UnfitError
        At a place stands nothing, or something that is no number and no text.
    """

    def value(match: re.Match[str]) -> str:
        path = match["path"]
        if path is None:
            return match[0][0]
        found = look_up(path, known)
        if isinstance(found, bool):
            return quote("true" if found else "false")
        if not isinstance(found, str | int | float):
            what = "nothing" if found is None else f"a {type(found).__name__}"
            raise UnfitError(f"at {{{path}}} stands {what}, which cannot be written into {template!r}")
        return quote(str(found))

    return _PLACE.sub(value, template)
