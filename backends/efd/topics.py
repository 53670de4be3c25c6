"""What an EFD has: topics and their fields, and which of them a query names."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Sequence
from typing import Literal

import msgspec

from pantry.errors import InvalidQueryError

FieldType = Literal["float", "int", "string", "bool"]

_ELEMENT = re.compile(r"(.*?)([0-9]+)\Z", re.DOTALL)
_NUMBER = re.compile(r"[0-9]+")
_NEAR = 5
_SHOWN = 200
"""Characters of a name that messages show."""


class Field(msgspec.Struct, frozen=True, kw_only=True):
    """One field of a topic.

    Attributes
    ----------
    name : str
        Such as ``temperatureItem0``.
    type : str
        ``float`` (64 bits), ``int`` (64 bits), ``string`` or ``bool``.
    unit, description : str
        Empty if not known.
    """

    name: str
    type: FieldType
    unit: str = ""
    description: str = ""


class Topic(msgspec.Struct, frozen=True, kw_only=True):
    """One topic.

    Attributes
    ----------
    name : str
        Such as ``lsst.sal.ESS.temperature``.
    fields : tuple of Field
        In the order of `natural`.
    tags : tuple of str
        Names of tags, which InfluxDB keeps as text beside the fields.
    description : str
        Empty if not known.
    """

    name: str
    fields: tuple[Field, ...]
    tags: tuple[str, ...] = ()
    description: str = ""

    def field(self, name: str) -> Field | None:
        """Return a field by its name, if there is one."""
        return next((one for one in self.fields if one.name == name), None)


def natural(name: str) -> tuple[str, int, str]:
    """Sort elements of arrays by their number: ``item2`` before ``item10``."""
    match = _ELEMENT.match(name)
    return (name, -1, "") if match is None else (match[1], int(match[2][:18]), match[2])


def chosen_fields(topic: Topic, wanted: Sequence[str]) -> list[Field]:
    """Choose the fields that a query names, in the order of their names there; all if it names none.

    Raises
    ------
    InvalidQueryError
        If the topic has no such field, with names that are near.
    """
    if not wanted:
        return list(topic.fields)
    found: dict[str, Field] = {}
    for name in wanted:
        matching = _elements(topic, name[:-1]) if name.endswith("*") else [topic.field(name)]
        if not matching or matching[0] is None:
            raise InvalidQueryError(
                f"the topic {topic.name!r} has no field {name[:_SHOWN]!r}", hint=_hint(name, topic), topic=topic.name
            )
        found.update((one.name, one) for one in matching if one is not None)
    return list(found.values())


def _elements(topic: Topic, base: str) -> list[Field]:
    found = [one for one in topic.fields if one.name.startswith(base)]
    return [one for one in found if _NUMBER.fullmatch(one.name, len(base))]


def _hint(name: str, topic: Topic) -> str:
    base = name.rstrip("*")
    if elements := _elements(topic, base):
        return f"it is an array of {len(elements)} elements: {base}* means all of them"
    near = near_names(base, [one.name for one in topic.fields])
    return f"did you mean {', '.join(near)}?" if near else f"it has {_some([one.name for one in topic.fields])}"


def missing_topic(name: str, known: Iterable[str], location: str) -> InvalidQueryError:
    """Make the error for a topic that is not there."""
    names = list(known)
    near = near_names(name, names)
    if near:
        hint = f"did you mean {', '.join(near)}?"
    else:
        hint = f"it has {_some(names)}" if names else "it has no topics at all"
    return InvalidQueryError(f"{location} has no topic {name[:_SHOWN]!r}", hint=hint, topic=name[:_SHOWN])


def near_names(name: str, known: Sequence[str]) -> list[str]:
    """Return up to five names like ``name``: by their last part first, as people leave out the common beginning."""
    lower = name[:_SHOWN].lower()
    tail = lower.rsplit(".", 1)[-1]
    inside = [one for one in known if tail and tail in one.lower()]
    folded = {one.lower(): one for one in known}
    like = difflib.get_close_matches(lower, list(folded)[:20_000], n=_NEAR, cutoff=0.6)
    ordered = dict.fromkeys([*(folded[one] for one in like), *sorted(inside, key=lambda one: (len(one), one))])
    return list(ordered)[:_NEAR]


def _some(names: Sequence[str]) -> str:
    shown = ", ".join(names[:8])
    return shown if len(names) <= 8 else f"{shown} and {len(names) - 8} others"
