"""Metadata that dataset types declare: stored with a dataset, so that nobody opens its file for them."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from typing import Literal

import msgspec

from pantry.errors import DatasetTypeError, InvalidRequestError

MetadataType = Literal["int", "float", "string", "bool"]
MetadataValue = int | float | str | bool | None
"""A value of an entry; None where the file has none."""

MAX_ENTRIES = 64
MAX_STRING = 512
"""Longest text value, in characters: values are indexed."""
_MAX_KEY = 256
_NAME = re.compile(r"[a-z][a-z0-9_]{0,39}\Z")
# Names of a member of every query, or that the tables use.
_RESERVED = {"dataset_id", "timespan", "region", "id"}
_SHORT = re.compile(
    r"\s*(?P<name>[^:=\s]+)\s*:\s*(?P<type>\w+)\s*=\s*(?P<key>[^\[\]#]*[^\[\]#\s])"
    r"\s*(\[(?P<unit>[^\[\]]*)\])?\s*(#\s*(?P<doc>.*?))?\s*\Z"
)


class MetadataEntry(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One entry that a dataset type declares.

    Attributes
    ----------
    name : str
        As expressions write it: lower-case letters, digits and underscores.
    type : str
        ``int``, ``float``, ``string`` or ``bool``.
    key : str
        Under which the file has it: a FITS keyword, a dotted path in JSON and YAML, a key of a table's
        metadata, an HDF5 ``attribute`` or ``path@attribute``.
    unit, doc : str
        For people.
    """

    name: str
    type: MetadataType
    key: str
    unit: str = ""
    doc: str = ""

    def __post_init__(self) -> None:
        if not _NAME.match(self.name) or self.name in _RESERVED:
            raise DatasetTypeError(
                f"bad name of a metadata entry {self.name[:80]!r}",
                hint=f"use up to 40 lower-case letters, digits and underscores, and none of {sorted(_RESERVED)}",
            )
        texts = (self.key, self.unit, self.doc)
        if not self.key or any(len(text) > _MAX_KEY or not text.isprintable() for text in texts):
            raise DatasetTypeError(
                f"the metadata entry {self.name!r} needs a key; key, unit and doc have one line of at most {_MAX_KEY}"
            )

    @classmethod
    def parse(cls, text: str) -> MetadataEntry:
        """Make an entry of ``name:type=KEY [unit] # doc``; unit and doc may be left out."""
        found = _SHORT.match(text)
        if found is None:
            raise DatasetTypeError(
                f"a metadata entry cannot be read: {text[:200]!r}", hint="write 'exptime:float=EXPTIME [s]'"
            )
        given = {name: value for name, value in found.groupdict().items() if value}
        if given["type"] not in ("int", "float", "string", "bool"):
            raise DatasetTypeError(
                f"the metadata entry {given['name']!r} has the unknown type {given['type'][:40]!r}",
                hint="one of int, float, string, bool",
            )
        return cls(**given)  # type: ignore[arg-type]


def check_value(entry: MetadataEntry, value: object, where: str) -> MetadataValue:
    """Give a value as the entry's type, or raise `InvalidRequestError` that names ``where`` and the key."""
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return None
    if entry.type == "bool":
        if isinstance(value, bool):
            return value
    elif entry.type == "string":
        if isinstance(value, str):
            if len(value) > MAX_STRING or "\0" in value:
                raise InvalidRequestError(
                    f"{where}: the text under {entry.key!r} has {len(value)} characters or a NUL",
                    hint=f"the metadata entry {entry.name!r} holds up to {MAX_STRING} characters",
                )
            return value
    elif isinstance(value, int) and not isinstance(value, bool):
        if -(1 << 63) <= value < 1 << 63:
            return float(value) if entry.type == "float" else value
    elif entry.type == "float" and isinstance(value, float):
        return value
    raise InvalidRequestError(
        f"{where}: {entry.key!r} is {_shown(value)}, and the metadata entry {entry.name!r} is of type {entry.type}",
        hint="correct the file, or declare the entry otherwise in another dataset type",
    )


def check_columns(
    entries: Sequence[MetadataEntry], columns: Mapping[str, Sequence[object]], where: Sequence[str]
) -> dict[str, list[MetadataValue]]:
    """Check the values of many datasets, by entry; those of entries that are not given are absent.

    Parameters
    ----------
    entries : sequence of MetadataEntry
        What the dataset type declares.
    columns : Mapping
        For each entry's name a value for each dataset.
    where : sequence of str
        What messages call each dataset.
    """
    known = {entry.name: entry for entry in entries}
    strange = sorted(set(columns) - set(known))
    if strange:
        raise InvalidRequestError(
            f"the dataset type declares no metadata {', '.join(strange)[:200]}", hint=f"it has {_listed(known)}"
        )
    if any(len(values) != len(where) for values in columns.values()):
        raise InvalidRequestError("the columns of metadata do not have one value for each dataset")
    return {
        name: [check_value(known[name], value, place) for value, place in zip(values, where, strict=True)]
        for name, values in columns.items()
    }


def _listed(names: Mapping[str, object]) -> str:
    return ", ".join(names) or "none"


def _shown(value: object) -> str:
    text = repr(value)
    return f"{text if len(text) <= 60 else text[:60] + '...'} ({type(value).__name__})"
