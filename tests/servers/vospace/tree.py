"""The nodes, in SQLite, and their bytes, in files: all that must survive a crash, readable from outside."""

from __future__ import annotations

import contextlib
import json
import shutil
import sqlite3
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.servers.vospace.faults import Fault

_SCHEMA = """
CREATE TABLE IF NOT EXISTS node (
    id INTEGER PRIMARY KEY, parent INTEGER REFERENCES node (id), name TEXT NOT NULL, type TEXT NOT NULL,
    owner TEXT NOT NULL, target TEXT, content TEXT, length INTEGER, md5 TEXT, view TEXT,
    busy INTEGER NOT NULL DEFAULT 0, is_new INTEGER NOT NULL DEFAULT 0, quota INTEGER,
    created REAL NOT NULL, changed REAL NOT NULL, modified REAL NOT NULL,
    properties TEXT NOT NULL DEFAULT '{}', UNIQUE (parent, name)
)"""
_COLUMNS = (
    "id, parent, name, type, owner, target, content, length, md5, view, busy, quota, created, changed, modified, "
    "properties"
)
_BELOW = f"""
WITH RECURSIVE sub (id, depth) AS (
    VALUES (?, 0) UNION ALL SELECT node.id, depth + 1 FROM node JOIN sub ON node.parent = sub.id
) SELECT {_COLUMNS} FROM node JOIN sub USING (id) ORDER BY depth, id"""  # noqa: S608 - no input in it
ROOT = 1


@dataclass(frozen=True, kw_only=True)
class Node:
    """One row; times are seconds since 1970-01-01 UTC, `length` and `quota` bytes."""

    id: int
    parent: int | None
    name: str
    type: str
    owner: str
    target: str | None
    content: str | None
    length: int | None
    md5: str | None
    view: str | None
    busy: bool
    quota: int | None
    created: float
    changed: float
    modified: float
    properties: dict[str, str]

    @property
    def is_container(self) -> bool:
        return self.type == "ContainerNode"

    @property
    def is_link(self) -> bool:
        return self.type == "LinkNode"

    @property
    def is_data(self) -> bool:
        return not self.is_container and not self.is_link


class Tree:
    """The space in one directory; several processes may use it at once.

    Parameters
    ----------
    directory : Path
        Made if it is not there; what an earlier server stored is there again.
    """

    def __init__(self, directory: Path) -> None:
        self.contents = directory / "content"
        self.contents.mkdir(parents=True, exist_ok=True)
        self.uri_of: Callable[[tuple[str, ...]], str] = "/".join
        """How faults call a node."""
        self._lock = threading.RLock()
        self._db = sqlite3.connect(
            directory / "nodes.sqlite", isolation_level=None, check_same_thread=False, timeout=30
        )
        self._db.execute("PRAGMA journal_mode = WAL")
        self._db.execute("PRAGMA synchronous = OFF")
        self._db.execute(_SCHEMA)

    def close(self) -> None:
        self._db.close()

    def make_root(self, owner: str, properties: dict[str, str]) -> None:
        """Make the root if there is none, and forget what transfers were under way when the server ended."""
        with self.change():
            self._db.execute("DELETE FROM node WHERE is_new")
            self._db.execute("UPDATE node SET busy = 0")
            for name in self.residue():
                (self.contents / name).unlink()
            if self.get(ROOT) is None:
                self._insert(None, "", "ContainerNode", owner, properties)

    @contextlib.contextmanager
    def change(self) -> Iterator[None]:
        """One transaction, and one thread at a time; may be nested."""
        with self._lock:
            if self._db.in_transaction:
                yield
                return
            self._db.execute("BEGIN IMMEDIATE")
            try:
                yield
            except BaseException:
                self._db.execute("ROLLBACK")
                raise
            self._db.execute("COMMIT")

    # Looking

    def get(self, node_id: int) -> Node | None:
        return self._one("id = ?", node_id)

    def child(self, parent: Node, name: str) -> Node | None:
        return self._one("parent = ? AND name = ?", parent.id, name)

    def find(self, path: Sequence[str]) -> Node | None:
        """The node at a path, links not followed."""
        node = self.get(ROOT)
        for name in path:
            node = self.child(node, name) if node is not None else None
        return node

    def chain(self, node: Node) -> list[Node]:
        """The node and its containers, from the root down."""
        found = [node]
        while (parent := found[0].parent) is not None:
            above = self.get(parent)
            if above is None:
                raise Fault("NodeNotFound", node.name)
            found.insert(0, above)
        return found

    def path(self, node: Node) -> tuple[str, ...]:
        return tuple(each.name for each in self.chain(node)[1:])

    def children(self, node: Node, *, order: str = "name", start: str | None = None, limit: int = -1) -> list[Node]:
        """Children from ``start`` on (itself included), in an order that never changes."""
        where, values = "parent = ?", [node.id]
        if order == "created":
            first = self.child(node, start) if start is not None else None
            if start is not None and first is None:
                raise Fault("NodeNotFound", start)
            if first is not None:
                where, values = where + " AND id >= ?", [node.id, first.id]
            return self._many(f"{where} ORDER BY id LIMIT ?", *values, limit)
        return self._many(f"{where} AND name >= ? ORDER BY name LIMIT ?", node.id, start or "", limit)

    def below(self, node: Node) -> list[Node]:
        """The node and all below it, containers before what they contain."""
        with self._lock:
            rows = self._db.execute(_BELOW, (node.id,)).fetchall()
        return [_node(row) for row in rows]

    def used_bytes(self, node: Node) -> int:
        return sum(each.length or 0 for each in self.below(node))

    def all_properties(self) -> set[str]:
        """URIs of all properties that any node has."""
        with self._lock:
            rows = self._db.execute("SELECT DISTINCT key FROM node, json_each(node.properties)").fetchall()
        return {row[0] for row in rows}

    def content_path(self, node: Node) -> Path | None:
        return self.contents / node.content if node.content else None

    def residue(self) -> set[str]:
        """Names of files that are no node's bytes."""
        with self._lock:
            rows = self._db.execute("SELECT content FROM node WHERE content IS NOT NULL").fetchall()
        return {path.name for path in self.contents.iterdir()} - {row[0] for row in rows}

    # Changing

    def create(
        self,
        parent: Node,
        name: str,
        node_type: str,
        owner: str,
        properties: dict[str, str],
        *,
        target: str | None = None,
        incoming: bool = False,
    ) -> Node:
        """Make a node; ``incoming``: it is busy, and vanishes if its data never come."""
        with self.change():
            try:
                return self._insert(parent.id, name, node_type, owner, properties, target, incoming)
            except sqlite3.IntegrityError:
                raise Fault("DuplicateNode", self.uri_of((*self.path(parent), name))) from None

    def update(self, node: Node, **values: Any) -> Node:
        """Set columns, and the time of change."""
        if "properties" in values:
            values["properties"] = json.dumps(values["properties"])
        values.setdefault("changed", time.time())
        with self.change():
            names = ", ".join(f"{name} = ?" for name in values)
            self._db.execute(f"UPDATE node SET {names} WHERE id = ?", (*values.values(), node.id))  # noqa: S608
            fresh = self.get(node.id)
        if fresh is None:
            raise Fault("NodeNotFound", node.name)
        return fresh

    def claim(self, node: Node, *, alone: bool = True) -> Node:
        """Mark a node as busy; NodeBusy if it is, unless it need not be ``alone``."""
        with self.change():
            fresh = self.get(node.id)
            if fresh is None:
                raise Fault("NodeNotFound", node.name)
            if fresh.busy and alone:
                raise Fault("NodeBusy", self.uri_of(self.path(fresh)))
            return self.update(fresh, busy=1)

    def give_up(self, node: Node) -> None:
        """The data did not come: a new node vanishes, another is as it was."""
        with self.change():
            self._db.execute("DELETE FROM node WHERE id = ? AND is_new", (node.id,))
            self._db.execute("UPDATE node SET busy = 0 WHERE id = ?", (node.id,))

    def publish(self, node: Node, part: Path, length: int, md5: str, view: str, properties: dict[str, str]) -> Node:
        """The bytes in ``part`` become the node's; readers of the old ones keep them."""
        content = uuid.uuid4().hex
        part.rename(self.contents / content)
        values = {"content": content, "length": length, "md5": md5, "view": view, "properties": properties}
        with self.change():
            before = self.get(node.id)
            if before is None:
                (self.contents / content).unlink()
                raise Fault("NodeNotFound", node.name)
            fresh = self.update(node, **values, modified=time.time(), busy=0, is_new=0)
        self._forget(before)
        return fresh

    def remove(self, node: Node) -> int:
        """Delete a node and all below it; returns how many."""
        with self.change():
            gone = self.below(node)
            self._db.executemany("DELETE FROM node WHERE id = ?", [(each.id,) for each in reversed(gone)])
        for each in gone:
            self._forget(each)
        return len(gone)

    def move(self, node: Node, parent: Node, name: str) -> None:
        with self.change():
            if any(each.id == node.id for each in self.chain(parent)):
                raise Fault("InvalidArgument", "a container cannot be moved into itself")
            if self.child(parent, name) is not None:
                raise Fault("DuplicateNode", self.uri_of((*self.path(parent), name)))
            self.update(node, parent=parent.id, name=name)

    def copy(self, node: Node, parent: Node, name: str, owner: str) -> None:
        """Copy a node and all below it, bytes too."""
        with self.change():
            sources = self.below(node)
            if any(each.id == node.id for each in self.chain(parent)):
                raise Fault("InvalidArgument", "a container cannot be copied into itself")
            made: dict[int, Node] = {}
            for source in sources:
                above, called = (parent, name) if source.id == node.id else (made[source.parent or 0], source.name)
                new = self.create(above, called, source.type, owner, source.properties, target=source.target)
                content = None
                if source.content:
                    content = uuid.uuid4().hex
                    shutil.copyfile(self.contents / source.content, self.contents / content)
                made[source.id] = self.update(
                    new, content=content, length=source.length, md5=source.md5, view=source.view
                )

    def _insert(
        self,
        parent: int | None,
        name: str,
        node_type: str,
        owner: str,
        properties: dict[str, str],
        target: str | None = None,
        incoming: bool = False,
    ) -> Node:
        now = time.time()
        row = self._db.execute(
            "INSERT INTO node (parent, name, type, owner, target, busy, is_new, created, changed, modified, properties)"
            " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (parent, name, node_type, owner, target, incoming, incoming, now, now, now, json.dumps(properties)),
        ).lastrowid
        made = self.get(int(row or 0))
        assert made is not None
        return made

    def _forget(self, node: Node) -> None:
        path = self.content_path(node)
        if path is not None:
            path.unlink(missing_ok=True)

    def _one(self, where: str, *values: object) -> Node | None:
        found = self._many(where, *values)
        return found[0] if found else None

    def _many(self, where: str, *values: object) -> list[Node]:
        with self._lock:
            rows = self._db.execute(f"SELECT {_COLUMNS} FROM node WHERE {where}", values).fetchall()  # noqa: S608
        return [_node(row) for row in rows]


def _node(row: Sequence[Any]) -> Node:
    values = dict(zip(_COLUMNS.split(", "), row, strict=True))
    values["properties"] = json.loads(values["properties"])
    values["busy"] = bool(values["busy"])
    return Node(**values)
