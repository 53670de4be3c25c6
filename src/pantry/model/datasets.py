"""Dataset types, references to datasets, and what is recorded of their stored files."""

from __future__ import annotations

import re
from uuid import UUID

import msgspec

from pantry.errors import DatasetTypeError
from pantry.model.data_id import DataCoordinate
from pantry.model.metadata import MAX_ENTRIES, MetadataEntry

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*(\.[A-Za-z_][A-Za-z0-9_]*)*\Z")
MAX_DATASET_TYPE_NAME = 128


class DatasetType(msgspec.Struct, frozen=True, kw_only=True):
    """A named kind of dataset with its dimensions and its storage class.

    Attributes
    ----------
    name : str
        Letters, digits and underscores; a dot separates a component from its parent.
    dimensions : tuple of str
        The dimensions that identify a dataset of this type: after registration the complete
        group in the order of the universe, before it any set that implies the rest.
    storage_class : str
        Name of the `pantry.model.storage.StorageClass`.
    is_calibration : bool
        Whether datasets may be certified into CALIBRATION collections.
    metadata : tuple of MetadataEntry
        What is recorded of each dataset's content, so that queries need not open its file.
    """

    name: str
    dimensions: tuple[str, ...]
    storage_class: str
    is_calibration: bool = False
    metadata: tuple[MetadataEntry, ...] = ()

    def __post_init__(self) -> None:
        if not _NAME.match(self.name) or len(self.name) > MAX_DATASET_TYPE_NAME:
            raise DatasetTypeError(
                f"bad dataset type name {self.name[:80]!r}",
                hint="use letters, digits and underscores, beginning with a letter",
            )
        if self.metadata:
            names = [entry.name for entry in self.metadata]
            if len(set(names)) < len(names) or len(names) > MAX_ENTRIES:
                raise DatasetTypeError(f"{self.name}: metadata entries have distinct names, at most {MAX_ENTRIES}")

    def __repr__(self) -> str:
        more = ", is_calibration=True" if self.is_calibration else ""
        return f"DatasetType({self.name!r}, {{{', '.join(self.dimensions)}}}, {self.storage_class}{more})"

    def _repr_html_(self) -> str:
        from pantry.model.html import fields

        entries = (f"{one.name}: {one.type}{f' [{one.unit}]' if one.unit else ''}" for one in self.metadata)
        shown = {"dimensions": ", ".join(self.dimensions), "storage class": self.storage_class}
        shown |= {"calibration": "yes"} if self.is_calibration else {}
        shown |= {"metadata": ", ".join(entries)} if self.metadata else {}
        return fields(shown, self.name)

    @property
    def component(self) -> str | None:
        """The component after the first dot, if the name has one."""
        return self.name.split(".", 1)[1] if "." in self.name else None

    @property
    def parent_name(self) -> str:
        """The name without the component."""
        return self.name.split(".", 1)[0]


class DatasetRef(msgspec.Struct, frozen=True, kw_only=True, eq=False):
    """A reference to one dataset.

    Attributes
    ----------
    id : uuid.UUID
        Globally unique.
    dataset_type : DatasetType
        What kind of dataset.
    data_id : DataCoordinate
        About what.
    run : str
        The RUN collection that holds it.
    repository : str
        The one of a chain of repositories that it was found in; empty if one was asked alone.
    """

    id: UUID
    dataset_type: DatasetType
    data_id: DataCoordinate
    run: str
    repository: str = ""

    def __eq__(self, other: object) -> bool:
        return self.id == other.id if isinstance(other, DatasetRef) else NotImplemented

    def __hash__(self) -> int:
        return hash(self.id)

    def _repr_html_(self) -> str:
        from pantry.model.html import fields

        place = {"repository": self.repository} if self.repository else {}
        return fields({**self.data_id.mapping, **place, "run": self.run, "id": self.id}, self.dataset_type.name)

    def __repr__(self) -> str:
        from_ = f", repository={self.repository!r}" if self.repository else ""
        return f"DatasetRef({self.dataset_type!r}, {self.data_id!r}, run={self.run!r}, id={self.id}{from_})"

    def __str__(self) -> str:
        from_ = f", repository={self.repository!r}" if self.repository else ""
        return f"{self.dataset_type.name}@{self.data_id!r} (run={self.run!r}, id={self.id}{from_})"


class StoredFile(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """What the registry records of a dataset's file (DESIGN section 8).

    Attributes
    ----------
    path : str
        Key in the repository's storage, relative to its root; or of a file in another archive its version and URL,
        see `pantry.model.remote_files`.
    size_bytes : int
        Length of the file.
    hash : str
        xxh3-128 of the content, 32 lower-case hex digits, as ``xxh128sum`` prints it; empty if nobody has
        computed it, as for the files of an attached repository or of another archive.
    formatter : str
        Name of the formatter that reads the file.
    ingest_ns : int
        When the dataset was stored, nanoseconds since 1970-01-01 UTC.
    """

    path: str
    size_bytes: int
    hash: str
    formatter: str
    ingest_ns: int
