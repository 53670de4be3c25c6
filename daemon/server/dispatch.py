"""From an operation to its handler; the one place where errors become wire codes."""

from __future__ import annotations

import logging
import secrets
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

from pantry.daemon.server.context import RequestContext
from pantry.errors import InternalError, InvalidRequestError, PantryError
from pantry.wire.envelope import Failure
from pantry.wire.operations import Operation, StreamOperation

O = TypeVar("O", bound=Operation[Any])  # noqa: E741 - an operation
Handler = Callable[[RequestContext, Any], Awaitable[Any]]

log = logging.getLogger(__name__)


class Dispatcher:
    """Knows the handler of every operation."""

    def __init__(self) -> None:
        self._handlers: dict[type[Operation[Any]], Handler] = {}

    def register(self, kind: type[O], handler: Callable[[RequestContext, O], Awaitable[Any]]) -> None:
        """Let ``handler`` answer operations of type ``kind``.

        It returns the result, or for a stream emits batches and returns None.
        """
        if kind in self._handlers:
            raise ValueError(f"{kind.__name__} has a handler already")
        self._handlers[kind] = handler

    @property
    def known(self) -> frozenset[type[Operation[Any]]]:
        """Operations that have a handler."""
        return frozenset(self._handlers)

    async def dispatch(self, context: RequestContext, operation: Operation[Any]) -> Any:
        """Run the handler of an operation; None for a stream that has ended."""
        handler = self._handlers.get(type(operation))
        if handler is None:
            raise InvalidRequestError(f"this daemon does not answer {type(operation).__name__}")
        result = await handler(context, operation)
        if isinstance(operation, StreamOperation):
            return None
        return result


def to_failure(number: int, error: Exception) -> Failure:
    """Turn any error into what the peer gets; what is not ours is logged and hidden."""
    if isinstance(error, PantryError):
        return Failure(number, error.code, error.message, error.hint, error.fields)
    mark = secrets.token_hex(4)
    log.error("internal error %s", mark, exc_info=error)
    internal = InternalError(
        f"a defect in Pantry ({type(error).__name__}), logged by the daemon as {mark}",
        hint="please report it with the daemon's log",
    )
    return Failure(number, internal.code, internal.message, internal.hint, {"mark": mark})
