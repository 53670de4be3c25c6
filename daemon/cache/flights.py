"""Who waits for which bytes of an object in the making, and the requests under way for them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import trio

from pantry.backends.admission import Askers, acting_uid
from pantry.backends.contract import ByteRange
from pantry.daemon.cache.account import Reservation
from pantry.daemon.transfers.origin import Origin
from pantry.errors import PantryError

if TYPE_CHECKING:
    pass


class Source:
    """Where an object can be fetched from.

    Parameters
    ----------
    origin : Origin
        The storage.
    key : str
        Of the object there.
    """

    def __init__(self, origin: Origin, key: str) -> None:
        self.origin = origin
        self.key = key


class Flight:
    """One request upstream, for a run of chunks."""

    def __init__(self, first: int, stop: int, span: ByteRange, reservation: Reservation) -> None:
        self.first = first
        self.stop = stop
        self.span = span
        self.reservation = reservation
        self.next = first
        self.digest = ""
        self.askers = Askers()
        self.scope = trio.CancelScope()


class Demand:
    """A range that somebody waits for."""

    def __init__(self, start: int, stop: int) -> None:
        self.start = start
        self.stop = stop
        self.uid = acting_uid.get()
        self.failure: PantryError | None = None

    def overlaps(self, start: int, stop: int) -> bool:
        """Whether a byte of ``[start, stop)`` is waited for."""
        return self.start < stop and start < self.stop
