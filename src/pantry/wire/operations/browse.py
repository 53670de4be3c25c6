"""Operations that the mounted view needs."""

from __future__ import annotations

from uuid import UUID

import msgspec

from pantry.model.data_id import DataIdValue
from pantry.wire.operations.base import StreamOperation


class TreeEntry(msgspec.Struct, frozen=True, array_like=True):
    """One name below a dataset type's directory: a directory of a value or time of validity, or a file.

    Attributes
    ----------
    name : str
        As in `pantry.model.naming`.
    value : int, str or None
        For a directory, the value of the next dimension; for a file, that of the last one.
    id : uuid.UUID or None
        For a file, the dataset.
    size_bytes : int
        For a file, its length.
    modified_ns : int
        For a file, when the dataset was stored, nanoseconds since 1970-01-01 UTC.
    hash : str
        For a file, xxh3-128 of its content.
    repository : str
        For a file in a chain of repositories, that which has it.
    """

    name: str
    value: DataIdValue | None = None
    id: UUID | None = None
    size_bytes: int = 0
    modified_ns: int = 0
    hash: str = ""
    repository: str = ""


class TreeBatch(msgspec.Struct, frozen=True, array_like=True):
    """A batch of entries; ``level`` is the dimension of directories, ``timespan``, or empty for files."""

    level: str
    entries: list[TreeEntry]


class ListTree(StreamOperation[TreeBatch], frozen=True, kw_only=True, omit_defaults=True, tag="tree.list"):
    """List one directory of the mounted view below ``<collection>/<dataset type>``.

    Attributes
    ----------
    repository, collection, dataset_type : str
        Which directory tree; chains are searched first to last.
    parts : tuple of str
        Names of the directories gone down so far: of values, then in a CALIBRATION collection one of a time of
        validity.
    name : str
        Only this entry, for a look-up; empty for all.
    """

    result_type = TreeBatch
    repository: str
    collection: str
    dataset_type: str
    parts: tuple[str, ...] = ()
    name: str = ""
