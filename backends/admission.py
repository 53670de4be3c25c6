"""Blocking SDK calls are let into threads fairly: the user's share first, then the node's."""

from __future__ import annotations

from collections.abc import Callable
from contextvars import ContextVar
from typing import TypeVar

import trio

T = TypeVar("T")

acting_uid: ContextVar[int] = ContextVar("acting_uid", default=-1)
"""The Unix user on whose behalf the current task works; set by the daemon's dispatcher."""


class Admission:
    """Runs blocking functions in threads, at most so many for each user and for the node.

    Parameters
    ----------
    user_limit : int
        Threads that one Unix user may occupy at once.
    node_limit : int
        Threads in all.
    """

    def __init__(self, *, user_limit: int, node_limit: int) -> None:
        self._user_limit = user_limit
        self._node = trio.CapacityLimiter(node_limit)
        self._users: dict[int, trio.CapacityLimiter] = {}

    async def call(self, func: Callable[[], T]) -> T:
        """Run blocking ``func`` in a thread for `acting_uid`; not abandoned on cancellation."""
        uid = acting_uid.get()
        user = self._users.setdefault(uid, trio.CapacityLimiter(self._user_limit))
        # One borrower per call: a task may have several calls under way through nurseries.
        borrower = object()
        await user.acquire_on_behalf_of(borrower)
        try:
            return await trio.to_thread.run_sync(func, limiter=self._node)
        finally:
            user.release_on_behalf_of(borrower)
            if not user.borrowed_tokens and not user.statistics().tasks_waiting:
                self._users.pop(uid, None)
