"""The stored file of a dataset, between the registry's columns and `StoredFile`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from uuid import UUID

import sqlalchemy as sa

from pantry.daemon.registry.definitions import KnownType
from pantry.daemon.registry.references import reference_in
from pantry.errors import InvalidRequestError
from pantry.model import naming
from pantry.model.data_id import DataIdValue
from pantry.model.datasets import StoredFile
from pantry.model.remote_files import remote_file

FILE_COLUMNS = ("size_bytes", "hash", "formatter", "path", "ingest_ns")
"""Columns of the table ``dataset`` that describe the file."""


def file_columns(table: sa.Table) -> list[sa.Column[Any]]:
    """Columns that `make_file` takes."""
    return [table.c[name] for name in FILE_COLUMNS]


def make_file(row: Sequence[Any]) -> StoredFile:
    """Make a description from the values of `FILE_COLUMNS`."""
    size_bytes, digest, formatter, path, ingest_ns = row
    return StoredFile(
        path=path, size_bytes=size_bytes, hash=digest.hex() if digest else "", formatter=formatter, ingest_ns=ingest_ns
    )


def file_values(file: StoredFile) -> tuple[Any, ...]:
    """Values of `FILE_COLUMNS` for a description."""
    if not file.path:
        # A dataset whose file has not come yet: there is nothing to hash.
        return 0, b"", "", "", file.ingest_ns
    if not file.hash and (reference_in(file.path) is not None or remote_file(file.path) is not None):
        # Nor has anybody hashed it where it is; of one in another archive the version is known, which is in the path.
        return file.size_bytes, b"", file.formatter, file.path, file.ingest_ns
    try:
        digest = bytes.fromhex(file.hash)
    except ValueError:
        digest = b""
    if len(digest) != 16:
        raise InvalidRequestError(f"{file.path!r}: a file's hash has 32 hex digits, not {file.hash[:80]!r}")
    return file.size_bytes, digest, file.formatter, file.path, file.ingest_ns


def in_path_order(known: KnownType, required: Sequence[DataIdValue]) -> tuple[DataIdValue, ...]:
    """Put values of the required dimensions in the order of directories."""
    by_name = dict(zip(known.group.required, required, strict=True))
    return tuple(by_name[name] for name in known.path_order)


def shown_name(known: KnownType, ordered: Sequence[DataIdValue], stored_path: str) -> str:
    """Name of a dataset's file in the mount, a stage directory and an export.

    Parameters
    ----------
    known : KnownType
        Its type.
    ordered : sequence of int or str
        Values of its required dimensions, in the order of directories.
    stored_path : str
        Where its file is stored.
    """
    parts = [naming.quote_value(value) for value in ordered]
    directories = "/".join(["", known.definition.name, *parts[:-1], ""])
    stems = ["_".join([known.definition.name, *parts])]
    if ordered and isinstance(ordered[-1], str):
        plain = stems[0].removesuffix(parts[-1]) + parts[-1].replace(".", "%2E")
        stems += [plain, plain + "%"]
    # `naming.extension_of` alone cannot tell a suffix from a value with a dot in it ("r.MP9601"), so
    # the suffix is what follows the stem if Pantry made the path.
    for stem in stems:
        _, made, suffix = stored_path.rpartition(directories + stem)
        if made and "/" not in suffix and (not suffix or suffix[0] == "."):
            return stem + suffix
    return naming.file_name(known.definition.name, ordered, naming.extension_of(stored_path))


def uuid_bytes(value: UUID | bytes) -> bytes:
    """Give the 16 bytes of a dataset id."""
    raw = value.bytes if isinstance(value, UUID) else value
    if len(raw) != 16:
        raise InvalidRequestError(f"a dataset id has 16 bytes, not {len(raw)}")
    return raw
