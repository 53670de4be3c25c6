"""Dataset types and the dimension groups that their data ids are of."""

from __future__ import annotations

import json

import sqlalchemy as sa

from pantry.daemon.registry.definitions import DATASET_TYPES, DefinitionsCache, KnownType
from pantry.daemon.registry.engine import Database, Session, parameter
from pantry.daemon.registry.placing import Placing
from pantry.daemon.registry.schema import Schema
from pantry.errors import ConflictingDefinitionError, DatasetTypeError
from pantry.model.datasets import DatasetType
from pantry.model.formats import Formats, defined_storage_class


class DatasetTypes:
    """Writes the definitions of dataset types.

    Parameters
    ----------
    database, schema
        Where they are.
    definitions : DefinitionsCache
        Told of every change.
    placing : Placing
        Asked whether the paths of a new type's datasets are their own.
    """

    def __init__(self, database: Database, schema: Schema, definitions: DefinitionsCache, placing: Placing) -> None:
        self._database = database
        self._schema = schema
        self._definitions = definitions
        self._placing = placing
        self.formats: tuple[Formats, ...] = ()
        group, kind = schema.group, schema.dataset_type
        self._find_group = database.compile(
            sa.select(group.c.id).where(group.c.names == parameter("group_names", sa.Text))
        )
        self._add_group = database.compile(sa.insert(group).values(names=parameter("group_names", sa.Text)))
        self._add_type = database.compile(
            sa.insert(kind).values(
                name=parameter("new_name", sa.String),
                group_id=parameter("new_group", sa.BigInteger),
                storage_class=parameter("new_class", sa.String),
                is_calibration=parameter("new_calibration", sa.Boolean),
            )
        )

    def complete(self, dataset_type: DatasetType) -> DatasetType:
        """Check a definition and give it with all dimensions that follow from those given."""
        if "." in (dataset_type.component or ""):
            raise DatasetTypeError(
                f"{dataset_type.name!r} names a component of a component, and those are not stored",
                hint=f"register {dataset_type.parent_name!r}",
            )
        defined_storage_class(dataset_type.storage_class, self.formats)
        members = set(self._schema.universe.group(dataset_type.dimensions).names)
        return DatasetType(
            name=dataset_type.name,
            dimensions=tuple(name for name in self._schema.universe.elements if name in members),
            storage_class=dataset_type.storage_class,
            is_calibration=dataset_type.is_calibration,
            metadata=dataset_type.metadata,
        )

    def register(self, session: Session, dataset_type: DatasetType) -> tuple[KnownType, bool]:
        """Register a complete definition unless it is known; also say whether it is new."""
        known = self._definitions.current(session).types.get(dataset_type.name)
        if known is not None:
            if known.definition != dataset_type:
                raise ConflictingDefinitionError(
                    f"the dataset type {dataset_type.name!r} is already defined differently: "
                    + _differences(known.definition, dataset_type),
                    name=dataset_type.name,
                )
            return known, False
        if dataset_type.component is not None:
            self._check_parent(session, dataset_type)
        session.run(
            self._add_type,
            {
                "new_name": dataset_type.name,
                "new_group": self._group_id(session, dataset_type.dimensions),
                "new_class": dataset_type.storage_class,
                "new_calibration": dataset_type.is_calibration,
            },
        )
        self._definitions.changed(session, DATASET_TYPES)
        known = self._definitions.current(session).types[dataset_type.name]
        if dataset_type.metadata:
            self._declare(session, known.id, dataset_type)
            self._definitions.changed(session, DATASET_TYPES)
            known = self._definitions.current(session).types[dataset_type.name]
        # Only here: another daemon's registration is waited for by `changed`, and seen from then on.
        self._placing.admit(known, self._definitions.current(session).types.values())
        return known, True

    def _check_parent(self, session: Session, dataset_type: DatasetType) -> None:
        """Refuse a component, stored by itself, of what is not registered or is about something else."""
        parent = self._definitions.current(session).types.get(dataset_type.parent_name)
        if parent is None:
            raise DatasetTypeError(
                f"{dataset_type.name!r} is a component of {dataset_type.parent_name!r}, which is not registered",
                hint=f"register {dataset_type.parent_name!r} first",
            )
        if parent.definition.dimensions != dataset_type.dimensions:
            raise DatasetTypeError(
                f"{dataset_type.name!r} has other dimensions than {dataset_type.parent_name!r}",
                hint=f"those of a component are {', '.join(parent.definition.dimensions)}",
            )

    def _declare(self, session: Session, type_id: int, dataset_type: DatasetType) -> None:
        table = self._schema.metadata_entry
        if not self._database.has_table(session, table.name):
            session.create(table)
        session.run_many(
            self._database.prepare_insert(table),
            [
                (type_id, number, entry.name, entry.type, entry.key, entry.unit, entry.doc)
                for number, entry in enumerate(dataset_type.metadata)
            ],
        )
        session.create(self._schema.declared(type_id, dataset_type))

    def _group_id(self, session: Session, dimensions: tuple[str, ...]) -> int:
        values = {"group_names": json.dumps(dimensions)}
        row = session.row(self._find_group, values)
        if row is None:
            session.run(self._add_group, values)
            row = session.row(self._find_group, values)
            assert row is not None  # noqa: S101 - inserted one line above
            session.create(self._schema.data_ids(row[0], self._schema.universe.group(dimensions)))
        return int(row[0])


def _differences(known: DatasetType, other: DatasetType) -> str:
    pairs = [(name, getattr(known, name), getattr(other, name)) for name in DatasetType.__struct_fields__]
    return "; ".join(f"{name} is {was!r}, not {now!r}" for name, was, now in pairs if was != now)
