"""Datasets that go, and the names of files that may not be used until the files are gone (docs/decisions/0065)."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Sequence
from typing import Any, NamedTuple
from uuid import UUID

import sqlalchemy as sa

from pantry.daemon.registry.definitions import DefinitionsCache
from pantry.daemon.registry.engine import Database, Session, parameter
from pantry.daemon.registry.files import file_columns, make_file
from pantry.daemon.registry.schema import Schema
from pantry.errors import ConflictError, DatasetNotFoundError
from pantry.model.datasets import StoredFile

ABANDONED_NS = 600 * 1_000_000_000
"""How long a removal is left to the daemon that began it, in nanoseconds."""


class FileBeingRemovedError(ConflictError):
    """A file of this name is being deleted, and no other may take its place before."""


class Removal(NamedTuple):
    """What goes with datasets, and what stays.

    Attributes
    ----------
    datasets : int
        How many datasets, with the components of composites.
    missing : list of bytes
        Ids that the registry does not know.
    removed : list of StoredFile
        Files that nobody needs any more.
    kept : int
        How many files stay: ingested in place, or of other datasets too.
    """

    datasets: int
    missing: list[bytes]
    removed: list[StoredFile]
    kept: int


class RemovedFile(NamedTuple):
    """A file to be deleted, and the removal that it is of."""

    path: str
    token: str


class FileMarks:
    """Says of datasets that their file is not theirs alone, and which names are not free.

    Parameters
    ----------
    database, schema
        Where they are.
    """

    def __init__(self, database: Database, schema: Schema) -> None:
        self._database = database
        self._schema = schema
        with database.reading() as session:
            self._always = database.has_table(session, schema.file_mark.name)

    def exist(self, session: Session) -> bool:
        """Whether the registry has the tables: one of an older Pantry has none before they are needed."""
        # Not remembered of such a one: the transaction that made them may be undone.
        return self._always or self._database.has_table(session, self._schema.file_mark.name)

    def require(self, session: Session) -> None:
        """Make the tables if need be; of files that are there then, nobody knows how they came."""
        if self.exist(session):
            return
        dataset, mark = self._schema.dataset, self._schema.file_mark
        session.create(mark, self._schema.removed_file)
        every = sa.select(dataset.c.id, dataset.c.path, sa.true()).where(dataset.c.path != "")
        session.run(self._database.compile(sa.insert(mark).from_select(["dataset_id", "path", "in_place"], every)))

    def mark(self, session: Session, files: Sequence[tuple[bytes, str]], *, in_place: bool) -> None:
        """Record those of datasets, by id and path, that were ingested in place or share a file with one another."""
        times = Counter(path for _, path in files)
        marked = [(id_, path) for id_, path in files if path and (in_place or times[path] > 1)]
        if not marked:
            return
        self.require(session)
        dataset, table = self._schema.dataset, self._schema.file_mark
        staged = self._schema.staged_paths
        session.create_temporary(staged)
        rows = [(number, id_, path) for number, (id_, path) in enumerate(marked)]
        session.run_many(self._database.prepare_insert(staged), rows)
        known = (
            sa.select(dataset.c.id, staged.c.path, sa.true() if in_place else sa.false())
            .join_from(staged, dataset, dataset.c.uuid == staged.c.uuid)
            .where(~sa.exists().where(table.c.dataset_id == dataset.c.id))
        )
        statement = self._database.prepare(
            ("mark files", in_place),
            lambda: sa.insert(table).from_select(["dataset_id", "path", "in_place"], known),
        )
        session.run(statement)

    def require_free(self, session: Session, paths: Sequence[str]) -> None:
        """Raise `FileBeingRemovedError` if a file of one of these names is being deleted."""
        if not self.exist(session):
            return
        removed = self._schema.removed_file
        if len(paths) == 1:
            one = self._database.prepare(
                "removed file",
                lambda: sa.select(removed.c.path).where(removed.c.path == parameter("path", sa.Text)),
            )
            found = session.row(one, {"path": paths[0]})
        else:
            first = self._database.prepare("any removed file", lambda: sa.select(removed.c.path).limit(1))
            if session.row(first) is None:
                return
            every = self._database.prepare("removed files", lambda: sa.select(removed.c.path))
            taken = {path for (path,) in session.rows(every)}
            found = next(((path,) for path in paths if path in taken), None)
        if found is not None:
            raise FileBeingRemovedError(
                f"{found[0]} is the name of a file that is being deleted", hint="try again in a moment"
            )


class Removing:
    """Deletes datasets, and knows the files that are to be deleted after them.

    Parameters
    ----------
    database, schema
        Where they are.
    written : DefinitionsCache
        The writer's own.
    read : DefinitionsCache
        For reading.
    marks : FileMarks
        Which files are not theirs alone.
    delete : callable
        Deletes the rows of datasets by their ids, with a session.
    """

    def __init__(
        self,
        database: Database,
        schema: Schema,
        written: DefinitionsCache,
        read: DefinitionsCache,
        marks: FileMarks,
        delete: Callable[[Session, Sequence[UUID | bytes]], object],
    ) -> None:
        self._database = database
        self._schema = schema
        self._written = written
        self._read = read
        self._marks = marks
        self._delete = delete

    def plan(self, session: Session, ids: Sequence[bytes], spared: Collection[str]) -> Removal:
        """Say what `remove` would do, and change nothing."""
        return self._find(session, self._read, ids, spared)[0]

    def remove(
        self, session: Session, ids: Sequence[bytes], token: str, *, missing_ok: bool, spared: Collection[str]
    ) -> Removal:
        """Delete datasets with the components of composites; see `Registry.remove_datasets`."""
        self._marks.require(session)
        removal, uuids = self._find(session, self._written, ids, spared)
        if removal.missing and not missing_ok:
            raise no_such_datasets(removal.missing, len(ids))
        self._delete(session, uuids)
        now = time.time_ns()
        session.run_many(
            self._database.prepare_insert(self._schema.removed_file),
            [(file.path, token, now) for file in removal.removed],
        )
        return removal

    def _find(
        self, session: Session, definitions: DefinitionsCache, ids: Sequence[bytes], spared: Collection[str]
    ) -> tuple[Removal, list[UUID | bytes]]:
        given = list(dict.fromkeys(ids))
        rows = {row[0]: row for row in self._rows(session, given)}
        missing = [one for one in given if one not in rows]
        parts = self._components(session, definitions, [row[1] for row in rows.values()])
        rows.update({row[0]: row for row in self._rows(session, parts)})
        files = {row[2]: make_file(row[3:]) for row in rows.values()}
        by_path = {file.path: file for file in files.values() if file.path}
        kept = self._kept(session, set(files), set(by_path)) | by_path.keys() & set(spared)
        removed = [file for path, file in by_path.items() if path not in kept]
        return Removal(len(rows), missing, removed, len(kept)), list(rows)

    def stored(self, session: Session, after: int, count: int) -> list[tuple[int, bytes, str]]:
        """Give key, id and path of the next datasets after a key."""
        dataset = self._schema.dataset
        statement = self._database.prepare(
            ("stored", count),
            lambda: (
                sa.select(dataset.c.id, dataset.c.uuid, dataset.c.path)
                .where(dataset.c.id > parameter("after", sa.BigInteger))
                .order_by(dataset.c.id)
                .limit(count)
            ),
        )
        return [(key, bytes(id_), path) for key, id_, path in session.rows(statement, {"after": after})]

    def _rows(self, session: Session, ids: Sequence[bytes]) -> list[tuple[Any, ...]]:
        """Id, type, key and file of those that are there."""
        if not ids:
            return []
        dataset, staged = self._schema.dataset, self._stage(session, ids)
        columns = [dataset.c.uuid, dataset.c.dataset_type_id, dataset.c.id, *file_columns(dataset)]
        statement = self._database.prepare(
            "removing",
            lambda: sa.select(*columns).join_from(staged, dataset, dataset.c.uuid == staged.c.uuid),
        )
        return [(bytes(row[0]), *row[1:]) for row in session.rows(statement)]

    def _components(self, session: Session, definitions: DefinitionsCache, types: Iterable[int]) -> list[bytes]:
        """Ids of the components of those that are staged, in their runs."""
        current = definitions.current(session)
        dataset, staged = self._schema.dataset, self._schema.staged_ids
        found: list[bytes] = []
        for parent in set(types):
            begin = current.types_by_id[parent].definition.name + "."
            parts = [one.id for one in current.types.values() if one.definition.name.startswith(begin)]
            if not parts:
                continue
            other = dataset.alias("component")
            member = self._schema.membership
            same = sa.and_(
                member.c.collection_id == dataset.c.run_id,
                member.c.data_id_id == dataset.c.data_id_id,
                member.c.dataset_type_id.in_(parts),
            )
            statement = self._database.compile(
                sa.select(other.c.uuid)
                .join_from(staged, dataset, dataset.c.uuid == staged.c.uuid)
                .join(member, same)
                .join(other, sa.and_(other.c.id == member.c.dataset_id, other.c.run_id == dataset.c.run_id))
                .where(dataset.c.dataset_type_id == parent)
            )
            found += [bytes(row[0]) for row in session.rows(statement)]
        return found

    def _kept(self, session: Session, keys: set[int], paths: set[str]) -> set[str]:
        """Those of the paths whose file stays though the datasets of these keys go."""
        if not paths:
            return set()
        if not self._marks.exist(session):
            return paths
        mark, staged = self._schema.file_mark, self._schema.staged_paths
        session.create_temporary(staged)
        session.run_many(
            self._database.prepare_insert(staged), [(number, b"", path) for number, path in enumerate(paths)]
        )
        statement = self._database.prepare(
            "marked paths",
            lambda: sa.select(mark.c.path, mark.c.dataset_id, mark.c.in_place).join_from(
                staged, mark, mark.c.path == staged.c.path
            ),
        )
        return {path for path, key, in_place in session.rows(statement) if in_place or key not in keys}

    def _stage(self, session: Session, ids: Sequence[bytes]) -> sa.Table:
        staged = self._schema.staged_ids
        session.create_temporary(staged)
        session.run_many(self._database.prepare_insert(staged), list(enumerate(ids)))
        return staged

    # -- files -------------------------------------------------------------------------------------

    def files(self, session: Session, tokens: Sequence[str]) -> list[RemovedFile]:
        """Files to be deleted of these removals, and of those that nobody seems to care for."""
        if not self._marks.exist(session):
            return []
        removed = self._schema.removed_file
        statement = self._database.prepare(
            "files to delete", lambda: sa.select(removed.c.path, removed.c.token, removed.c.since_ns)
        )
        before = time.time_ns() - ABANDONED_NS
        wanted = set(tokens)
        return [
            RemovedFile(path, token)
            for path, token, since_ns in session.rows(statement)
            if token in wanted or since_ns < before
        ]

    def forget(self, session: Session, files: Sequence[RemovedFile]) -> None:
        """Free the names of files that are gone."""
        removed = self._schema.removed_file
        statement = self._database.prepare(
            "forget removed",
            lambda: sa.delete(removed).where(
                removed.c.path == parameter("path", sa.Text), removed.c.token == parameter("token", sa.String)
            ),
        )
        session.run_many(
            statement, [[{"path": one.path, "token": one.token}[name] for name in statement.names] for one in files]
        )


def no_such_datasets(missing: Sequence[bytes], asked: int) -> DatasetNotFoundError:
    """Return the error for ids that a registry does not know."""
    return DatasetNotFoundError(
        f"{len(missing)} of {asked} datasets are not there, the first with id {UUID(bytes=missing[0])}; "
        "nothing was deleted",
        hint="use missing_ok (--missing-ok) to delete the others",
    )
