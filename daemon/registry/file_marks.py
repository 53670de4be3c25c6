"""Which datasets' files are not theirs alone, and which names of files are not free (docs/decisions/0065)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import sqlalchemy as sa

from pantry.daemon.registry.engine import Database, Session, parameter
from pantry.daemon.registry.schema import Schema
from pantry.errors import ConflictError


class FileBeingRemovedError(ConflictError):
    """A file of this name is being deleted, and no other may take its place before."""


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
        self._known = False
        self._maker: Session | None = None

    def exist(self, session: Session) -> bool:
        """Whether the registry has the tables: one of an older Pantry has none before they are needed."""
        if self._known:
            return True
        found = self._database.has_table(session, self._schema.file_mark.name)
        # A transaction that made them may still be undone; any other one sees only what is committed.
        self._known = found and session is not self._maker
        return found

    def require(self, session: Session) -> None:
        """Make the tables if need be; of files that are there then, nobody knows how they came."""
        if self.exist(session):
            return
        dataset, mark = self._schema.dataset, self._schema.file_mark
        self._maker = session
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

    def mark_in_place(self, session: Session, keys: range) -> None:
        """Record new datasets, by their primary keys, as ingested in place."""
        self.require(session)
        dataset, table = self._schema.dataset, self._schema.file_mark
        statement = self._database.prepare(
            "mark new files",
            lambda: sa.insert(table).from_select(
                ["dataset_id", "path", "in_place"],
                sa.select(dataset.c.id, dataset.c.path, sa.true()).where(
                    sa.between(dataset.c.id, parameter("first", sa.BigInteger), parameter("last", sa.BigInteger)),
                    dataset.c.path != "",
                    ~sa.exists().where(table.c.dataset_id == dataset.c.id),
                ),
            ),
        )
        session.run(statement, {"first": keys.start, "last": keys.stop - 1})

    def sharers(self, session: Session, path: str) -> int:
        """Count the datasets that are known to have a file, not alone or not as their own."""
        if not self.exist(session):
            return 0
        mark = self._schema.file_mark
        count = self._database.prepare(
            "count marks",
            lambda: sa.select(sa.func.count()).select_from(mark).where(mark.c.path == parameter("path", sa.Text)),
        )
        return int(session.rows(count, {"path": path})[0][0])

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
