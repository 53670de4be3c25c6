"""A registry that goes, with all that it holds."""

from __future__ import annotations

import json
import os
from contextlib import suppress

import sqlalchemy as sa

from pantry.daemon.registry.attributes import read_attributes
from pantry.daemon.registry.engine import Database, Session
from pantry.daemon.registry.provenance_tables import ProvenanceTables
from pantry.daemon.registry.schema import Schema
from pantry.errors import BackendError, ConflictError, RepositoryNotFoundError
from pantry.model.dimensions import DimensionUniverse


def drop_registry(url: str, uuid: str) -> None:
    """Drop the registry of a repository that has this uuid; no error if there is none. Nobody may have it open.

    Raises
    ------
    ConflictError
        Views or tables of others use its tables, which then stay.
    """
    parsed = sa.make_url(url)
    is_file = parsed.get_backend_name() == "sqlite"
    if is_file and not os.path.exists(parsed.database or ""):
        return
    database, is_ours = Database(url), False
    try:
        with suppress(RepositoryNotFoundError):
            attributes = read_attributes(database)
            is_ours = attributes["uuid"] == uuid
            if is_ours and not is_file:
                _drop_tables(database, attributes["universe"])
    finally:
        database.close()
    if is_file and is_ours:
        _unlink(parsed.database or "")


def require_droppable(database: Database) -> None:
    """Raise `ConflictError` if views or tables that are not the registry's use its tables."""
    if not database.is_sqlite:
        with database.reading() as session:
            _refuse_dependents(session, _own_tables(session, read_attributes(database)["universe"]))


def _own_tables(session: Session, universe: str) -> list[str]:
    """Names of the registry's tables that exist; others may lie beside them, and stay."""
    database, schema = session.database, Schema(DimensionUniverse(json.loads(universe)))
    names = [table.name for table in (*schema.fixed, *ProvenanceTables().all)]
    groups = session.rows(database.compile(sa.select(schema.group.c.id)))
    names += [f"data_id_{number}" for (number,) in groups]
    if database.has_table(session, schema.metadata_entry.name):
        names.append(schema.metadata_entry.name)
        declaring = sa.select(schema.metadata_entry.c.dataset_type_id).distinct()
        names += [f"metadata_{number}" for (number,) in session.rows(database.compile(declaring))]
    tables = sa.table("pg_tables", sa.column("schemaname"), sa.column("tablename"))
    every = sa.select(tables.c.tablename).where(tables.c.schemaname == sa.func.current_schema())
    there = {str(name) for (name,) in session.rows(database.compile(every))}
    return [name for name in names if name in there]


_DEPENDENTS = """
SELECT DISTINCT other.oid::regclass::text
FROM pg_class own
JOIN pg_depend link ON link.refclassid = 'pg_class'::regclass AND link.refobjid = own.oid
LEFT JOIN pg_rewrite rule ON link.classid = 'pg_rewrite'::regclass AND rule.oid = link.objid
LEFT JOIN pg_constraint key ON link.classid = 'pg_constraint'::regclass AND key.oid = link.objid AND key.contype = 'f'
JOIN pg_class other ON other.oid = coalesce(rule.ev_class, key.conrelid)
WHERE own.relnamespace = current_schema()::regnamespace AND own.relname::text = ANY(%s)
  AND NOT (other.relnamespace = own.relnamespace AND other.relname::text = ANY(%s))
ORDER BY 1
"""
"""Views of tables, and tables with foreign keys to them, that are not among these themselves."""


def _refuse_dependents(session: Session, names: list[str]) -> None:
    found = [str(name) for (name,) in session.rows_sql(_DEPENDENTS, (names, names))]
    if found:
        raise ConflictError(
            f"views or tables that are not the registry's use its tables: {', '.join(found)}",
            hint="drop them, or move them away, and go on; nothing of theirs was changed",
        )


def _drop_tables(database: Database, universe: str) -> None:
    quote = database.dialect.identifier_preparer.quote
    with database.writing() as session:
        names = _own_tables(session, universe)
        _refuse_dependents(session, names)
        row = session.row(database.compile(sa.select(sa.func.current_schema())))
        assert row is not None  # noqa: S101 - a SELECT without FROM
        # Together, since they refer to one another; and nothing else goes with them.
        session.run_sql(f"DROP TABLE {', '.join(f'{quote(row[0])}.{quote(name)}' for name in names)}")


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
