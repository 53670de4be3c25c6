"""What all operations have in common."""

from __future__ import annotations

import functools
from typing import Any, ClassVar, Generic, TypeVar, Union

import msgspec

from pantry.errors import InvalidRequestError

R_co = TypeVar("R_co", covariant=True)


class Operation(msgspec.Struct, Generic[R_co], frozen=True, kw_only=True, omit_defaults=True, tag_field="op"):
    """A request with one answer of type ``R_co``."""

    result_type: ClassVar[type[Any]]


class StreamOperation(Operation[R_co], frozen=True, kw_only=True, omit_defaults=True):
    """A request answered by a stream of batches of type ``R_co``."""


def concrete_operations() -> tuple[type[Operation[Any]], ...]:
    """Return every operation class that can be asked for, sorted by tag."""
    from pantry.wire.operations import load_all

    load_all()
    found: dict[str, type[Operation[Any]]] = {}
    todo: list[type[Operation[Any]]] = [Operation]
    while todo:
        for child in todo.pop().__subclasses__():
            todo.append(child)
            if "result_type" in child.__dict__:
                found[str(child.__struct_config__.tag)] = child
    return tuple(found[tag] for tag in sorted(found))


@functools.cache
def _decoder() -> msgspec.msgpack.Decoder[Any]:
    return msgspec.msgpack.Decoder(Union[concrete_operations()])  # noqa: UP007 - a union made at run time


def decode_operation(raw: msgspec.Raw) -> Operation[Any]:
    """Decode the operation of a request; `InvalidRequestError` if it is unknown or malformed."""
    try:
        operation: Operation[Any] = _decoder().decode(raw)
    except (msgspec.DecodeError, msgspec.ValidationError, UnicodeDecodeError, RecursionError) as exc:
        raise InvalidRequestError(
            f"the request cannot be understood: {exc}", hint="client and daemon may be of different versions"
        ) from None
    except ValueError as exc:
        raise InvalidRequestError(f"the request has a bad value: {exc}") from None
    return operation
