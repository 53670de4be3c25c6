"""Files that are to be deleted, and who deletes them (docs/decisions/0065)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import sqlalchemy as sa

from pantry.daemon.registry.engine import Database, Session, parameter
from pantry.daemon.registry.file_marks import FileMarks
from pantry.daemon.registry.schema import Schema
from pantry.daemon.registry.staged import stage_tokens

ABANDONED_NS = 600 * 1_000_000_000
"""How long files are left to the daemon that was last given them, in nanoseconds."""


class RemovedFile(NamedTuple):
    """A file to be deleted, and the removal that it is of."""

    path: str
    token: str


class RemovedFiles:
    """Gives files that are to be deleted to one daemon at a time, and frees their names when they are gone.

    Parameters
    ----------
    database, schema
        Where they are.
    marks : FileMarks
        Knows whether there is a table of them.
    """

    def __init__(self, database: Database, schema: Schema, marks: FileMarks) -> None:
        self._database = database
        self._schema = schema
        self._marks = marks

    def add(self, session: Session, paths: Sequence[str], token: str) -> None:
        """Say that files are to be deleted by whoever has this token."""
        now = self._database.now_ns(session)
        session.run_many(
            self._database.prepare_insert(self._schema.removed_file), [(path, token, now) for path in paths]
        )

    def claim(self, session: Session, tokens: Sequence[str], claim: str, after: str, count: int) -> list[RemovedFile]:
        """Give the next files to delete; see `Registry.claim_removed_files`."""
        if not self._marks.exist(session):
            return []
        removed, staged = self._schema.removed_file, stage_tokens(session, self._schema, tokens)
        of_these = removed.c.token.in_(sa.select(staged.c.token))
        now = self._database.now_ns(session)
        find = self._database.prepare(
            ("claim removed", count),
            lambda: (
                sa.select(removed.c.path, removed.c.token, sa.case((of_these, 1), else_=0))
                .where(removed.c.path > parameter("after", sa.Text))
                .where(sa.or_(of_these, removed.c.since_ns < parameter("before", sa.BigInteger)))
                .order_by(removed.c.path)
                .limit(count)
            ),
        )
        rows = session.rows(find, {"after": after, "before": now - ABANDONED_NS})
        files = [RemovedFile(path, token if is_of_these else claim) for path, token, is_of_these in rows]
        take = self._database.prepare(
            "take removed",
            lambda: (
                sa.update(removed)
                .where(removed.c.path == parameter("which", sa.Text))
                .values(token=parameter("holder", sa.String), since_ns=parameter("now", sa.BigInteger))
            ),
        )
        values = [{"which": file.path, "holder": file.token, "now": now} for file in files]
        session.run_many(take, [[one[name] for name in take.names] for one in values])
        return files

    def count(self, session: Session, tokens: Sequence[str]) -> dict[str, int]:
        """Count the files that are left of removals; those of which none is left are not there."""
        if not self._marks.exist(session):
            return {}
        removed, staged = self._schema.removed_file, stage_tokens(session, self._schema, tokens)
        statement = self._database.prepare(
            "count removed",
            lambda: (
                sa.select(removed.c.token, sa.func.count())
                .where(removed.c.token.in_(sa.select(staged.c.token)))
                .group_by(removed.c.token)
            ),
        )
        return dict(session.rows(statement))

    def forget(self, session: Session, files: Sequence[RemovedFile]) -> None:
        """Free the names of files that are gone, but for those that somebody else was given since."""
        removed = self._schema.removed_file
        statement = self._database.prepare(
            "forget removed",
            lambda: sa.delete(removed).where(
                removed.c.path == parameter("path", sa.Text), removed.c.token == parameter("token", sa.String)
            ),
        )
        session.run_many(statement, [[getattr(one, name) for name in statement.names] for one in files])
