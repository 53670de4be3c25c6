"""Objects in the making against bytes: chunks, readers who come and go, faults, restarts; whatever the order.

The origin is one of the test's own. A transfer waits until the machine says what becomes of it, so that every
interleaving is the machine's choice and can be repeated.
"""

from __future__ import annotations

import functools
import os
import random
import shutil
import tempfile
import threading
from collections.abc import Awaitable, Callable, MutableSequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple, TypeVar

import pytest
import trio
import trio.testing
import xxhash
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, multiple, rule

from pantry.backends.contract import ByteRange
from pantry.daemon.cache import chunks, partial
from pantry.daemon.cache.account import charged
from pantry.daemon.cache.flights import Source
from pantry.daemon.cache.memory import MemoryStore
from pantry.daemon.cache.object_id import ObjectId
from pantry.daemon.cache.objects import ObjectCache
from pantry.daemon.cache.partial import PartialObject
from pantry.daemon.cache.partials import PartialObjects
from pantry.daemon.config import CacheConfig
from pantry.errors import (
    BackendError,
    CacheFullError,
    IntegrityError,
    ObjectChangedError,
    PantryError,
    StaleHandleError,
    TransientBackendError,
)

CHUNK = 4096
SIZES = (8 * CHUNK, 3 * CHUNK + 1, 10 * CHUNK - 7, 100, 0)
QUOTA = 40 * CHUNK
LENGTHS = (1, CHUNK, 2 * CHUNK, 3 * CHUNK, 1 << 20)
NUMBERS = st.sampled_from((0, 0, 0, 1, 2))
R = TypeVar("R")


class Trio:
    """A trio loop in a thread of its own, that the machine asks for one step at a time."""

    def __init__(self) -> None:
        self._ready = threading.Event()
        self._thread = threading.Thread(target=lambda: trio.run(self._main), name="trio")
        self._thread.start()
        self._ready.wait()

    async def _main(self) -> None:
        self._token = trio.lowlevel.current_trio_token()
        self._end = trio.Event()
        self._ready.set()
        await self._end.wait()

    def run(self, step: Callable[[], Awaitable[R]]) -> R:
        """Run a step, and whatever it sets going, until all wait for the machine."""

        async def run() -> R:
            result = await step()
            await settle()
            return result

        return trio.from_thread.run(run, trio_token=self._token)

    def close(self) -> None:
        trio.from_thread.run_sync(self._end.set, trio_token=self._token)
        self._thread.join()


async def settle() -> None:
    """Return when every task waits for the machine: not for another task, nor for a thread."""
    limiter = trio.to_thread.current_default_thread_limiter()
    while True:
        await trio.testing.wait_all_tasks_blocked()
        if not limiter.borrowed_tokens:
            await trio.testing.wait_all_tasks_blocked()
            return
        await trio.sleep(0.0005)


class InOrder(random.Random):
    """Chance that leaves lists as they are."""

    def shuffle(self, x: MutableSequence[Any]) -> None:
        """Do nothing."""


class Order(NamedTuple):
    """What becomes of a transfer: so many chunks come, of which one may be wrong; then an error, or the rest."""

    chunks: int
    wrong: bool
    error: PantryError | None


class Transfer:
    """A request that the origin got."""

    def __init__(self, key: str, span: ByteRange) -> None:
        self.key = key
        self.span = span
        self.at = span.start
        self.orders = trio.open_memory_channel[Order](100)


class Origin:
    """A storage that answers when it is told to."""

    location = "test://origin"

    def __init__(self) -> None:
        self.contents: dict[str, bytes] = {}
        self.versions: dict[str, str] = {}
        self.history: dict[tuple[str, str], bytes] = {}
        """What each version is."""
        self.kept: dict[tuple[str, int], PartialObject] = {}
        """Chunks that the last run left, which are not to be asked for again."""
        self.under_way: list[Transfer] = []
        self.sent: dict[tuple[str, int], bytes] = {}
        """What was sent last of each chunk that was not as it should be."""
        self.stat_error: PantryError | None = None

    async def stat(self, key: str) -> Any:
        if self.stat_error is not None:
            error, self.stat_error = self.stat_error, None
            raise error
        return SimpleNamespace(size_bytes=len(self.contents[key]), version=self.versions[key])

    async def read_into(
        self,
        key: str,
        span: ByteRange,
        fd: int,
        *,
        if_version: str | None,
        askers: object,
        on_progress: Callable[[int], None],
    ) -> None:
        if if_version is not None and if_version != self.versions[key]:
            raise ObjectChangedError("another version")
        for number in range(span.start // CHUNK, -(-span.stop // CHUNK)):
            kept = self.kept.get((key, number))
            assert kept is None or kept.broken, f"chunk {number} of {key} is asked for, which an earlier run left"
        for other in self.under_way:
            assert other.key != key or other.span.stop <= span.start or span.stop <= other.span.start, (
                f"bytes {span} are asked for while {other.span} are on their way"
            )
        transfer = Transfer(key, span)
        self.under_way.append(transfer)
        try:
            while transfer.at < span.stop:
                order = await transfer.orders[1].receive()
                if if_version is not None and if_version != self.versions[key]:
                    raise ObjectChangedError("another version")
                # In a thread, as it is for real: what it tells comes in before its end does.
                await trio.to_thread.run_sync(self._send, transfer, order, fd, on_progress)
                if order.error is not None:
                    raise order.error
        finally:
            self.under_way.remove(transfer)

    def _send(self, transfer: Transfer, order: Order, fd: int, on_progress: Callable[[int], None]) -> None:
        for number in range(order.chunks):
            if transfer.at >= transfer.span.stop:
                return
            stop = min(transfer.at + CHUNK, transfer.span.stop)
            data = self.contents[transfer.key][transfer.at : stop]
            name = (transfer.key, transfer.at // CHUNK)
            self.sent.pop(name, None)
            if order.wrong and number == 0:
                data = self.sent[name] = bytes([data[0] ^ 0xFF]) + data[1:]
            # In two writes, as sockets give them.
            os.pwrite(fd, data[:1], transfer.at)
            on_progress(transfer.at + 1)
            if len(data) > 1:
                os.pwrite(fd, data[1:], transfer.at + 1)
                on_progress(stop)
            transfer.at = stop


class Reader:
    """Somebody with an open file."""

    def __init__(self, number: int, fd: int, making: PartialObject | None, run: int) -> None:
        self.number = number
        self.fd = fd
        self.making = making
        self.run = run


class Demand:
    """A read under way."""

    def __init__(self, reader: Reader, start: int, stop: int) -> None:
        self.reader = reader
        self.start = start
        self.stop = stop
        self.scope = trio.CancelScope()
        self.done = False
        self.error: BaseException | None = None


class PartialMachine(RuleBasedStateMachine):
    """Readers and the origin, against the bytes that should be there."""

    readers = Bundle("readers")
    demands = Bundle("demands")

    def __init__(self) -> None:
        super().__init__()
        self.patch = pytest.MonkeyPatch()
        self.patch.setattr(chunks, "SMALLEST_CHUNK_BYTES", CHUNK)
        self.patch.setattr(partial, "LARGEST_REQUEST_BYTES", 3 * CHUNK)
        self.patch.setattr(partial, "MOST_FLIGHTS", 3)
        # Trio shuffles what can run. Here it does not: how often it would depends on how fast threads are, and
        # what depends on that cannot be repeated.
        self.patch.setattr(trio._core._run, "_ALLOW_DETERMINISTIC_SCHEDULING", True)  # type: ignore[attr-defined]
        self.patch.setattr(trio._core._run, "_r", InOrder())  # type: ignore[attr-defined]
        self.directory = tempfile.mkdtemp(prefix="pty-")
        self.config = CacheConfig(
            directory=os.path.join(self.directory, "cache"),
            quota_bytes=QUOTA,
            high_water=1.0,
            low_water=1.0,
            keep_free_bytes=0,
            keep_free_inodes=0,
            chunk_bytes=CHUNK,
        )
        self.origin = Origin()
        self.trio = Trio()
        self.run = 0
        self.trace: list[str] = []
        """What was done, for a failure that does not come again."""
        self.open: list[Reader] = []
        self.waiting: list[Demand] = []
        self.ids: list[ObjectId] = []
        for number, size in enumerate(SIZES):
            data = bytes((number * 37 + at // CHUNK * 11 + at) % 251 for at in range(size))
            self.origin.contents[str(number)] = data
            self.origin.versions[str(number)] = "v1"
            self.origin.history[str(number), "v1"] = data
            self.ids.append(ObjectId("realm", xxhash.xxh3_128_hexdigest(data)))
        self.trio.run(self.start)

    async def start(self) -> None:
        started = trio.Event()

        async def live() -> None:
            self.ended = trio.Event()
            async with trio.open_nursery() as nursery:
                self.cache = ObjectCache(self.config)
                self.memory = MemoryStore(QUOTA)
                self.partials = PartialObjects(self.cache, self.memory, nursery)
                self.nursery = nursery
                started.set()
                await trio.sleep_forever()
            self.ended.set()

        trio.lowlevel.spawn_system_task(live)
        await started.wait()

    async def stop(self, *, kill: bool) -> None:
        self.nursery.cancel_scope.cancel()
        await self.ended.wait()
        self.partials.close()
        self.memory.close()
        if kill:
            self.cache.lingering.close()
            self.cache.disk.close()
        else:
            self.cache.close()

    def teardown(self) -> None:
        # Everybody who still waits gets an answer once the origin sends what it was asked for.
        try:
            for _ in range(1000):
                if not self.origin.under_way:
                    break
                self.order(0, Order(100, False, None))
            assert not self.origin.under_way, "transfers without end"
            assert all(one.done for one in self.waiting), "a reader waits for what nobody fetches"
        finally:
            self.trio.run(lambda: self.stop(kill=False))
            self.trio.close()
            for reader in self.open:
                os.close(reader.fd)
            self.patch.undo()
            shutil.rmtree(self.directory)

    # -- readers --------------------------------------------------------------------------------------

    @rule(target=readers, number=st.integers(0, len(SIZES) - 1))
    def open_one(self, number: int) -> Any:
        reader = self.acquire(number)
        return multiple() if reader is None else reader

    @rule(target=demands, number=NUMBERS, where=st.floats(0, 1), length=st.sampled_from(LENGTHS))
    def open_and_read(self, number: int, where: float, length: int) -> Any:
        reader = self.acquire(number)
        demand = None if reader is None else self.ask(reader, where, length)
        return multiple() if demand is None else demand

    def acquire(self, number: int) -> Reader | None:
        one = self.ids[number]

        async def step() -> Reader | None:
            fd = await self.cache.open(one)
            if fd is not None:
                return Reader(number, fd, None, self.run)
            source = Source(self.origin, str(number))  # type: ignore[arg-type]
            try:
                making = self.partials.acquire(one, SIZES[number], source, str(number))
            except CacheFullError:
                return None
            return Reader(number, making.open_for_reader(), making, self.run)

        reader = self.trio.run(step)
        if reader is None:
            return None
        if reader.making is None:
            data = self.origin.history[str(number), "v1"]
            assert os.pread(reader.fd, len(data) + 1, 0) == data, "a complete object is not what was registered"
        self.open.append(reader)
        return reader

    @rule(
        target=demands, reader=readers, where=st.floats(0, 1), length=st.sampled_from((0, 1, CHUNK, 3 * CHUNK, 1 << 20))
    )
    def read(self, reader: Reader, where: float, length: int) -> Any:
        demand = self.ask(reader, where, length)
        return multiple() if demand is None else demand

    def ask(self, reader: Reader, where: float, length: int) -> Demand | None:
        if reader.making is None or reader.run != self.run or reader not in self.open:
            return None
        making, size = reader.making, SIZES[reader.number]
        self.trace.append(f"read {reader.number} at {where} {length}")
        start = int(size * where)
        demand = Demand(reader, start, min(size, start + length))

        async def work() -> None:
            with demand.scope:
                try:
                    await making.ensure(demand.start, demand.stop)
                    self.check(demand)
                except (BackendError, IntegrityError, ObjectChangedError, StaleHandleError, CacheFullError) as exc:
                    demand.error = exc
                except BaseException as exc:
                    demand.error = exc
                    raise
            demand.done = True

        async def step() -> None:
            self.nursery.start_soon(work)

        self.waiting.append(demand)
        self.trio.run(step)
        return demand

    def check(self, demand: Demand) -> None:
        """What was waited for is there, and as the origin sent it."""
        number = demand.reader.number
        found = os.pread(demand.reader.fd, demand.stop - demand.start, demand.start)
        making = demand.reader.making
        assert making is not None
        assert making.published or not making.map.complete or not found, "the last chunk came without the proof"
        first = self.origin.history[str(number), "v1"]
        expected = first if making.published else self.origin.history[str(number), making.version or "v1"]
        if found != expected[demand.start : demand.stop]:
            # Only the origin itself may have sent it so, and only while the whole was never proven.
            sent = bytearray(expected)
            for (key, chunk), data in self.origin.sent.items():
                if key == str(number):
                    sent[chunk * CHUNK : chunk * CHUNK + len(data)] = data
            assert found == sent[demand.start : demand.stop], f"wrong bytes in {demand.start}:{demand.stop} of {number}"
            assert not making.published

    @rule(number=NUMBERS, where=st.floats(0, 1), count=st.integers(0, 4))
    def two_read_and_some_comes(self, number: int, where: float, count: int) -> None:
        for length in (1 << 20, CHUNK):
            if (reader := self.acquire(number)) is not None:
                self.ask(reader, where if length == CHUNK else 0, length)
        for _ in range(count):
            self.order(0, Order(1, False, None))

    @rule(demand=consumes(demands))
    def cancel(self, demand: Demand) -> None:
        self.trace.append(f"cancel {demand.start} {demand.stop}")

        async def step() -> None:
            demand.scope.cancel()

        self.trio.run(step)

    @rule(reader=consumes(readers))
    def close_one(self, reader: Reader) -> None:
        if reader not in self.open:
            return

        async def step() -> None:
            for demand in self.waiting:
                if demand.reader is reader:
                    demand.scope.cancel()
            await settle()
            if reader.making is not None and reader.run == self.run:
                self.partials.release(reader.making)
            os.close(reader.fd)

        self.trace.append(f"close {reader.number}")
        self.open.remove(reader)
        self.trio.run(step)

    # -- the origin -----------------------------------------------------------------------------------

    def order(self, which: int, order: Order) -> None:
        self.trace.append(f"order {which} {order}")
        under_way = self.origin.under_way
        if under_way:
            transfer = under_way[which % len(under_way)]

            # One chunk at a time, so that what each of them sets going is done before the next comes.
            for number in range(max(order.chunks, 1)):
                if transfer not in under_way:
                    return
                last = number == max(order.chunks, 1) - 1
                one = Order(min(order.chunks, 1), order.wrong and number == 0, order.error if last else None)
                self.trio.run(functools.partial(self.send, transfer, one))

    @staticmethod
    async def send(transfer: Transfer, order: Order) -> None:
        transfer.orders[0].send_nowait(order)

    @rule(which=st.integers(0, 8), count=st.integers(1, 4))
    def some_comes(self, which: int, count: int) -> None:
        self.order(which, Order(count, False, None))

    @rule(which=st.integers(0, 8), number=NUMBERS, fault=st.sampled_from(("wrong", "break", "look", "new version")))
    def something_goes_wrong(self, which: int, number: int, fault: str) -> None:
        if fault == "wrong":
            self.order(which, Order(1, True, None))
        elif fault == "break":
            self.break_off(which)
        elif fault == "look":
            self.origin.stat_error = TransientBackendError("no answer")
        else:
            self.write_anew(str(number))

    def break_off(self, which: int) -> None:
        under_way = self.origin.under_way
        if under_way:
            broken = under_way[which % len(under_way)]
            disappointed = [
                one
                for one in self.waiting
                if not one.done
                and str(one.reader.number) == broken.key
                and one.start < broken.span.stop
                and broken.at < one.stop
            ]
            self.order(which, Order(0, False, TransientBackendError("reset")))
            assert all(one.done and one.error for one in disappointed), "a failure was told to nobody"

    def write_anew(self, key: str) -> None:
        """Other bytes of the same length, or the first ones again: not to be mixed with what is under way."""
        self.trace.append(f"write {key} anew")
        version = self.origin.versions[key] = self.origin.versions[key] + "+"
        data, first = self.origin.contents[key], self.origin.history[key, "v1"]
        self.origin.contents[key] = first if data != first else bytes(one ^ 0x55 for one in first)
        self.origin.history[key, version] = self.origin.contents[key]

    # -- the daemon -----------------------------------------------------------------------------------

    @rule()
    def evict(self) -> None:
        async def step() -> None:
            self.cache.evict(QUOTA)

        self.trace.append("evict")
        self.origin.kept.clear()
        self.trio.run(step)

    @rule(kill=st.booleans(), spoil=st.booleans())
    def restart(self, kill: bool, spoil: bool) -> None:
        self.trace.append(f"restart {kill} {spoil}")
        self.trio.run(lambda: self.stop(kill=kill))
        self.waiting.clear()
        if spoil:
            # A crash of the machine may leave a note without its data.
            for path in Path(self.config.directory, "incoming").glob("*.partial"):
                path.chmod(0o600)
                with open(path, "r+b") as file:
                    file.write(b"\xee" * 10)
        self.run += 1
        self.trio.run(self.start)
        self.origin.kept = {
            (str(self.ids.index(one.object_id)), number): one
            for one in self.partials.items()
            for number in range(len(one.map))
            if one.map.state(number) == chunks.RECORDED and self.is_sound(one, number)
        }

    def is_sound(self, one: PartialObject, number: int) -> bool:
        """Whether a chunk on the disk is what the origin sent."""
        key = str(self.ids.index(one.object_id))
        start, stop = one.map.span(number, number + 1)
        found = Path(one.backing.path).read_bytes()[start:stop]  # type: ignore[attr-defined]
        sent = self.origin.sent.get((key, number), self.origin.history[key, one.version or "v1"][start:stop])
        return found == sent

    # -- what always holds ----------------------------------------------------------------------------

    @invariant()
    def the_account_is_what_is_there(self) -> None:
        async def step() -> tuple[int, int, int]:
            self.cache.lingering.settle()
            stored = sum(charged(one.size_bytes) for _, one in self.cache.items())
            stored += sum(one.map.stored_bytes for one in self.partials.items())
            stored += self.cache.lingering.size_bytes
            return stored, self.cache.used_bytes, self.cache.reserved_bytes

        stored, used, reserved = self.trio.run(step)
        assert used == stored
        assert reserved == sum(
            charged(one.span.stop - one.at) if one.at < one.span.stop else 0 for one in self.origin.under_way
        )
        assert used + reserved <= QUOTA

    @invariant()
    def complete_objects_are_what_was_registered(self) -> None:
        for one in [key for key, _ in self.cache.items()]:
            data = Path(self.cache.path_of(one)).read_bytes()
            assert xxhash.xxh3_128_hexdigest(data) == one.hash

    @invariant()
    def a_range_that_is_there_is_answered(self) -> None:
        for demand in self.waiting:
            making = demand.reader.making
            assert making is not None
            if not demand.done and making.broken:
                raise AssertionError("somebody waits for what was given up")
            if not demand.done and not making.map.complete and making.map.has(demand.start, demand.stop):
                raise AssertionError("somebody waits for what is there")

    @invariant()
    def nothing_is_fetched_that_nobody_waits_for(self) -> None:
        for transfer in self.origin.under_way:
            assert any(
                # Of all it was to fetch: what is left of it is looked at when somebody leaves, not with every chunk.
                demand.start < transfer.span.stop
                and transfer.span.start < demand.stop
                and str(demand.reader.number) == transfer.key
                for demand in self.waiting
                if not demand.done
            ), f"nobody waits for {transfer.key}, {transfer.span} from {transfer.at} on; done was {self.trace}"

    @invariant()
    def somebody_fetches_what_is_waited_for(self) -> None:
        if any(not one.done for one in self.waiting):
            assert self.origin.under_way, "readers wait, and nothing is on its way"


PartialMachine.TestCase.settings = settings(
    max_examples=150, stateful_step_count=40, deadline=None, suppress_health_check=list(HealthCheck)
)
test_partial_machine = PartialMachine.TestCase


class LongPartialMachine(PartialMachine):
    """The same for longer."""


LongPartialMachine.TestCase.settings = settings(PartialMachine.TestCase.settings, max_examples=3000)
test_partial_machine_for_long = pytest.mark.soak(LongPartialMachine.TestCase)
