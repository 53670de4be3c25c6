"""Which datasets TAGGED and CALIBRATION collections select."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any
from uuid import UUID

import sqlalchemy as sa

from pantry.daemon.registry.collections import Collections
from pantry.daemon.registry.data_ids import DataIds
from pantry.daemon.registry.definitions import Collection, Definitions, DefinitionsCache
from pantry.daemon.registry.engine import Database, Session, parameter
from pantry.daemon.registry.files import uuid_bytes
from pantry.daemon.registry.schema import Schema
from pantry.daemon.registry.staged import stage_ids
from pantry.errors import CollectionTypeError, ConflictError, DatasetNotFoundError, DatasetTypeError
from pantry.model.collections import CollectionType
from pantry.model.timespan import Timespan


class Tagging:
    """Writes the members of TAGGED and CALIBRATION collections.

    Parameters
    ----------
    database, schema
        Where they are.
    definitions : DefinitionsCache
        The writer's own.
    collections : Collections
        Told what they hold.
    data_ids : DataIds
        Resolves data ids.
    """

    def __init__(
        self,
        database: Database,
        schema: Schema,
        definitions: DefinitionsCache,
        collections: Collections,
        data_ids: DataIds,
    ) -> None:
        self._database = database
        self._schema = schema
        self._definitions = definitions
        self._collections = collections
        self._data_ids = data_ids

    def associate(self, session: Session, name: str, ids: Sequence[UUID | bytes]) -> int:
        """Put datasets into a TAGGED collection; see `Registry.associate`."""
        definitions = self._definitions.current(session)
        collection = _of_type(definitions, name, CollectionType.TAGGED)
        found = self._stage(session, ids)
        if len({row[1:3] for row in found}) != len(found):
            raise ConflictError(f"two of the datasets for {name!r} have the same type and data id")
        self._collections.summarize(session, collection, {row[1] for row in found})
        staged, dataset, member = self._schema.staged_ids, self._schema.dataset, self._schema.membership
        session.run(
            self._database.prepare(
                "associate",
                lambda: self._database.insert_replacing(
                    member,
                    ["collection_id", "dataset_type_id", "data_id_id"],
                    ["dataset_id"],
                    sa.select(
                        parameter("holder", sa.BigInteger).label("collection_id"),
                        dataset.c.dataset_type_id,
                        dataset.c.data_id_id,
                        dataset.c.id.label("dataset_id"),
                    )
                    .join_from(staged, dataset, dataset.c.uuid == staged.c.uuid)
                    .where(staged.c.position >= 0),
                ),
            ),
            {"holder": collection.id},
        )
        return len(found)

    def disassociate(self, session: Session, name: str, ids: Sequence[UUID | bytes]) -> int:
        """Take datasets out of a TAGGED collection; see `Registry.disassociate`."""
        collection = _of_type(self._definitions.current(session), name, CollectionType.TAGGED)
        self._stage(session, ids)
        staged, dataset, member = self._schema.staged_ids, self._schema.dataset, self._schema.membership
        keys = sa.select(dataset.c.id).join_from(staged, dataset, dataset.c.uuid == staged.c.uuid)
        return session.run(
            self._database.prepare(
                "disassociate",
                lambda: sa.delete(member).where(
                    member.c.collection_id == parameter("holder", sa.BigInteger), member.c.dataset_id.in_(keys)
                ),
            ),
            {"holder": collection.id},
        )

    def certify(self, session: Session, name: str, ids: Sequence[UUID | bytes], timespan: Timespan) -> int:
        """Make datasets valid for a time; see `Registry.certify`."""
        definitions = self._definitions.current(session)
        collection = _of_type(definitions, name, CollectionType.CALIBRATION)
        if timespan.begin_ns == timespan.end_ns:
            raise ConflictError("an empty timespan makes nothing valid")
        found = self._stage(session, ids)
        for _, type_id, _ in found:
            definition = definitions.types_by_id[type_id].definition
            if not definition.is_calibration:
                raise DatasetTypeError(
                    f"{definition.name} is not a calibration dataset type", hint="register it with is_calibration"
                )
        if len({row[1:3] for row in found}) != len(found):
            raise ConflictError(f"two of the datasets for {name!r} have the same type and data id")
        values = {"holder": collection.id, "begin": timespan.begin_ns, "end": timespan.end_ns}
        staged, dataset, valid = self._schema.staged_ids, self._schema.dataset, self._schema.calibration
        overlapping = session.row(
            self._database.prepare(
                "overlapping",
                lambda: (
                    sa.select(valid.c.dataset_type_id)
                    .join_from(staged, dataset, dataset.c.uuid == staged.c.uuid)
                    .join(
                        valid,
                        sa.and_(
                            valid.c.dataset_type_id == dataset.c.dataset_type_id,
                            valid.c.data_id_id == dataset.c.data_id_id,
                        ),
                    )
                    .where(*_overlaps(valid))
                    .limit(1)
                ),
            ),
            values,
        )
        if overlapping is not None:
            kind = definitions.types_by_id[overlapping[0]].definition
            raise ConflictError(
                f"{name!r} already has a {kind.name} valid in part of this time",
                hint="decertify that time first",
            )
        self._collections.summarize(session, collection, {row[1] for row in found})
        self.add_validity(
            session,
            [
                (collection.id, type_id, data_id, key, timespan.begin_ns, timespan.end_ns)
                for key, type_id, data_id in found
            ],
        )
        return len(found)

    def decertify(
        self,
        session: Session,
        name: str,
        dataset_type: str,
        timespan: Timespan,
        data_ids: Sequence[Mapping[str, object]] | None,
    ) -> int:
        """Make datasets invalid for a time; see `Registry.decertify`."""
        definitions = self._definitions.current(session)
        collection = _of_type(definitions, name, CollectionType.CALIBRATION)
        known = definitions.dataset_type(dataset_type)
        valid = self._schema.calibration
        rows = session.rows(
            self._database.prepare(
                "valid rows",
                lambda: sa.select(*valid.c).where(
                    valid.c.dataset_type_id == parameter("kind", sa.BigInteger), *_overlaps(valid)
                ),
            ),
            {"holder": collection.id, "begin": timespan.begin_ns, "end": timespan.end_ns, "kind": known.id},
        )
        if data_ids is not None:
            table = self._schema.data_ids(known.group_id, known.group)
            # A query only for a data id that leaves a required dimension to be found.
            wanted = []
            for data_id in data_ids:
                given = self._data_ids.search_values(session, known.group, data_id).dimensions
                wanted.append([given[name] for name in known.group.required])
            staged = self._data_ids.stage(session, known, wanted)
            same = sa.and_(sa.true(), *[staged.c[part] == table.c[part] for part in known.group.required])
            keys = session.rows(
                self._database.prepare(
                    ("find staged", staged), lambda: sa.select(table.c.id).join_from(staged, table, same)
                )
            )
            chosen = {key for (key,) in keys}
            rows = [row for row in rows if row[3] in chosen]
        remove = self._database.prepare(
            "remove validity", lambda: sa.delete(valid).where(valid.c.id == parameter("row", sa.BigInteger))
        )
        session.run_many(remove, [row[:1] for row in rows])
        kept: list[tuple[Any, ...]] = []
        for _, *key, begin_ns, end_ns in rows:
            if begin_ns < timespan.begin_ns:
                kept.append((*key, begin_ns, timespan.begin_ns))
            if end_ns > timespan.end_ns:
                kept.append((*key, timespan.end_ns, end_ns))
        self.add_validity(session, kept)
        return len(rows)

    def add_validity(self, session: Session, rows: Sequence[tuple[Any, ...]]) -> None:
        """Insert rows of the table ``calibration``, without their keys."""
        valid = self._schema.calibration
        # The writer is alone (`Database.writing`): nobody else takes these keys.
        last = (
            session.rows(self._database.prepare("last validity", lambda: sa.select(sa.func.max(valid.c.id))))[0][0] or 0
        )
        session.run_many(
            self._database.prepare_insert(valid), [(last + 1 + number, *row) for number, row in enumerate(rows)]
        )

    def _stage(self, session: Session, ids: Sequence[UUID | bytes]) -> list[tuple[int, int, int]]:
        """Stage ids; give primary key, type and data id of each dataset, which must exist."""
        raw = list(dict.fromkeys(uuid_bytes(id_) for id_ in ids))
        staged, dataset = stage_ids(session, self._schema, raw), self._schema.dataset
        rows = session.rows(
            self._database.prepare(
                "staged datasets",
                lambda: (
                    sa.select(dataset.c.id, dataset.c.dataset_type_id, dataset.c.data_id_id, staged.c.position)
                    .join_from(staged, dataset, dataset.c.uuid == staged.c.uuid)
                    .order_by(staged.c.position)
                ),
            )
        )
        if len(rows) != len(raw):
            there = {row[3] for row in rows}
            lost = next(id_ for position, id_ in enumerate(raw) if position not in there)
            raise DatasetNotFoundError(f"there is no dataset with the id {UUID(bytes=lost)}")
        return [row[:3] for row in rows]


def _overlaps(valid: sa.Table) -> list[sa.ColumnElement[bool]]:
    return [
        valid.c.collection_id == parameter("holder", sa.BigInteger),
        valid.c.begin_ns < parameter("end", sa.BigInteger),
        valid.c.end_ns > parameter("begin", sa.BigInteger),
    ]


def _of_type(definitions: Definitions, name: str, kind: CollectionType) -> Collection:
    collection = definitions.collection(name)
    if collection.type is not kind:
        raise CollectionTypeError(f"{name!r} is a {collection.type} collection; this works on {kind} ones")
    return collection
