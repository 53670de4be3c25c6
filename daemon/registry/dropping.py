"""A registry that goes, with all that it holds."""

from __future__ import annotations

import os
import re
from contextlib import suppress

import sqlalchemy as sa

from pantry.daemon.registry.attributes import read_attributes
from pantry.daemon.registry.engine import Database
from pantry.errors import BackendError, RepositoryNotFoundError

_OURS = re.compile(
    r"repository_attributes|revision|collection|collection_chain|collection_summary|data_id_group|dataset_type|dataset"
    r"|membership|calibration|file_mark|removed_file|metadata_entry|provenance_dataset|quantum|quantum_input"
    r"|quantum_output|dimension_[a-z0-9_]+|sky_overlap_[a-z0-9_]+|data_id_\d+|metadata_\d+"
)
"""Names of a registry's tables; an operator's may lie beside them, and stay."""


def drop_registry(url: str, uuid: str) -> None:
    """Drop the registry of a repository that has this uuid; no error if there is none. Nobody may have it open."""
    parsed = sa.make_url(url)
    is_file = parsed.get_backend_name() == "sqlite"
    if is_file and not os.path.exists(parsed.database or ""):
        return
    database = Database(url)
    try:
        with suppress(RepositoryNotFoundError):
            if read_attributes(database)["uuid"] == uuid and not is_file:
                _drop_tables(database)
            is_file = is_file and read_attributes(database)["uuid"] == uuid
    finally:
        database.close()
    if is_file:
        _unlink(parsed.database or "")


def _drop_tables(database: Database) -> None:
    tables = sa.table("pg_tables", sa.column("schemaname"), sa.column("tablename"))
    every = sa.select(tables.c.tablename).where(tables.c.schemaname == sa.func.current_schema())
    with database.writing() as session:
        names = [str(name) for (name,) in session.rows(database.compile(every))]
        quote = database.dialect.identifier_preparer.quote
        for name in filter(_OURS.fullmatch, names):
            session.run_sql(f"DROP TABLE IF EXISTS {quote(name)} CASCADE")


def _unlink(path: str) -> None:
    # The file itself last: without it, the others would be those of nobody.
    for suffix in ("-wal", "-shm", "-journal", ""):
        try:
            os.unlink(path + suffix)
        except FileNotFoundError:
            continue
        except OSError as exc:
            raise BackendError(f"{path}{suffix} cannot be removed: {exc.strerror}", hint="remove it") from None
    if os.path.basename(os.path.dirname(path)) == ".pantry":
        with suppress(OSError):
            os.rmdir(os.path.dirname(path))
