"""What is recorded of the files of many datasets, asked for in batches."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import islice
from typing import NamedTuple

from pantry.client.butler.access import RepositoryAccess
from pantry.errors import DatasetNotFoundError, ProtocolError
from pantry.model.datasets import DatasetRef, StoredFile
from pantry.model.metadata import MetadataValue
from pantry.wire.operations import DescribeFiles, FileTable

BATCH = 2_000
"""Datasets of one request."""


class DescribedFile(NamedTuple):
    """A dataset and its file.

    Attributes
    ----------
    ref : DatasetRef
        The dataset.
    repository : str
        Which has it.
    file : StoredFile
        What is recorded of its file.
    name : str
        The file's path in the mount below the repository, and below a stage directory.
    metadata : dict
        Declared values by entry.
    """

    ref: DatasetRef
    repository: str
    file: StoredFile
    name: str
    metadata: dict[str, MetadataValue]


def describe_files(butler: RepositoryAccess, refs: Iterable[DatasetRef]) -> Iterator[list[DescribedFile]]:
    """Describe the files of datasets, in their order, in batches of at most `BATCH`.

    Raises
    ------
    DatasetNotFoundError
        One of them is not there any more, or is registered without a file.
    """
    return describe_held(butler, ((ref, butler._holder(ref)) for ref in refs))


def describe_held(butler: RepositoryAccess, held: Iterable[tuple[DatasetRef, str]]) -> Iterator[list[DescribedFile]]:
    """Describe files as `describe_files` does, of datasets with the repositories that have them."""
    given = iter(held)
    while batch := list(islice(given, BATCH)):
        found: list[DescribedFile | None] = [None] * len(batch)
        groups: dict[tuple[str, str], list[int]] = {}
        for number, (ref, repository) in enumerate(batch):
            groups.setdefault((repository, ref.dataset_type.name), []).append(number)
        for (repository, dataset_type), numbers in groups.items():
            # A dataset may be named twice.
            distinct = dict.fromkeys(batch[number][0].id for number in numbers)
            operation = DescribeFiles(
                repository=repository, dataset_type=dataset_type, ids=b"".join(one.bytes for one in distinct)
            )
            table = butler.connection.call(operation)
            rows = dict(zip(distinct, _rows(table, len(distinct)), strict=True))
            for number in numbers:
                ref = batch[number][0]
                file, name, metadata = rows[ref.id]
                if not file.path:
                    raise DatasetNotFoundError(
                        f"{ref} is registered without a file",
                        hint="import it again from where its file is, or leave it out",
                    )
                found[number] = DescribedFile(ref, repository, file, name, metadata)
        yield [one for one in found if one is not None]


def _rows(table: FileTable, count: int) -> Iterator[tuple[StoredFile, str, dict[str, MetadataValue]]]:
    columns = (table.paths, table.sizes, table.hashes, table.formatters, table.ingest_ns, table.names)
    lengths = {*map(len, columns), *map(len, table.metadata.values())}  # type: ignore[arg-type]
    if lengths != {count}:
        raise ProtocolError("a table of files has columns of different lengths")
    for number, (path, size_bytes, digest, formatter, ingest_ns, name) in enumerate(zip(*columns, strict=True)):
        file = StoredFile(path=path, size_bytes=size_bytes, hash=digest, formatter=formatter, ingest_ns=ingest_ns)
        yield file, name, {entry: column[number] for entry, column in table.metadata.items()}
