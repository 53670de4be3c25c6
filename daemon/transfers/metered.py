"""Listings and writes, which go to a storage beside the reads of its `Origin`: counted, and within its limit."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from pantry.backends.admission import Admission, Askers
from pantry.backends.contract import ObjectBackend, ObjectStat
from pantry.backends.delegating import DelegatingBackend, listing
from pantry.daemon.transfers.traffic import Traffic


@asynccontextmanager
async def place_in(limit: Admission | None, askers: Askers | None = None) -> AsyncIterator[None]:
    """Wait for a place in the limit of an origin, if it has one and this task has no place yet.

    To be taken before a turn of the node's: whoever waits here keeps nobody from a thread.
    """
    if limit is None or limit.held is not None:
        yield
        return
    async with limit.turn(askers):
        yield


class MeteredBackend(DelegatingBackend):
    """An `ObjectBackend` whose requests are counted and limited.

    No latencies are taken: a request may wait for its turn.

    Parameters
    ----------
    inner : ObjectBackend
        Which is asked.
    traffic : Traffic
        Where it is counted.
    limit : Admission, optional
        Of the origin. A place in it is taken before any turn of the node's, here as in `Origin`.
    """

    def __init__(self, inner: ObjectBackend, traffic: Traffic, limit: Admission | None) -> None:
        super().__init__(inner)
        self._traffic = traffic
        self._limit = limit

    @asynccontextmanager
    async def _asking(self) -> AsyncIterator[ObjectBackend]:
        async with place_in(self._limit):
            with self._traffic.request(timed=False):
                yield self._model

    async def list_keys(self, prefix: str) -> AsyncIterator[ObjectStat]:
        """List; whoever takes the keys slowly keeps no place meanwhile."""
        with self._traffic.request(timed=False):
            async with listing(self._model, prefix) as listed:
                while True:
                    async with place_in(self._limit):
                        one = await anext(listed, None)
                    if one is None:
                        return
                    yield one
