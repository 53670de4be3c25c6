"""Collections: making, chaining and finding them."""

from __future__ import annotations

from collections.abc import Sequence

import sqlalchemy as sa

from pantry.daemon.registry.definitions import COLLECTIONS, Collection, Definitions, DefinitionsCache
from pantry.daemon.registry.engine import Database, Session, parameter
from pantry.daemon.registry.schema import Schema
from pantry.errors import CollectionTypeError, ConflictingDefinitionError
from pantry.model.collections import CollectionInfo, CollectionType, check_collection_name
from pantry.wire.operations.repositories import QueryCollections


class Collections:
    """Writes and reads the definitions of collections.

    Parameters
    ----------
    database, schema
        Where they are.
    definitions : DefinitionsCache
        Told of every change.
    """

    def __init__(self, database: Database, schema: Schema, definitions: DefinitionsCache) -> None:
        self._definitions = definitions
        table, chain, summary = schema.collection, schema.chain, schema.summary
        self._insert = database.compile(
            sa.insert(table).values(
                name=parameter("new_name", sa.String),
                type=parameter("new_type", sa.String),
                doc=parameter("new_doc", sa.Text),
            )
        )
        self._clear_chain = database.compile(
            sa.delete(chain).where(chain.c.parent_id == parameter("chain", sa.BigInteger))
        )
        self._add_link = database.compile(
            sa.insert(chain).values(
                parent_id=parameter("chain", sa.BigInteger),
                position=parameter("number", sa.Integer),
                child_id=parameter("child", sa.BigInteger),
            )
        )
        self._add_summary = database.compile(
            sa.insert(summary).values(
                collection_id=parameter("collection", sa.BigInteger), dataset_type_id=parameter("kind", sa.BigInteger)
            )
        )

    def register(self, session: Session, name: str, kind: CollectionType, doc: str) -> Collection:
        """Make a collection unless it exists; `ConflictingDefinitionError` if it is of another type."""
        check_collection_name(name)
        known = self._definitions.current(session).collections.get(name)
        if known is not None:
            if known.type is not kind:
                raise ConflictingDefinitionError(
                    f"the collection {name!r} exists and is {known.type}, not {kind}", name=name
                )
            return known
        session.run(self._insert, {"new_name": name, "new_type": str(kind), "new_doc": doc})
        self._definitions.changed(session, COLLECTIONS)
        return self._definitions.current(session).collections[name]

    def redefine_chain(self, session: Session, name: str, children: Sequence[str]) -> None:
        """Set the children of a CHAINED collection; a chain that would hold itself is refused."""
        definitions = self._definitions.current(session)
        parent = definitions.collection(name)
        if parent.type is not CollectionType.CHAINED:
            raise CollectionTypeError(f"{name!r} is a {parent.type} collection; only a CHAINED one has children")
        members = [definitions.collection(child) for child in dict.fromkeys(children)]
        for child in members:
            if parent.id in _reachable(definitions, child):
                raise CollectionTypeError(
                    f"{child.name!r} cannot be in the chain {name!r}: it would then contain itself",
                    hint="take the other chain apart first",
                )
        session.run(self._clear_chain, {"chain": parent.id})
        for number, child in enumerate(members):
            session.run(self._add_link, {"chain": parent.id, "number": number, "child": child.id})
        self._definitions.changed(session, COLLECTIONS)

    def summarize(self, session: Session, collection: Collection, type_ids: set[int]) -> None:
        """Note that a collection holds datasets of these types."""
        new = type_ids - self._definitions.current(session).summary.get(collection.id, frozenset())
        for type_id in new:
            session.run(self._add_summary, {"collection": collection.id, "kind": type_id})
        if new:
            self._definitions.changed(session, COLLECTIONS)


def _reachable(definitions: Definitions, collection: Collection) -> set[int]:
    found: set[int] = set()
    todo = [collection]
    while todo:
        member = todo.pop()
        if member.id not in found:
            found.add(member.id)
            todo += [definitions.collections_by_id[child] for child in member.children]
    return found


def query_collections(definitions: Definitions, query: QueryCollections) -> list[CollectionInfo]:
    """Give the collections that a query asks for: by name, or in search order if chains are flattened."""
    found = definitions.match_collections(query.patterns or ["*"])
    if query.flatten_chains:
        found = definitions.flatten(found)
    else:
        found.sort(key=lambda collection: collection.name)
    return [
        _info(definitions, collection, query.with_dataset_types)
        for collection in found
        if not query.types or collection.type in query.types
    ]


def _info(definitions: Definitions, collection: Collection, with_dataset_types: bool) -> CollectionInfo:
    held: set[int] = set()
    if with_dataset_types:
        held.update(*(definitions.summary.get(member.id, ()) for member in definitions.flatten([collection])))
    return CollectionInfo(
        name=collection.name,
        type=collection.type,
        doc=collection.doc,
        children=tuple(definitions.collections_by_id[child].name for child in collection.children),
        dataset_types=tuple(sorted(definitions.types_by_id[kind].definition.name for kind in held)),
    )
