"""A database as a service that answers queries."""

from __future__ import annotations

from collections.abc import Mapping
from types import ModuleType
from typing import TYPE_CHECKING

import trio

from pantry.backends.admission import Admission
from pantry.backends.database_address import SQLITE, split_address
from pantry.backends.querying import Query, QueryBackend, QueryOutcome, Statement
from pantry.backends.sql.options import SqlOptions, parse_options
from pantry.errors import ConfigError, InvalidQueryError

if TYPE_CHECKING:
    from pantry.backends.sql._answering import Answering

_INTERRUPT_S = 5.0
"""How long a database may take to hear that nobody waits for an answer, in seconds."""


class SqlQueryBackend:
    """Statements in the SQL of PostgreSQL or SQLite, to be read only.

    Parameters
    ----------
    root : str
        ``sql+postgresql://host:port/database`` or ``sql+sqlite:///absolute/path``.
    options : Mapping
        See `SqlOptions`, and the usual ones of credentials.
    admission : Admission
        Lets the blocking calls into threads.

    Raises
    ------
    ConfigError
        For a bad root or option.
    """

    def __init__(self, root: str, options: Mapping[str, object], admission: Admission) -> None:
        self._address = split_address(root, "sql")
        self._options, self._credential = parse_options(options, SqlOptions)
        if self._address.kind == SQLITE and self._credential is not None:
            raise ConfigError("sql: SQLite has no users")
        self._admission = admission
        self._made: Answering | None = None

    @property
    def location(self) -> str:
        """A URI for messages and provenance, without any secret."""
        return f"sql+{self._address.location}"

    @property
    def kinds(self) -> tuple[type[Query], ...]:
        """Statements."""
        return (Statement,)

    async def run_into(self, query: Query, fd: int) -> QueryOutcome:
        """Ask the database; see `QueryBackend`. It is told if nobody waits any more."""
        if not isinstance(query, Statement):
            raise InvalidQueryError(f"{self.location} answers statements only")
        answering = await self._admission.call(self._answering)
        question = answering.question(query)
        failed: Exception | None = None
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_interrupt_in_the_end, question.interrupt)
            try:
                outcome = await self._admission.call(lambda: question.run(fd, trio.from_thread.check_cancelled))
            except Exception as exc:
                # Raised below: a nursery would make a group of it.
                failed = exc
            nursery.cancel_scope.cancel()
        if failed is not None:
            raise failed
        return outcome

    def _answering(self) -> Answering:
        if self._made is None:
            self._made = _load().Answering(self._address, self._options, self._credential)
        return self._made

    async def aclose(self) -> None:
        """Close all connections."""
        if self._made is not None:
            await self._admission.call(self._made.close)


async def _interrupt_in_the_end(interrupt: object) -> None:
    try:
        await trio.sleep_forever()
    finally:
        with trio.CancelScope(shield=True), trio.move_on_after(_INTERRUPT_S):
            await trio.to_thread.run_sync(interrupt, abandon_on_cancel=True)  # type: ignore[arg-type]


def _load() -> ModuleType:
    from pantry.backends.sql import _answering

    return _answering


def SqlQueryBackendFactory(root: str, options: Mapping[str, object], admission: Admission) -> QueryBackend:  # noqa: N802 - as other factories
    """Make the backend of ``sql+postgresql`` and ``sql+sqlite``."""
    return SqlQueryBackend(root, options, admission)
