"""Values of the metadata that dataset types declare (docs/decisions/0024-declared-metadata.md)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any
from uuid import UUID

import sqlalchemy as sa

from pantry.daemon.registry.definitions import Definitions, DefinitionsCache, KnownType
from pantry.daemon.registry.engine import Database, Session, parameter
from pantry.daemon.registry.schema import Schema
from pantry.errors import DatasetNotFoundError, InvalidQueryError, InvalidRequestError
from pantry.model.metadata import MetadataValue, check_columns

Columns = Mapping[str, Sequence[MetadataValue]]
"""For each entry's name a value for each dataset."""


class DeclaredMetadata:
    """Writes and reads declared metadata.

    Parameters
    ----------
    database, schema
        Where they are.
    written : DefinitionsCache
        The writer's own.
    """

    def __init__(self, database: Database, schema: Schema, written: DefinitionsCache) -> None:
        self._database = database
        self._schema = schema
        self._written = written

    def insert(self, session: Session, known: KnownType, keys: Sequence[int], columns: Columns) -> None:
        """Store the checked values of new datasets, by their primary keys."""
        if not known.definition.metadata:
            return
        absent = [None] * len(keys)
        table = self._schema.declared(known.id, known.definition)
        values = [columns.get(entry.name, absent) for entry in known.definition.metadata]
        session.run_many(self._database.prepare_insert(table), list(zip(keys, *values, strict=True)))

    def record(self, session: Session, dataset_type: str, ids: Sequence[bytes], columns: Columns) -> int:
        """Store values of datasets that exist, in place of what was there; all or none."""
        known = self._written.current(session).dataset_type(dataset_type)
        if not known.definition.metadata:
            raise InvalidRequestError(f"the dataset type {dataset_type!r} declares no metadata")
        if len(set(ids)) < len(ids):
            raise InvalidRequestError("a dataset is given twice")
        checked = check_columns(known.definition.metadata, columns, [str(UUID(bytes=one)) for one in ids])
        dataset, table = self._schema.dataset, self._schema.declared(known.id, known.definition)
        staged = self._schema.staged_ids
        session.create_temporary(staged)
        session.run_many(self._database.prepare_insert(staged), list(enumerate(ids)))
        statement = self._database.prepare(
            ("described", known.id),
            lambda: (
                sa.select(dataset.c.id)
                .join_from(staged, dataset, dataset.c.uuid == staged.c.uuid)
                .where(dataset.c.dataset_type_id == parameter("kind", sa.BigInteger))
                .order_by(staged.c.position)
            ),
        )
        keys = [row[0] for row in session.rows(statement, {"kind": known.id})]
        if len(keys) < len(ids):
            raise DatasetNotFoundError(
                f"{len(ids) - len(keys)} of {len(ids)} datasets are not there, or are no {dataset_type}",
                hint="nothing was recorded",
            )
        old = sa.delete(table).where(
            table.c.dataset_id.in_(sa.select(dataset.c.id).join_from(staged, dataset, dataset.c.uuid == staged.c.uuid))
        )
        session.run(self._database.prepare(("delete described", table), lambda: old))
        self.insert(session, known, keys, checked)
        return len(keys)


def values_of(
    database: Database, schema: Schema, session: Session, definitions: Definitions, id_: UUID
) -> dict[str, MetadataValue]:
    """Read the values of one dataset; `DatasetNotFoundError` if there is none."""
    dataset = schema.dataset
    find = database.prepare(
        "type of dataset",
        lambda: sa.select(dataset.c.id, dataset.c.dataset_type_id).where(
            dataset.c.uuid == parameter("id", sa.LargeBinary)
        ),
    )
    row = session.row(find, {"id": id_.bytes})
    if row is None:
        raise DatasetNotFoundError(f"there is no dataset {id_}")
    known = definitions.types_by_id[row[1]]
    entries = known.definition.metadata
    if not entries:
        raise no_entries(known)
    table = schema.declared(known.id, known.definition)
    read = database.prepare(
        ("described one", table),
        lambda: sa.select(*[table.c[entry.name] for entry in entries]).where(
            table.c.dataset_id == parameter("key", sa.BigInteger)
        ),
    )
    values: Sequence[Any] = session.row(read, {"key": row[0]}) or [None] * len(entries)
    return {entry.name: as_declared(entry.type, value) for entry, value in zip(entries, values, strict=True)}


def as_declared(kind: str, value: Any) -> MetadataValue:
    """Give a value from the database in the entry's type: SQLite has no booleans."""
    return bool(value) if kind == "bool" and value is not None else value


def no_entries(known: KnownType) -> InvalidQueryError:
    """Make the error for a dataset type without metadata."""
    return InvalidQueryError(
        f"the dataset type {known.definition.name!r} declares no metadata",
        hint="entries are declared when a dataset type is registered",
    )
