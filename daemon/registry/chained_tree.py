"""The mounted view of several repositories: the union of their directories; of a data id, the first one's file."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence

import msgspec

from pantry.daemon.registry import Registry
from pantry.daemon.registry.seen import Seen
from pantry.wire.operations.browse import ListTree, TreeBatch, TreeEntry


def list_tree(members: Sequence[tuple[str, Registry]], query: ListTree) -> Iterator[TreeBatch]:
    """List one directory of those members that have its collection and dataset type.

    A file is left out if an earlier member has one for the same data id, also if that one has another suffix.
    Entries come member by member.

    Parameters
    ----------
    members : sequence of (str, Registry)
        Names of the repositories, and their registries.
    query : ListTree
        As of `Registry.list_tree`.
    """
    with contextlib.closing(Seen()) as seen:
        for part, (name, registry) in enumerate(members):
            for batch in registry.list_tree(query, any_suffix=bool(query.name)):
                kept = seen.new(part, map(_key, batch.entries))
                entries = [batch.entries[position] for position in kept]
                if query.name:
                    entries = [entry for entry in entries if entry.name == query.name]
                if entries:
                    yield TreeBatch(batch.level, [_of(entry, name) for entry in entries])


def _key(entry: TreeEntry) -> tuple[str, object]:
    return ("name", entry.name) if entry.id is None else ("value", entry.value)


def _of(entry: TreeEntry, repository: str) -> TreeEntry:
    return entry if entry.id is None else msgspec.structs.replace(entry, repository=repository)
