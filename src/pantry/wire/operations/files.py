"""What is recorded of many datasets and their files, for staging and bundles."""

from __future__ import annotations

import msgspec

from pantry.model.metadata import MetadataValue
from pantry.wire.operations.base import Operation

MAX_DESCRIBED = 5_000
"""Most datasets of one `DescribeFiles` or `DescribeMembers`."""


class FileTable(msgspec.Struct, frozen=True, array_like=True):
    """Files of datasets of one type, by columns, in the order in which they were asked for.

    Attributes
    ----------
    paths, sizes, hashes, formatters, ingest_ns : list
        As of `StoredFile`; an empty path for a dataset that is registered without a file.
    names : list of str
        As of `Opened.name`; empty without a file.
    metadata : dict of str to list
        For each entry that the dataset type declares a value for each dataset.
    """

    paths: list[str]
    sizes: list[int]
    hashes: list[str]
    formatters: list[str]
    ingest_ns: list[int]
    names: list[str]
    metadata: dict[str, list[MetadataValue]] = {}


class DescribeFiles(Operation[FileTable], frozen=True, kw_only=True, tag="dataset.files"):
    """Give what is recorded of the files of datasets; no file is touched.

    A dataset that is not there, or is of another type, is a `DatasetNotFoundError`.

    Attributes
    ----------
    repository, dataset_type : str
        Where and of what.
    ids : bytes
        16 bytes of dataset id each, each once, at most `MAX_DESCRIBED`.
    """

    result_type = FileTable
    repository: str
    dataset_type: str
    ids: bytes


class MemberTable(msgspec.Struct, frozen=True, array_like=True):
    """Which datasets are in which collections, by columns; a calibration may be there for several times.

    Attributes
    ----------
    datasets, collections : list of int
        Positions in what was asked for.
    begin_ns, end_ns : list of int or None
        Time of validity in a CALIBRATION collection; else None.
    """

    datasets: list[int]
    collections: list[int]
    begin_ns: list[int | None]
    end_ns: list[int | None]


class DescribeMembers(Operation[MemberTable], frozen=True, kw_only=True, tag="dataset.members"):
    """Tell which of some datasets are in which of some TAGGED and CALIBRATION collections.

    Attributes
    ----------
    repository, dataset_type : str
        Where and of what.
    ids : bytes
        As of `DescribeFiles`; those that are not there are in no collection.
    collections : tuple of str
        Names of TAGGED and CALIBRATION collections.
    """

    result_type = MemberTable
    repository: str
    dataset_type: str
    ids: bytes
    collections: tuple[str, ...]
