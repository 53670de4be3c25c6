"""Answers whose head comes in time, or not at all: the time-out of a socket is from byte to byte."""

from __future__ import annotations

import http.client
import io
import time
from typing import Any

_TIMEOUTS = 2
"""Time-outs of the socket that a head may take: one until it begins, one until it ends."""


class _TimedStream(io.RawIOBase):
    """What comes through a socket, until a moment; without end from when that is None."""

    def __init__(self, raw: io.RawIOBase, sock: Any, timeout_s: float) -> None:
        self._raw = raw
        self._sock = sock
        self._timeout_s = timeout_s
        self._until_s: float | None = time.monotonic() + _TIMEOUTS * timeout_s

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:
        if self._until_s is not None:
            left_s = self._until_s - time.monotonic()
            if left_s <= 0:
                raise TimeoutError("the head of the answer did not come in time")
            self._sock.settimeout(min(left_s, self._timeout_s))
        return self._raw.readinto(buffer)

    def close(self) -> None:
        self._raw.close()
        super().close()

    def go_on(self) -> None:
        """Let what follows come as it likes, within the time-out of the socket."""
        self._until_s = None
        if self._sock.fileno() >= 0:
            self._sock.settimeout(self._timeout_s)


class TimedAnswer(http.client.HTTPResponse):
    """What a connection makes of an answer: its ``response_class``."""

    def __init__(self, sock: Any, *args: Any, **more: Any) -> None:
        super().__init__(sock, *args, **more)
        self._sock = sock

    def begin(self) -> None:
        """Read the head."""
        timeout_s = self._sock.gettimeout()
        if not timeout_s:
            return super().begin()
        stream = _TimedStream(self.fp.detach(), self._sock, timeout_s)
        self.fp = io.BufferedReader(stream)
        super().begin()
        stream.go_on()
        return None
