"""Members of TAGGED and CALIBRATION collections as another repository exported them, many in one step."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from uuid import UUID

import sqlalchemy as sa

from pantry.daemon.registry.collections import Collections
from pantry.daemon.registry.definitions import Collection, DefinitionsCache
from pantry.daemon.registry.engine import Database, Session, parameter
from pantry.daemon.registry.schema import Schema
from pantry.daemon.registry.tagging import Tagging
from pantry.errors import CollectionTypeError, ConflictError, DatasetNotFoundError, DatasetTypeError
from pantry.model.collections import CollectionType
from pantry.wire.operations.importing import ImportedMembers

_Row = tuple[bytes, int, int]
"""A dataset's id with the begin and the end of its validity; 0 and 0 for a TAGGED collection."""


class ImportedMemberships:
    """Writes members of collections.

    Parameters
    ----------
    database, schema
        Where they are.
    definitions : DefinitionsCache
        The writer's own.
    collections : Collections
        Told what they hold.
    tagging : Tagging
        Writes validity.
    """

    def __init__(
        self,
        database: Database,
        schema: Schema,
        definitions: DefinitionsCache,
        collections: Collections,
        tagging: Tagging,
    ) -> None:
        self._database = database
        self._schema = schema
        self._definitions = definitions
        self._collections = collections
        self._tagging = tagging
        self._staged = schema.staging(
            "imported_member",
            [
                sa.Column("uuid", sa.LargeBinary(16), nullable=False),
                sa.Column("begin_ns", sa.BigInteger, nullable=False),
                sa.Column("end_ns", sa.BigInteger, nullable=False),
            ],
        )

    def insert(self, session: Session, members: Iterable[ImportedMembers]) -> int:
        """Put datasets into collections; give how many were not there.

        Raises
        ------
        DatasetNotFoundError
            If one of the datasets is not registered.
        ConflictError
            If a collection has another dataset of the same type and data id, valid at a time in common.
        """
        rows: dict[str, dict[_Row, None]] = defaultdict(dict)
        kinds: dict[str, CollectionType] = {}
        for one in members:
            kind = CollectionType.TAGGED if one.timespan is None else CollectionType.CALIBRATION
            if kinds.setdefault(one.collection, kind) is not kind:
                raise CollectionTypeError(f"{one.collection!r} has members with a time of validity and without")
            begin, end = (0, 0) if one.timespan is None else (one.timespan.begin_ns, one.timespan.end_ns)
            for start in range(0, len(one.ids), 16):
                rows[one.collection][one.ids[start : start + 16], begin, end] = None
        new = 0
        for name, kind in kinds.items():
            collection = self._definitions.current(session).collection(name)
            if collection.type is not kind:
                raise CollectionTypeError(f"{name!r} is a {collection.type} collection here, not a {kind} one")
            new += self._fill(session, collection, list(rows[name]))
        return new

    def _fill(self, session: Session, collection: Collection, rows: Sequence[_Row]) -> int:
        staged, dataset = self._staged, self._schema.dataset
        session.create_temporary(staged)
        session.run_many(self._database.prepare_insert(staged), [(number, *row) for number, row in enumerate(rows)])
        found = session.rows(
            self._database.prepare(
                "import members",
                lambda: (
                    sa.select(staged.c.position, dataset.c.dataset_type_id, dataset.c.data_id_id, dataset.c.id)
                    .join_from(staged, dataset, dataset.c.uuid == staged.c.uuid)
                    .order_by(staged.c.position)
                ),
            )
        )
        if len(found) != len(rows):
            there = {row[0] for row in found}
            lost = next(row[0] for number, row in enumerate(rows) if number not in there)
            raise DatasetNotFoundError(
                f"there is no dataset with the id {UUID(bytes=lost)}, which {collection.name!r} has"
            )
        known = self._tagged(session, collection) if collection.type is CollectionType.TAGGED else None
        known = self._valid(session, collection) if known is None else known
        new = []
        for position, kind, data_id, key in found:
            begin, end = rows[position][1:]
            others = known.setdefault((kind, data_id), set())
            if (key, begin, end) in others:
                continue
            for other, since, until in others:
                # TAGGED members have 0 and 0: any other one is in the way.
                if begin == end or (since < end and until > begin):
                    self._refuse(session, collection, kind, rows[position][0], key == other)
            others.add((key, begin, end))
            new.append((kind, data_id, key, begin, end))
        self._add(session, collection, new)
        return len(new)

    def _tagged(self, session: Session, collection: Collection) -> dict[tuple[int, int], set[tuple[int, int, int]]]:
        """Read what a TAGGED collection has for the data ids of the staged datasets."""
        staged, dataset, member = self._staged, self._schema.dataset, self._schema.membership
        statement = self._database.prepare(
            "import tagged",
            lambda: (
                sa.select(member.c.dataset_type_id, member.c.data_id_id, member.c.dataset_id)
                .join_from(staged, dataset, dataset.c.uuid == staged.c.uuid)
                .join(
                    member,
                    sa.and_(
                        member.c.dataset_type_id == dataset.c.dataset_type_id,
                        member.c.data_id_id == dataset.c.data_id_id,
                    ),
                )
                .where(member.c.collection_id == parameter("holder", sa.BigInteger))
                .distinct()
            ),
        )
        rows = session.rows(statement, {"holder": collection.id})
        return {(kind, data_id): {(key, 0, 0)} for kind, data_id, key in rows}

    def _valid(self, session: Session, collection: Collection) -> dict[tuple[int, int], set[tuple[int, int, int]]]:
        """Read what a CALIBRATION collection has for the data ids of the staged datasets."""
        staged, dataset, valid = self._staged, self._schema.dataset, self._schema.calibration
        statement = self._database.prepare(
            "import valid",
            lambda: (
                sa.select(
                    valid.c.dataset_type_id, valid.c.data_id_id, valid.c.dataset_id, valid.c.begin_ns, valid.c.end_ns
                )
                .join_from(staged, dataset, dataset.c.uuid == staged.c.uuid)
                .join(
                    valid,
                    sa.and_(
                        valid.c.dataset_type_id == dataset.c.dataset_type_id,
                        valid.c.data_id_id == dataset.c.data_id_id,
                    ),
                )
                .where(valid.c.collection_id == parameter("holder", sa.BigInteger))
                .distinct()
            ),
        )
        found: dict[tuple[int, int], set[tuple[int, int, int]]] = defaultdict(set)
        for kind, data_id, key, begin, end in session.rows(statement, {"holder": collection.id}):
            found[kind, data_id].add((key, begin, end))
        return dict(found)

    def _refuse(self, session: Session, collection: Collection, kind: int, id_: bytes, same: bool) -> None:
        name = self._definitions.current(session).types_by_id[kind].definition.name
        if collection.type is CollectionType.TAGGED:
            raise ConflictError(
                f"{collection.name!r} has another {name} of the data id of {UUID(bytes=id_)}",
                hint="disassociate it first",
            )
        raise ConflictError(
            f"{collection.name!r} has {'this' if same else 'another'} {name} valid in a part of the time for which "
            f"{UUID(bytes=id_)} is to be certified",
            hint="decertify that time first",
        )

    def _add(self, session: Session, collection: Collection, new: Sequence[tuple[int, int, int, int, int]]) -> None:
        definitions = self._definitions.current(session)
        kinds = {row[0] for row in new}
        timed = collection.type is CollectionType.CALIBRATION
        for kind in kinds:
            definition = definitions.types_by_id[kind].definition
            if timed and not definition.is_calibration:
                raise DatasetTypeError(f"{definition.name} is not a calibration dataset type")
        self._collections.summarize(session, collection, kinds)
        if not timed:
            insert = self._database.prepare_insert(self._schema.membership)
            session.run_many(insert, [(collection.id, *row[:3]) for row in new])
            return
        self._tagging.add_validity(session, [(collection.id, *row) for row in new])
