"""Collections: named sets of datasets."""

from __future__ import annotations

import re
from enum import StrEnum

import msgspec

from pantry.errors import InvalidRequestError

MAX_COLLECTION_NAME = 255
_PART = re.compile(r"[A-Za-z0-9_+@=,~-][A-Za-z0-9_.+@=,~:-]*\Z")


class CollectionType(StrEnum):
    """The kinds of collections, with Gen3's names."""

    RUN = "RUN"
    TAGGED = "TAGGED"
    CHAINED = "CHAINED"
    CALIBRATION = "CALIBRATION"


class CollectionInfo(msgspec.Struct, frozen=True, kw_only=True):
    """One collection.

    Attributes
    ----------
    name : str
        Unique in its repository; slashes give a hierarchy.
    type : CollectionType
        RUN holds, TAGGED selects, CHAINED searches others in order, CALIBRATION adds validity.
    doc : str
        For people.
    children : tuple of str
        Of a CHAINED collection, in search order; else empty.
    dataset_types : tuple of str
        Names of the dataset types with members; only filled in when asked for.
    repository : str
        Of a chain of repositories, that which it is in; else empty.
    """

    name: str
    type: CollectionType
    doc: str = ""
    children: tuple[str, ...] = ()
    dataset_types: tuple[str, ...] = ()
    repository: str = ""

    def _repr_html_(self) -> str:
        from pantry.model.html import fields

        shown = {"type": self.type.value, "doc": self.doc, "children": ", ".join(self.children)}
        shown |= {"dataset types": ", ".join(self.dataset_types), "repository": self.repository}
        return fields({name: value for name, value in shown.items() if value}, self.name)


def check_collection_name(name: str) -> str:
    """Return ``name`` if it can name a collection and be a path in the mount, else raise."""
    if len(name) > MAX_COLLECTION_NAME or not all(_PART.match(part) for part in name.split("/")):
        raise InvalidRequestError(
            f"bad collection name {name[:80]!r}",
            hint="use letters, digits and any of _ + @ = , ~ - . : in parts separated by '/'; no part begins with '.'",
        )
    return name
