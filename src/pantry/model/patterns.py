"""Names and shell-style patterns of dataset types and collections."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from fnmatch import fnmatchcase
from typing import TypeVar

T = TypeVar("T")


def is_glob(name: str) -> bool:
    """Whether a name is a shell-style pattern."""
    return any(char in name for char in "*?[")


def matching(patterns: Sequence[str], known: Mapping[str, T], get: Callable[[str], T]) -> list[T]:
    """Give things by names or patterns, each once, in the order of the patterns.

    Parameters
    ----------
    patterns : sequence of str
        Names and patterns.
    known : Mapping
        All of them by name.
    get : callable
        Gives the one of a name, or raises.
    """
    found: dict[str, T] = {}
    for pattern in patterns:
        if is_glob(pattern):
            found.update(
                (name, thing) for name, thing in known.items() if name not in found and fnmatchcase(name, pattern)
            )
        elif pattern not in found:
            found[pattern] = get(pattern)
    return list(found.values())


def matching_types(patterns: Sequence[str], known: Mapping[str, T], get: Callable[[str], T]) -> list[T]:
    """Give dataset types as `matching` does.

    Components of composites, such as ``calexp.psf``, match only patterns with a dot.
    """
    dotted = [pattern for pattern in patterns if not is_glob(pattern) or "." in pattern]
    shown = {id(one) for one in matching(dotted, known, get)}
    names = {id(one): name for name, one in known.items()}
    return [one for one in matching(patterns, known, get) if "." not in names[id(one)] or id(one) in shown]


def similar(name: str, known: Iterable[str]) -> str:
    """Say which known names are like one, for a hint; empty if none are."""
    import difflib

    close = difflib.get_close_matches(name, list(known)[:10_000], n=5)
    return f"similar: {', '.join(close)}" if close else ""
