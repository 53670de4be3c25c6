"""Where the bytes of one attempt land, and for how long it may go on.

A thread cannot be cancelled: one that waits for a dead file system may wake up hours later and go on
writing. So it never has the caller's descriptor, but one of its own, which is made to mean nothing
before the caller hears that the attempt is over.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from contextlib import suppress
from functools import partial

import trio

from pantry.backends.admission import Turn
from pantry.backends.contract import SinkError
from pantry.backends.progress import Progress


class RevokedError(Exception):
    """Ends a thread that was left behind."""


class Landing:
    """A descriptor and a progress function that can be taken back.

    Parameters
    ----------
    fd : int
        The caller's.
    on_progress : Progress
        The caller's.
    """

    def __init__(self, fd: int, on_progress: Progress) -> None:
        try:
            self.fd = os.dup(fd)
        except OSError as exc:
            raise SinkError(exc.errno, exc.strerror) from exc
        self._on_progress = on_progress
        self._lock = threading.Lock()
        self._revoked = False

    def tell(self, position: int) -> None:
        """Pass progress on, from any thread; never after `close`."""
        with self._lock:
            if self._revoked:
                raise RevokedError
            self._on_progress(position)

    def close(self, turn: Turn) -> None:
        """Take both back; the number stays in use until the threads of ``turn`` have ended."""
        with self._lock:
            self._revoked = True
        if turn.hanging:
            nowhere = os.open(os.devnull, os.O_WRONLY | os.O_CLOEXEC)
            os.dup2(nowhere, self.fd, inheritable=False)
            os.close(nowhere)
        turn.when_idle(partial(os.close, self.fd))


class Deadline:
    """Ends an attempt that does not move, and one that takes too long altogether.

    Parameters
    ----------
    turn : Turn
        In which it is made; hears of progress too.
    stall_s : float
        Longest time without progress, in seconds.
    whole_s : float
        Longest time, in seconds.
    on_moved : Callable
        Called with each progress, from any thread.

    Attributes
    ----------
    scope : trio.CancelScope
        To be entered by the attempt.
    """

    def __init__(self, turn: Turn, *, stall_s: float, whole_s: float, on_moved: Callable[[], None]) -> None:
        self._turn = turn
        self._on_moved = on_moved
        self._stall_s = stall_s
        self._latest_s = trio.current_time() + whole_s
        self._token = trio.lowlevel.current_trio_token()
        self.scope = trio.CancelScope()
        self._extend()

    def moved(self) -> None:
        """Note progress, from any thread."""
        self._on_moved()
        with suppress(trio.RunFinishedError):
            self._token.run_sync_soon(self._extend, idempotent=True)

    def _extend(self) -> None:
        self._turn.moved()
        self.scope.deadline = min(self._latest_s, trio.current_time() + self._stall_s)
