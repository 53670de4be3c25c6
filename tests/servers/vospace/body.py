"""The body of a request: of a known length, or in chunks."""

from __future__ import annotations

from email.message import Message
from io import BufferedIOBase

_MAX_DRAINED_BYTES = 1 << 28
_BLOCK = 1 << 16


class Body:
    """Reads a request's body, and never beyond it.

    Attributes
    ----------
    length : int or None
        In bytes; None if it comes in chunks.
    received_bytes : int
        So far.
    """

    def __init__(self, stream: BufferedIOBase, headers: Message) -> None:
        self._stream = stream
        self._is_chunked = "chunked" in (headers.get("Transfer-Encoding") or "").lower()
        length = headers.get("Content-Length") or "0"
        self.length = None if self._is_chunked else int(length) if length.isdigit() else 0
        self._left = self.length or 0
        self._ended = not self._is_chunked and not self._left
        self.received_bytes = 0

    def read(self, most: int) -> bytes:
        """The next bytes, at most so many; empty at the end, or where the peer went away."""
        if self._is_chunked and not self._left and not self._ended:
            self._next_chunk()
        if self._ended:
            return b""
        block = self._stream.read(min(most, self._left))
        self.received_bytes += len(block)
        self._left -= len(block)
        if not block:
            self._ended = True
            self._left = -1  # cut off: nothing sensible can follow on this connection
        elif not self._left:
            if self._is_chunked:
                self._stream.readline(3)
            else:
                self._ended = True
        return block

    def drain(self) -> bool:
        """Read what is left, so that the next request can be found; False if it cannot."""
        while self.received_bytes < _MAX_DRAINED_BYTES and self.read(_BLOCK):
            pass
        return self._ended and self._left == 0

    def _next_chunk(self) -> None:
        try:
            self._left = int(self._stream.readline(100).split(b";")[0], 16)
        except ValueError:
            self._ended, self._left = True, -1
            return
        if not self._left:
            self._ended = True
            while self._stream.readline(1000) not in (b"\r\n", b"\n", b""):
                pass
