"""The collections and dataset types of a Gen3 registry."""

from __future__ import annotations

import time

import sqlalchemy as sa

from pantry.daemon.registry.definitions import Collection, Definitions, DefinitionsCache, KnownType
from pantry.daemon.registry.engine import Database, Session
from pantry.daemon.registry.gen3.tables import Gen3Schema
from pantry.model.collections import CollectionType
from pantry.model.datasets import DatasetType
from pantry.model.gen3_names import storage_class_of

HOLDS_S = 5.0
"""How late a change of collections or dataset types may be seen: Gen3 leaves no sign that there was one."""

_KINDS = {1: CollectionType.RUN, 2: CollectionType.TAGGED, 3: CollectionType.CHAINED, 4: CollectionType.CALIBRATION}


class Gen3Definitions(DefinitionsCache):
    """Keeps the newest `Definitions` of a Gen3 registry; safe for use by many threads.

    Parameters
    ----------
    database : Database
        The registry's.
    schema : Gen3Schema
        Told of the tables of each dataset type.
    """

    def __init__(self, database: Database, schema: Gen3Schema) -> None:
        self._gen3_schema = schema
        self._until = 0.0
        super().__init__(database, schema)

    def current(self, session: Session) -> Definitions:
        """Return the definitions, at most `HOLDS_S` old."""
        newest = self._newest
        if newest is None or time.monotonic() >= self._until:
            newest = self._newest = self._load(session, None, {})
            self._until = time.monotonic() + HOLDS_S
        return newest

    def _load_types(self, session: Session) -> dict[str, KnownType]:
        graph = sa.table("dimension_graph_definition", sa.column("dimension_graph_id"), sa.column("dimension_name"))
        names: dict[int, list[str]] = {}
        statement = self._database.prepare(
            "gen3 groups", lambda: sa.select(graph.c.dimension_graph_id, graph.c.dimension_name)
        )
        for key, name in session.rows(statement):
            names.setdefault(key, []).append(name)
        fields = (
            "id",
            "name",
            "storage_class",
            "dimensions_key",
            "tag_association_table",
            "calibration_association_table",
        )
        kind = sa.table("dataset_type", *map(sa.column, fields))
        rows = session.rows(self._database.prepare("gen3 types", lambda: sa.select(*kind.c)))
        found = {}
        for key, name, storage_class, group_id, tags, calibrations in sorted(rows, key=lambda row: str(row[1])):
            group = self._universe.group(names.get(group_id, ()))
            members = set(group.names)
            self._gen3_schema.associations[key] = (tags, calibrations)
            found[name] = KnownType(
                id=key,
                definition=DatasetType(
                    name=name,
                    dimensions=tuple(one for one in self._universe.elements if one in members),
                    storage_class=storage_class_of(storage_class),
                    is_calibration=calibrations is not None,
                ),
                group_id=group_id,
                group=group,
                path_order=self._universe.path_order(group),
            )
        return found

    def _load_collections(self, session: Session) -> dict[str, Collection]:
        chain = sa.table("collection_chain", *map(sa.column, ("parent", "position", "child")))
        links = self._database.prepare(
            "gen3 chains", lambda: sa.select(chain.c.parent, chain.c.child).order_by(chain.c.position)
        )
        children: dict[int, tuple[int, ...]] = {}
        for parent, child in session.rows(links):
            children[parent] = (*children.get(parent, ()), child)
        table = sa.table("collection", *map(sa.column, ("collection_id", "name", "type", "doc")))
        rows = session.rows(self._database.prepare("gen3 collections", lambda: sa.select(*table.c)))
        return {
            name: Collection(id=key, name=name, type=_KINDS[kind], doc=doc or "", children=children.get(key, ()))
            for key, name, kind, doc in sorted(rows, key=lambda row: str(row[1]))
        }

    def _load_summary(self, session: Session) -> dict[int, frozenset[int]]:
        table = sa.table("collection_summary_dataset_type", sa.column("collection_id"), sa.column("dataset_type_id"))
        found: dict[int, set[int]] = {}
        for collection, kind in session.rows(self._database.prepare("gen3 summary", lambda: sa.select(*table.c))):
            found.setdefault(collection, set()).add(kind)
        return {collection: frozenset(kinds) for collection, kinds in found.items()}
