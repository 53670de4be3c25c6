"""Pins: what people want kept, by query.

A pin is a query with an owner and, perhaps, an end. It lives in the state directory, so that it outlives the
cache: what it names is kept as soon as it comes back. The objects that a pin holds are known to the cache as
counted pins, and are stored beside the pin, so that they are kept from the first moment of the next start;
`Pins.refresh` runs every query again and changes the difference.

All state belongs to the trio thread. Between two awaits nobody else sees or changes it: `_hold` and `_drop`
are such steps, and the checks of the limits are in the same step as what they allow.
"""

from __future__ import annotations

import contextlib
import logging
import os
import secrets
import sqlite3
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator, Mapping
from contextlib import asynccontextmanager
from functools import partial
from typing import Protocol

import msgspec
import trio

from pantry.daemon.cache.object_id import ObjectId
from pantry.errors import InvalidRequestError, LimitExceededError, NotFoundError, PantryError, PermissionDeniedError
from pantry.model.data_id import DataIdValue

MOST_PINS = 1000
"""Pins of one user."""

log = logging.getLogger(__name__)


class PinRecord(msgspec.Struct, frozen=True, kw_only=True):
    """A pin as it is stored; see `pantry.wire.operations.Pin`."""

    id: str
    owner_uid: int
    repository: str
    dataset_types: tuple[str, ...]
    collections: tuple[str, ...]
    where: str = ""
    data_id: dict[str, DataIdValue] = {}
    note: str = ""
    created_ns: int = 0
    expires_ns: int = 0
    unlimited: bool = False


class PinningCache(Protocol):
    """The cache, as far as pins go."""

    def __contains__(self, object_id: ObjectId) -> bool: ...

    def pin(self, object_id: ObjectId) -> None:
        """Keep an object, once it is there, until it was unpinned as often."""
        ...

    def unpin(self, object_id: ObjectId) -> None:
        """Undo one `pin`."""
        ...


Resolve = Callable[[PinRecord], Awaitable[Mapping[ObjectId, int]]]
"""Runs a pin's query with its owner's rights; gives contents with their sizes in bytes."""


class PinStore:
    """The file of pins; its methods block.

    Parameters
    ----------
    path : str
        A SQLite file, made if need be.
    """

    def __init__(self, path: str) -> None:
        self._db = sqlite3.connect(path, check_same_thread=False, isolation_level=None)
        self._db.execute("PRAGMA synchronous=FULL")
        self._db.execute("CREATE TABLE IF NOT EXISTS pin (id TEXT PRIMARY KEY, body BLOB NOT NULL) WITHOUT ROWID")
        self._db.execute(
            "CREATE TABLE IF NOT EXISTS held (pin TEXT NOT NULL, realm TEXT NOT NULL, hash TEXT NOT NULL,"
            " size_bytes INTEGER NOT NULL, PRIMARY KEY (pin, realm, hash)) WITHOUT ROWID"
        )

    def all(self) -> list[PinRecord]:
        """Return all pins, oldest first."""
        rows = self._db.execute("SELECT body FROM pin").fetchall()
        found = [msgspec.msgpack.decode(body, type=PinRecord) for (body,) in rows]
        return sorted(found, key=lambda one: one.created_ns)

    def add(self, record: PinRecord) -> None:
        """Store a pin durably."""
        self._db.execute("INSERT INTO pin VALUES (?, ?)", (record.id, msgspec.msgpack.encode(record)))

    def remove(self, ids: Iterable[str]) -> None:
        """Forget pins and what they hold, all or none of them."""
        wanted = [(one,) for one in ids]
        with self._transaction():
            self._db.executemany("DELETE FROM pin WHERE id = ?", wanted)
            self._db.executemany("DELETE FROM held WHERE pin = ?", wanted)

    def objects(self, pin: str) -> dict[ObjectId, int]:
        """Return what a pin held when it was last stored, with sizes in bytes."""
        rows = self._db.execute("SELECT realm, hash, size_bytes FROM held WHERE pin = ?", (pin,))
        return {ObjectId(realm, digest): size for realm, digest, size in rows}

    def change(self, pin: str, *, come: Mapping[ObjectId, int], gone: Iterable[ObjectId]) -> None:
        """Store what a pin holds besides, and no more."""
        with self._transaction():
            self._db.executemany(
                "DELETE FROM held WHERE pin = ? AND realm = ? AND hash = ?", [(pin, *one) for one in gone]
            )
            self._db.executemany(
                "INSERT OR REPLACE INTO held VALUES (?, ?, ?, ?)", [(pin, *one, size) for one, size in come.items()]
            )

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[None]:
        self._db.execute("BEGIN IMMEDIATE")
        try:
            yield
            self._db.execute("COMMIT")
        except BaseException:
            with contextlib.suppress(sqlite3.Error):
                self._db.execute("ROLLBACK")
            raise

    def close(self) -> None:
        """Close the file."""
        self._db.close()


class HeldPin:
    """A pin and what it holds now.

    Attributes
    ----------
    record : PinRecord
        As it is stored.
    objects : dict
        Sizes of what it holds, in bytes.
    problem : str
        Why that is not all it should.
    """

    def __init__(self, record: PinRecord) -> None:
        self.record = record
        self.objects: dict[ObjectId, int] = {}
        self.problem = ""


class Pins:
    """All pins; made by `running_pins`.

    Parameters
    ----------
    store : PinStore
        Where they last.
    cache : PinningCache
        That keeps the objects.
    resolve : Resolve
        Runs a pin's query.
    limit_bytes : int
        Most that all pins together may hold; one user half of it, unless administrator.
    refresh_s : float
        How often queries are run again, in seconds.
    now_ns : callable
        The clock, nanoseconds since 1970-01-01 UTC.
    """

    def __init__(
        self,
        store: PinStore,
        cache: PinningCache,
        resolve: Resolve,
        *,
        limit_bytes: int,
        refresh_s: float,
        now_ns: Callable[[], int] = time.time_ns,
    ) -> None:
        self._store = store
        self._cache = cache
        self._resolve = resolve
        self._limit_bytes = limit_bytes
        self._refresh_s = refresh_s
        self._now_ns = now_ns
        self._held = {record.id: HeldPin(record) for record in store.all()}
        for pin in self._held.values():
            self._hold(pin, store.objects(pin.record.id))
        self._storing = trio.Lock()

    # -- what there is -----------------------------------------------------------------------------

    def held(self, uid: int | None = None) -> list[HeldPin]:
        """Return the pins of one user or, with None, all; oldest first."""
        return [one for one in self._held.values() if uid is None or one.record.owner_uid == uid]

    def objects(self, uid: int | None = None) -> dict[ObjectId, int]:
        """Return what the pins of one user or all hold, each content once, with its size in bytes."""
        found: dict[ObjectId, int] = {}
        for one in self.held(uid):
            found.update(one.objects)
        return found

    # -- changes -----------------------------------------------------------------------------------

    async def add(self, record: PinRecord) -> HeldPin:
        """Store a pin and hold what it finds now; the id and the time of making are given here.

        Raises
        ------
        LimitExceededError
            All pins, or the user's, would hold more than they may.
        """
        if record.expires_ns and record.expires_ns <= self._now_ns():
            raise InvalidRequestError("a pin cannot lapse in the past")
        if not record.dataset_types or not record.collections:
            raise InvalidRequestError("a pin needs dataset types and collections", hint="'*' means all of them")
        record = msgspec.structs.replace(record, id="p" + secrets.token_hex(4), created_ns=self._now_ns())
        found = await self._resolve(record)
        async with self._storing:
            pin = HeldPin(record)
            if len(self.held(record.owner_uid)) >= MOST_PINS:
                raise LimitExceededError(f"uid {record.owner_uid} has {MOST_PINS} pins", hint="unpin some")
            self._require_room(record, found)
            # Held before it is durable, since the room that was found must stay ours meanwhile.
            self._held[record.id] = pin
            try:
                self._hold(pin, found)
                with trio.CancelScope(shield=True):
                    await trio.to_thread.run_sync(self._store.add, record)
                    await self._store_change(pin, {})
            except BaseException:
                self._drop(pin)
                raise
        return pin

    async def remove(self, ids: Iterable[str], uid: int | None) -> int:
        """Remove pins by id, of this user only or with None anybody's; all or none of them."""
        wanted = list(dict.fromkeys(ids))
        async with self._storing:
            for one in wanted:
                pin = self._held.get(one)
                # Another user's pin is as unknown as one that does not exist.
                if pin is None or (uid is not None and pin.record.owner_uid != uid):
                    raise NotFoundError(f"you have no pin {one!r}", hint="`pantry cache pins` lists them")
            await self._remove(wanted)
        return len(wanted)

    async def _remove(self, ids: list[str]) -> None:
        with trio.CancelScope(shield=True):
            await trio.to_thread.run_sync(self._store.remove, ids)
        for one in ids:
            self._drop(self._held[one])

    # -- keeping up --------------------------------------------------------------------------------

    async def run(self) -> None:
        """Refresh at once, then every ``refresh_s`` and when a pin lapses; for ever."""
        while True:
            await self.refresh()
            ends = [one.record.expires_ns for one in self._held.values() if one.record.expires_ns]
            until_end = (min(ends) - self._now_ns()) / 1e9 if ends else self._refresh_s
            await trio.sleep(min(self._refresh_s, max(until_end, 0.01)))

    async def refresh(self) -> None:
        """Let go of pins that have lapsed, and run the queries of the others again."""
        async with self._storing:
            now = self._now_ns()
            lapsed = [one.record.id for one in self.held() if 0 < one.record.expires_ns <= now]
            if lapsed:
                try:
                    await self._remove(lapsed)
                except sqlite3.Error as exc:
                    log.error("lapsed pins cannot be removed now: %s", exc)
        for pin in self.held():
            await self._refresh_one(pin)

    async def _refresh_one(self, pin: HeldPin) -> None:
        try:
            found = await self._resolve(pin.record)
        except PermissionDeniedError as exc:
            # Whoever may no longer read it may no longer keep it.
            found, pin.problem = {}, exc.message
        except PantryError as exc:
            # What was found before is kept: the registry may only be out of reach.
            pin.problem = exc.message
            log.info("pin %s: %s", pin.record.id, exc.message)
            return
        except Exception:
            pin.problem = "its query failed by a defect, which the daemon's log shows"
            log.exception("pin %s", pin.record.id)
            return
        else:
            pin.problem = ""
        if self._held.get(pin.record.id) is not pin:
            return
        allowed = self._within_limits(pin, found)
        if len(allowed) < len(found):
            pin.problem = f"{len(found) - len(allowed)} of {len(found)} objects are over the limit of pins"
        before = pin.objects
        self._hold(pin, allowed)
        async with self._storing:
            if self._held.get(pin.record.id) is pin:
                await self._store_change(pin, before)

    async def _store_change(self, pin: HeldPin, before: Mapping[ObjectId, int]) -> None:
        """Remember what a pin holds for the next start; without it, the pin holds only after its query has run."""
        come = {one: size for one, size in pin.objects.items() if one not in before}
        gone = [one for one in before if one not in pin.objects]
        if not come and not gone:
            return
        try:
            with trio.CancelScope(shield=True):
                await trio.to_thread.run_sync(partial(self._store.change, pin.record.id, come=come, gone=gone))
        except sqlite3.Error as exc:
            log.error("what pin %s holds cannot be stored now: %s", pin.record.id, exc)

    def _hold(self, pin: HeldPin, objects: Mapping[ObjectId, int]) -> None:
        """Make ``objects`` what the pin holds."""
        for one in objects.keys() - pin.objects.keys():
            self._cache.pin(one)
        for one in pin.objects.keys() - objects.keys():
            self._cache.unpin(one)
        pin.objects = dict(objects)

    def _drop(self, pin: HeldPin) -> None:
        self._hold(pin, {})
        self._held.pop(pin.record.id, None)

    # -- limits ------------------------------------------------------------------------------------

    def _user_limit(self, record: PinRecord) -> int:
        return self._limit_bytes if record.unlimited else self._limit_bytes // 2

    def _require_room(self, record: PinRecord, found: Mapping[ObjectId, int]) -> None:
        for held, limit, whose in (
            (self.objects(), self._limit_bytes, "all pins"),
            (self.objects(record.owner_uid), self._user_limit(record), "your pins"),
        ):
            before = sum(held.values())
            more = sum(size for one, size in found.items() if one not in held)
            if before + more > limit:
                raise LimitExceededError(
                    f"{whose} may hold {limit} bytes; they hold {before}, and this one adds {more}",
                    hint="pin less, or unpin something; the administrator may raise cache.pin_fraction",
                    limit_bytes=limit,
                    held_bytes=before,
                    added_bytes=more,
                )

    def _within_limits(self, pin: HeldPin, found: Mapping[ObjectId, int]) -> dict[ObjectId, int]:
        """Choose what a pin whose query finds more than before may hold: what it holds already comes first."""
        everybody, own = (
            _held_by([one for one in self.held(uid) if one is not pin]) for uid in (None, pin.record.owner_uid)
        )
        room = self._limit_bytes - sum(everybody.values())
        own_room = self._user_limit(pin.record) - sum(own.values())
        allowed: dict[ObjectId, int] = {}
        for one in sorted(found, key=lambda one: one not in pin.objects):
            size, new, own_new = found[one], one not in everybody, one not in own
            if (new and size > room) or (own_new and size > own_room):
                continue
            room -= size if new else 0
            own_room -= size if own_new else 0
            allowed[one] = size
        return allowed


def _held_by(pins: Iterable[HeldPin]) -> dict[ObjectId, int]:
    found: dict[ObjectId, int] = {}
    for one in pins:
        found.update(one.objects)
    return found


@asynccontextmanager
async def running_pins(
    state_directory: str, cache: PinningCache, resolve: Resolve, *, limit_bytes: int, refresh_s: float
) -> AsyncIterator[Pins]:
    """Open the pins of a state directory, and own the task that keeps them up."""
    with contextlib.closing(PinStore(os.path.join(state_directory, "pins.sqlite3"))) as store:
        pins = Pins(store, cache, resolve, limit_bytes=limit_bytes, refresh_s=refresh_s)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(pins.run)
            yield pins
            nursery.cancel_scope.cancel()
