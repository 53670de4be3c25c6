"""Sans-IO framing: length, number of descriptors, payload.

A frame is an 8-byte header (``!IHH``: payload length in bytes, number of descriptors, reserved
zero) and the payload. The descriptors travel as SCM_RIGHTS with the frame's first byte. The kernel
never merges the ancillary data of two sends, so descriptors arrive in the order of their frames.
"""

from __future__ import annotations

import struct
from collections import deque
from collections.abc import Iterable
from typing import NamedTuple

from pantry.errors import ProtocolError
from pantry.wire.descriptors import close_all

HEADER = struct.Struct("!IHH")
MAX_FRAME_BYTES = 16 * 1024 * 1024
"""Longest payload, in bytes; longer answers are streamed in batches."""
MAX_FRAME_FDS = 128
"""Most descriptors in one frame; the kernel takes 253 in one send."""


class Frame(NamedTuple):
    """One complete frame; whoever takes it owns its descriptors."""

    payload: bytes
    fds: tuple[int, ...]


def encode_frame(payload: bytes, n_fds: int = 0) -> bytes:
    """Return header and payload, ready to be sent in one piece with ``n_fds`` descriptors."""
    if len(payload) > MAX_FRAME_BYTES:
        raise ProtocolError(f"frame of {len(payload)} bytes exceeds {MAX_FRAME_BYTES}")
    if n_fds > MAX_FRAME_FDS:
        raise ProtocolError(f"frame with {n_fds} descriptors exceeds {MAX_FRAME_FDS}")
    return HEADER.pack(len(payload), n_fds, 0) + payload


class FrameParser:
    """Collects received bytes and descriptors and gives complete frames.

    Limits are checked on the header, before anything is allocated for the payload. After a
    `ProtocolError` the parser is of no further use; `close` frees the descriptors in any case.
    """

    def __init__(self, *, max_frame_bytes: int = MAX_FRAME_BYTES, max_frame_fds: int = MAX_FRAME_FDS) -> None:
        self._max_frame_bytes = max_frame_bytes
        self._max_frame_fds = max_frame_fds
        self._buffer = bytearray()
        self._fds: deque[int] = deque()

    def feed(self, data: bytes, fds: Iterable[int] = ()) -> list[Frame]:
        """Take what was received; return the frames that are now complete.

        Ownership of ``fds`` passes to the parser, also when it raises.
        """
        self._fds.extend(fds)
        self._buffer += data
        frames: list[Frame] = []
        try:
            while (frame := self._next()) is not None:
                frames.append(frame)
        except ProtocolError:
            for frame in frames:
                close_all(frame.fds)
            raise
        if len(self._fds) > self._max_frame_fds:
            for frame in frames:
                close_all(frame.fds)
            raise ProtocolError(f"{len(self._fds)} descriptors came without a frame that takes them")
        return frames

    def _next(self) -> Frame | None:
        if len(self._buffer) < HEADER.size:
            return None
        length, n_fds, reserved = HEADER.unpack_from(self._buffer)
        if reserved:
            raise ProtocolError("not a Pantry frame: the reserved field is not zero")
        if length > self._max_frame_bytes:
            raise ProtocolError(f"frame of {length} bytes exceeds {self._max_frame_bytes}")
        if n_fds > self._max_frame_fds:
            raise ProtocolError(f"frame with {n_fds} descriptors exceeds {self._max_frame_fds}")
        stop = HEADER.size + length
        if len(self._buffer) < stop:
            return None
        # They come with the frame's first byte, so none can still be on the way.
        if len(self._fds) < n_fds:
            raise ProtocolError(f"frame announces {n_fds} descriptors but only {len(self._fds)} came")
        payload = bytes(memoryview(self._buffer)[HEADER.size : stop])
        del self._buffer[:stop]
        return Frame(payload, tuple(self._fds.popleft() for _ in range(n_fds)))

    @property
    def at_boundary(self) -> bool:
        """Whether nothing is half-received, so that the peer may close cleanly."""
        return not self._buffer and not self._fds

    def close(self) -> None:
        """Close the descriptors that no frame took."""
        close_all(self._fds)
        self._fds.clear()
