"""What a Butler needs of whoever answers its operations: a daemon, or the index of a bundle."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

from pantry.wire.operations import Operation, StreamOperation

if TYPE_CHECKING:
    from pantry.wire.envelope import Welcome

R = TypeVar("R")


class Link(ABC):
    """An open way to who answers; of no further use once it broke, or in another process.

    Attributes
    ----------
    welcome : Welcome
        Who answers.
    """

    welcome: Welcome

    def call(self, operation: Operation[R], fds: Sequence[int] = ()) -> R:
        """Ask for one operation and wait for its result; see `Connection.call`."""
        result, came = self.call_with_fds(operation, fds)
        if came:
            from pantry.wire.descriptors import close_all  # brings sockets with it, which a bundle does not need

            close_all(came)
        return result

    @abstractmethod
    def call_with_fds(self, operation: Operation[R], fds: Sequence[int] = ()) -> tuple[R, tuple[int, ...]]:
        """Ask for one operation; the descriptors that come with the result belong to the caller."""

    @abstractmethod
    def stream(self, operation: StreamOperation[R]) -> Iterator[R]:
        """Ask for a stream; its batches come as they are taken, and closing the iterator cancels it."""

    @abstractmethod
    def post(self, operation: Operation[Any]) -> None:
        """Ask for one operation and drop its answer; never waits for it nor raises, for use in ``__del__``."""

    @property
    @abstractmethod
    def is_alive(self) -> bool:
        """Whether the link can be used: not broken, and not inherited from another process."""

    @abstractmethod
    def notices_hangup(self) -> bool:
        """Tell, without waiting, whether the other side has closed the link."""

    @abstractmethod
    def close(self) -> None:
        """Close the link; whoever still waits gets an error."""

    @abstractmethod
    def disown(self) -> None:
        """Close a forked child's copies of the descriptors; the parent's are not disturbed."""
