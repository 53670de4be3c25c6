"""The contents of frames: hello, requests, answers, streams, errors, cancellation.

The client opens with `Hello`; the daemon answers `Welcome` or `Failure` 0 and closes. Then each
`Request` has a number of the client's choice, and is answered by exactly one of `Reply`, `Failure`
or, for a stream, any number of `Item` and one `End`; answers come in any order. The daemon sends at
most `STREAM_WINDOW` items beyond those that the client has acknowledged with `Credit`.
"""

from __future__ import annotations

from typing import Any

import msgspec

from pantry.errors import FieldValue, PantryError, ProtocolError, from_wire

PROTOCOL_VERSIONS = (1,)
"""Versions that this software speaks, newest last."""
STREAM_WINDOW = 8
"""Items of one stream that may be under way unacknowledged."""
MAX_REQUESTS = 256
"""Requests of one connection that may be under way."""


class Hello(msgspec.Struct, frozen=True, tag="hello"):
    """First frame of a client.

    Attributes
    ----------
    versions : tuple of int
        Protocol versions that it speaks.
    client : str
        Name and version, for the log.
    """

    versions: tuple[int, ...]
    client: str = ""


class Welcome(msgspec.Struct, frozen=True, tag="welcome"):
    """The daemon's answer to `Hello`: the chosen protocol version, and who it is."""

    version: int
    daemon: str
    uid: int


class Behalf(msgspec.Struct, frozen=True, array_like=True):
    """Another user for whom a trusted peer asks: only root, the daemon's own user, or a configured one may."""

    uid: int
    gid: int
    groups: tuple[int, ...] = ()


class Request(msgspec.Struct, frozen=True, tag="request", omit_defaults=True):
    """Ask for one operation; ``number`` is unique among those under way on the connection.

    The operation is decoded apart, so that an unknown one fails this request and not the connection.
    """

    number: int
    operation: msgspec.Raw
    behalf: Behalf | None = None


class Cancel(msgspec.Struct, frozen=True, tag="cancel"):
    """Stop working on a request; it is still answered, with `Failure` or what was already on its way."""

    number: int


class Credit(msgspec.Struct, frozen=True, tag="credit"):
    """Acknowledge ``items`` items of a stream."""

    number: int
    items: int


class Reply(msgspec.Struct, frozen=True, tag="reply"):
    """The result of a request."""

    number: int
    result: msgspec.Raw


class Item(msgspec.Struct, frozen=True, tag="item"):
    """One batch of a streamed result."""

    number: int
    result: msgspec.Raw


class End(msgspec.Struct, frozen=True, tag="end"):
    """The end of a stream."""

    number: int


class Failure(msgspec.Struct, frozen=True, tag="failure"):
    """An error: the stable code of its class, the message, what to do, and details for programs."""

    number: int
    code: str
    message: str
    hint: str = ""
    fields: dict[str, FieldValue] = {}

    def to_error(self) -> PantryError:
        """Make the exception that the daemon raised."""
        return from_wire(self.code, self.message, self.hint, self.fields)


FromClient = Hello | Request | Cancel | Credit
FromDaemon = Welcome | Reply | Item | End | Failure

_BAD = (msgspec.DecodeError, msgspec.ValidationError, UnicodeDecodeError, RecursionError)


def _plain(value: object) -> str:
    """Write text of classes of its own, as numpy's and our predicates, as any text."""
    if isinstance(value, str):
        return str(value)
    raise TypeError(f"a {type(value).__name__} cannot be sent")


_encoder = msgspec.msgpack.Encoder(enc_hook=_plain)
_from_daemon: msgspec.msgpack.Decoder[FromDaemon] = msgspec.msgpack.Decoder(FromDaemon)

_from_client: msgspec.msgpack.Decoder[FromClient] = msgspec.msgpack.Decoder(FromClient)


def encode(message: Any) -> bytes:
    """Encode a message or a result as msgpack."""
    return _encoder.encode(message)


def decode_from_daemon(payload: bytes) -> FromDaemon:
    """Decode what the daemon sent; anything else is a `ProtocolError`."""
    try:
        return _from_daemon.decode(payload)
    except _BAD as exc:
        raise ProtocolError(f"the daemon's message cannot be understood: {exc}") from None


def decode_from_client(payload: bytes) -> FromClient:
    """Decode what a client sent; anything else is a `ProtocolError`."""
    try:
        return _from_client.decode(payload)
    except _BAD as exc:
        raise ProtocolError(f"the client's message cannot be understood: {exc}") from None
