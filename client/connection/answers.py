"""What is kept of a request under way, and how its result is decoded."""

from __future__ import annotations

import threading
from collections import deque
from typing import Any

import msgspec

from pantry.errors import PantryError, ProtocolError
from pantry.wire.descriptors import close_all
from pantry.wire.envelope import End, Failure, Item, Reply

Answer = Reply | Item | End | Failure


class Pending:
    """A request under way: what came for it, and the one who waits."""

    __slots__ = ("answers", "result_type", "wakeup")

    def __init__(self, result_type: type[Any]) -> None:
        self.answers: deque[tuple[Answer, tuple[int, ...]]] = deque()
        self.result_type = result_type
        self.wakeup: threading.Condition | None = None


class Abandoned:
    """A request whose answer nobody wants any more; of what it would have held ``result_type`` tells."""

    __slots__ = ("result_type",)

    def __init__(self, result_type: type[Any]) -> None:
        self.result_type = result_type


_decoders: dict[type[Any], msgspec.msgpack.Decoder[Any]] = {}
# Threads that make the decoders of one struct at the same time crash msgspec 0.22.
_making = threading.Lock()


def decode_result(result_type: type[Any], raw: msgspec.Raw, fds: tuple[int, ...] = ()) -> Any:
    """Decode a result; closes the descriptors that came with one that makes no sense."""
    try:
        decoder = _decoders.get(result_type)
        if decoder is None:
            with _making:
                decoder = _decoders[result_type] = msgspec.msgpack.Decoder(result_type)
        return decoder.decode(raw)
    except (msgspec.DecodeError, PantryError, ValueError, RecursionError) as exc:
        close_all(fds)
        raise ProtocolError(
            f"the daemon's {result_type.__name__} cannot be understood: {exc}",
            hint="client and daemon may be of different versions",
        ) from None
    except BaseException:
        close_all(fds)
        raise
