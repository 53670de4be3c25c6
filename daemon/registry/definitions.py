"""What a registry defines, in memory: collections and dataset types.

A `Definitions` is a frozen picture of the database at one moment. Two random tokens in the
``revision`` table tell whether it is still true; they are read in the transaction that uses it, so
changes by other processes are seen at once, and a picture of a change that was rolled back can never
be mistaken for a later one.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Iterable, Mapping, Sequence

import msgspec
import sqlalchemy as sa

from pantry.daemon.registry.engine import Database, Session, parameter
from pantry.daemon.registry.schema import Schema
from pantry.errors import MissingCollectionError, MissingDatasetTypeError
from pantry.model.collections import CollectionType
from pantry.model.datasets import DatasetType
from pantry.model.dimensions import DimensionGroup, DimensionUniverse
from pantry.model.metadata import MetadataEntry
from pantry.model.patterns import matching, matching_types, similar

COLLECTIONS = "collections"
DATASET_TYPES = "dataset_types"


class KnownType(msgspec.Struct, frozen=True, kw_only=True):
    """A registered dataset type.

    Attributes
    ----------
    id, group_id : int
        Primary keys in the registry.
    definition : DatasetType
        With complete dimensions.
    group : DimensionGroup
        Of its data ids.
    path_order : tuple of str
        Required dimensions in the order of directories.
    """

    id: int
    definition: DatasetType
    group_id: int
    group: DimensionGroup
    path_order: tuple[str, ...]


class Collection(msgspec.Struct, frozen=True, kw_only=True):
    """A registered collection; ``children`` are ids, in search order."""

    id: int
    name: str
    type: CollectionType
    doc: str
    children: tuple[int, ...] = ()


class Definitions(msgspec.Struct, frozen=True, kw_only=True):
    """Collections and dataset types at one moment.

    Attributes
    ----------
    tokens : dict of str to int
        The revision of each topic.
    types : dict of str to KnownType
        By name, in order of name.
    types_by_id : dict of int to KnownType
        The same by id.
    collections : dict of str to Collection
        By name, in order of name.
    collections_by_id : dict of int to Collection
        The same by id.
    summary : dict of int to frozenset of int
        For each collection the ids of the dataset types that it may hold.
    """

    tokens: Mapping[str, int]
    types: Mapping[str, KnownType]
    types_by_id: Mapping[int, KnownType]
    collections: Mapping[str, Collection]
    collections_by_id: Mapping[int, Collection]
    summary: Mapping[int, frozenset[int]]

    def dataset_type(self, name: str) -> KnownType:
        """Return a registered dataset type, or raise `MissingDatasetTypeError`."""
        try:
            return self.types[name]
        except KeyError:
            raise MissingDatasetTypeError(
                f"no dataset type {name!r} is registered", hint=similar(name, self.types), name=name
            ) from None

    def collection(self, name: str) -> Collection:
        """Return a collection, or raise `MissingCollectionError`."""
        try:
            return self.collections[name]
        except KeyError:
            raise MissingCollectionError(
                f"there is no collection {name!r}", hint=similar(name, self.collections), name=name
            ) from None

    def match_types(self, patterns: Sequence[str]) -> list[KnownType]:
        """Give dataset types by names or globs; see `matching_types`."""
        return matching_types(patterns, self.types, self.dataset_type)

    def match_collections(self, patterns: Sequence[str]) -> list[Collection]:
        """Give collections by names or globs, each once, in the order of the patterns; names must exist."""
        return matching(patterns, self.collections, self.collection)

    def flatten(self, collections: Iterable[Collection]) -> list[Collection]:
        """Put their children in the place of chains, depth first, each collection once."""
        found: dict[int, Collection] = {}
        todo = list(collections)[::-1]
        seen: set[int] = set()
        while todo:
            collection = todo.pop()
            if collection.id in seen:
                continue
            seen.add(collection.id)
            if collection.type is CollectionType.CHAINED:
                todo += [self.collections_by_id[child] for child in reversed(collection.children)]
            else:
                found[collection.id] = collection
        return list(found.values())

    def search_order(self, names: Sequence[str], type_id: int) -> list[Collection]:
        """Flatten collections given by name or glob and leave out those that hold nothing of a type."""
        return [
            collection
            for collection in self.flatten(self.match_collections(names))
            if type_id in self.summary.get(collection.id, ())
        ]


class DefinitionsCache:
    """Keeps the newest `Definitions`; safe for use by many threads.

    Parameters
    ----------
    database : Database
        Where they are.
    schema : Schema
        The tables.
    """

    def __init__(self, database: Database, schema: Schema) -> None:
        self._database = database
        self._schema = schema
        self._universe: DimensionUniverse = schema.universe
        self._newest: Definitions | None = None
        topic = schema.revision.c
        self._tokens = database.compile(sa.select(topic.topic, topic.token))
        self._change = database.compile(
            sa.update(schema.revision)
            .where(topic.topic == parameter("about", sa.String))
            .values(token=parameter("new", sa.BigInteger))
        )

    def current(self, session: Session) -> Definitions:
        """Return the definitions as the session's transaction sees them."""
        # Replaced as a whole, in one assignment: another thread sees the old one or the new one.
        tokens: dict[str, int] = dict(session.rows(self._tokens))
        newest = self._newest
        if newest is None or newest.tokens != tokens:
            newest = self._newest = self._load(session, newest, tokens)
        return newest

    def changed(self, session: Session, topic: str) -> None:
        """Say that the transaction changes the definitions of a topic."""
        session.run(self._change, {"about": topic, "new": secrets.randbits(62)})

    def _load(self, session: Session, old: Definitions | None, tokens: dict[str, int]) -> Definitions:
        if old is not None and old.tokens[DATASET_TYPES] == tokens[DATASET_TYPES]:
            types = old.types
        else:
            types = self._load_types(session)
        if old is not None and old.tokens[COLLECTIONS] == tokens[COLLECTIONS]:
            collections, summary = old.collections, old.summary
        else:
            collections, summary = self._load_collections(session), self._load_summary(session)
        return Definitions(
            tokens=tokens,
            types=types,
            types_by_id={known.id: known for known in types.values()},
            collections=collections,
            collections_by_id={collection.id: collection for collection in collections.values()},
            summary=summary,
        )

    def _load_types(self, session: Session) -> dict[str, KnownType]:
        kind, group = self._schema.dataset_type, self._schema.group
        statement = sa.select(
            kind.c.id, kind.c.name, kind.c.group_id, group.c.names, kind.c.storage_class, kind.c.is_calibration
        ).join_from(kind, group)
        declared = self._load_entries(session)
        found = {}
        # Sorted here: collations of databases differ.
        for key, name, group_id, names, storage_class, is_calibration in sorted(
            session.rows(self._database.prepare("load types", lambda: statement)), key=lambda row: str(row[1])
        ):
            dimensions = tuple(json.loads(names))
            members = self._universe.group(dimensions)
            found[name] = KnownType(
                id=key,
                definition=DatasetType(
                    name=name,
                    # In the order of now: they may have been registered by another one.
                    dimensions=tuple(sorted(dimensions, key=list(self._universe.elements).index)),
                    storage_class=storage_class,
                    is_calibration=bool(is_calibration),
                    metadata=tuple(declared.get(key, ())),
                ),
                group_id=group_id,
                group=members,
                path_order=self._universe.path_order(members),
            )
        return found

    def _load_entries(self, session: Session) -> dict[int, list[MetadataEntry]]:
        table = self._schema.metadata_entry
        found: dict[int, list[MetadataEntry]] = {}
        if not self._database.has_table(session, table.name):
            return found
        statement = self._database.prepare("load entries", lambda: sa.select(*table.c).order_by(table.c.position))
        for type_id, _, name, kind, key, unit, doc in session.rows(statement):
            found.setdefault(type_id, []).append(MetadataEntry(name=name, type=kind, key=key, unit=unit, doc=doc))
        return found

    def _load_collections(self, session: Session) -> dict[str, Collection]:
        table, chain = self._schema.collection, self._schema.chain
        links = self._database.prepare(
            "load chains", lambda: sa.select(chain.c.parent_id, chain.c.child_id).order_by(chain.c.position)
        )
        children: dict[int, tuple[int, ...]] = {}
        for parent, child in session.rows(links):
            children[parent] = (*children.get(parent, ()), child)
        statement = self._database.prepare(
            "load collections", lambda: sa.select(table.c.id, table.c.name, table.c.type, table.c.doc)
        )
        return {
            name: Collection(id=key, name=name, type=CollectionType(kind), doc=doc, children=children.get(key, ()))
            for key, name, kind, doc in sorted(session.rows(statement), key=lambda row: str(row[1]))
        }

    def _load_summary(self, session: Session) -> dict[int, frozenset[int]]:
        table = self._schema.summary
        found: dict[int, set[int]] = {}
        statement = self._database.prepare(
            "load summary", lambda: sa.select(table.c.collection_id, table.c.dataset_type_id)
        )
        for collection, kind in session.rows(statement):
            found.setdefault(collection, set()).add(kind)
        return {collection: frozenset(kinds) for collection, kinds in found.items()}
