"""The mount's connections to the daemon: one for each user, reopened when they break.

One connection carries a bounded number of requests, so users who shared one could be made to wait by any of
them. Nothing here outlives `DaemonLink.running`.
"""

from __future__ import annotations

import logging
from collections import Counter, OrderedDict
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from typing import NamedTuple, TypeVar

import trio

from pantry.errors import DaemonUnavailableError, LimitExceededError
from pantry.wire.envelope import Behalf
from pantry.wire.operations import Operation, StreamOperation
from pantry.wire.trio_driver import TrioConnection, open_connection

logger = logging.getLogger(__name__)

R = TypeVar("R")
User = Behalf | None
"""For whom a request is made; None for the mount's owner."""

MOST_CONNECTIONS = 64
MOST_REQUESTS_PER_USER = 1024
"""Requests of one user that may wait for the daemon; the rest are refused, so that others find a free task."""
FIRST_DELAY_S = 0.05
LONGEST_DELAY_S = 1.0


class Answer(NamedTuple):
    """What the daemon answered, and on which connection: handles are only good there."""

    descriptors: list[int]
    connection: TrioConnection


class DaemonLink:
    """Calls to the daemon on behalf of users.

    Parameters
    ----------
    socket_path : str
        The daemon's socket.
    daemon_uid : int, optional
        Who may be at the other end, besides root; for sockets in places where others can write.
    patience_s : float
        For how long after it went requests wait for a daemon to come back; after that they fail at once until it does.
    """

    def __init__(self, socket_path: str, *, daemon_uid: int | None = None, patience_s: float = 0.0) -> None:
        self._socket_path = socket_path
        self._daemon_uid = daemon_uid
        self._patience_s = patience_s
        self._gone_since: float | None = None
        self._nursery: trio.Nursery | None = None
        self._connections: OrderedDict[int | None, TrioConnection] = OrderedDict()
        self._opening: dict[int | None, trio.Event] = {}
        self._waiting: Counter[int | None] = Counter()
        self._delay_s = 0.0
        self._retry_at = -float("inf")
        self._last_error = ""

    @asynccontextmanager
    async def running(self) -> AsyncIterator[DaemonLink]:
        """Own the connections' tasks; all connections are closed at the end."""
        async with trio.open_nursery() as nursery:
            self._nursery = nursery
            try:
                yield self
            finally:
                self._nursery = None
                nursery.cancel_scope.cancel()

    async def call(self, operation: Operation[R], user: User) -> R:
        """Make a request whose answer has no descriptors."""
        result, answer = await self.call_with_descriptors(operation, user)
        assert not answer.descriptors  # noqa: S101 - only for operations that never carry any
        return result

    async def call_with_descriptors(self, operation: Operation[R], user: User) -> tuple[R, Answer]:
        """Make a request; it is repeated once if the connection turns out to be broken.

        So it is only for operations that may be repeated, which all those of the mount may.
        """
        with self._counted(user):
            broken = 0
            while True:
                connection = await self.connection(user)
                try:
                    result, fds = await connection.call(operation, behalf=user)
                    return result, Answer(fds, connection)
                except DaemonUnavailableError:
                    broken += 1
                    if connection.alive or broken > self._most_broken:
                        raise

    async def stream(self, operation: StreamOperation[R], user: User) -> AsyncGenerator[R, None]:
        """Make a streamed request and give its batches; repeated if nothing had come yet."""
        broken = 0
        while True:
            connection = await self.connection(user)
            batches = connection.stream(operation, behalf=user)
            begun = False
            try:
                async for batch in batches:
                    begun = True
                    yield batch
                return
            except DaemonUnavailableError:
                broken += 1
                if begun or connection.alive or broken > self._most_broken:
                    raise
            finally:
                batches.stop()

    @property
    def _most_broken(self) -> int:
        """How often one request may lose its connection: a request that kills the daemon is not repeated for ever."""
        return 3 if self._patience_s else 1

    async def connection(self, user: User) -> TrioConnection:
        """Return the user's connection, opened if need be, and waited for as long as there is patience.

        Raises
        ------
        DaemonUnavailableError
            There is no daemon.
        """
        while True:
            try:
                return await self._connection(user)
            except DaemonUnavailableError:
                now = trio.current_time()
                if self._gone_since is None or now >= self._gone_since + self._patience_s or self._nursery is None:
                    raise
                await trio.sleep(max(self._retry_at - now, FIRST_DELAY_S))

    async def _connection(self, user: User) -> TrioConnection:
        key = None if user is None else user.uid
        while True:
            # No await between the miss and the claim: check and claim are one step.
            connection = self._connections.get(key)
            if connection is not None and connection.alive:
                self._connections.move_to_end(key)
                return connection
            opening = self._opening.get(key)
            if opening is None:
                return await self._open(key)
            await opening.wait()

    async def _open(self, key: int | None) -> TrioConnection:
        if self._nursery is None:
            raise DaemonUnavailableError("the mount is ending")
        if trio.current_time() < self._retry_at:
            raise DaemonUnavailableError(self._last_error)
        opening = self._opening[key] = trio.Event()
        try:
            connection: TrioConnection = await self._nursery.start(self._hold)
        except DaemonUnavailableError as exc:
            if self._gone_since is None:
                self._gone_since = trio.current_time()
                logger.warning("%s", exc.message)
            self._delay_s = min(max(2 * self._delay_s, FIRST_DELAY_S), LONGEST_DELAY_S)
            self._retry_at = trio.current_time() + self._delay_s
            self._last_error = exc.message
            raise
        finally:
            del self._opening[key]
            opening.set()
        if self._gone_since is not None:
            self._gone_since = None
            logger.warning("the daemon answers again")
        self._delay_s = 0.0
        self._connections[key] = connection
        self._connections.move_to_end(key)
        self._close_idle()
        return connection

    async def _hold(self, task_status: trio.TaskStatus[TrioConnection]) -> None:
        async with open_connection(self._socket_path, client="pantry mount", daemon_uid=self._daemon_uid) as connection:
            task_status.started(connection)
            await connection.wait_closed()

    def _close_idle(self) -> None:
        """Keep the number of connections bounded; whose is closed gets a new one when it asks again."""
        for key, connection in list(self._connections.items()):
            if not connection.alive:
                del self._connections[key]
        surplus = len(self._connections) - MOST_CONNECTIONS
        idle = [key for key, connection in self._connections.items() if not connection.requests_under_way]
        for key in idle[: max(surplus, 0)]:
            self._connections.pop(key).close()

    def _counted(self, user: User) -> _Counted:
        return _Counted(self._waiting, None if user is None else user.uid)


class _Counted:
    """Counts a user's requests while they last."""

    def __init__(self, counter: Counter[int | None], key: int | None) -> None:
        self._counter = counter
        self._key = key

    def __enter__(self) -> None:
        if self._counter[self._key] >= MOST_REQUESTS_PER_USER:
            raise LimitExceededError(f"user {self._key} has {MOST_REQUESTS_PER_USER} requests waiting in this mount")
        self._counter[self._key] += 1

    def __exit__(self, *_: object) -> None:
        self._counter[self._key] -= 1
        if not self._counter[self._key]:
            del self._counter[self._key]
