"""The cache of complete objects against a small model: who is there, in which order they go, and what is counted."""

from __future__ import annotations

import os
import shutil
import tempfile
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pytest
import trio
import xxhash
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, initialize, invariant, multiple, rule

from pantry.daemon.cache.account import Reservation, charged
from pantry.daemon.cache.damage import damage
from pantry.daemon.cache.object_id import ObjectId
from pantry.daemon.cache.objects import ObjectCache
from pantry.daemon.cache.quarantine import MOST_FILES, SHARE
from pantry.daemon.cache.verifying import Verdict
from pantry.daemon.config import CacheConfig
from pantry.errors import CacheFullError

QUOTA = 400_000
HIGH, LOW = 0.9, 0.7
KEPT_ASIDE = int(QUOTA * SHARE)

SIZES = st.integers(1, 100_000)


class CacheMachine(RuleBasedStateMachine):
    """The model: sizes in the order of use, and sets of what keeps objects."""

    hashes = Bundle("hashes")
    reservations = Bundle("reservations")
    readers = Bundle("readers")

    def __init__(self) -> None:
        super().__init__()
        self.directory = tempfile.mkdtemp(prefix="pty-")
        self.config = CacheConfig(
            directory=os.path.join(self.directory, "cache"),
            quota_bytes=QUOTA,
            high_water=HIGH,
            low_water=LOW,
            keep_free_bytes=0,
            keep_free_inodes=0,
        )
        self.cache = ObjectCache(self.config)
        self.content: dict[ObjectId, bytes] = {}
        self.order: dict[ObjectId, int] = {}  # complete objects and what they take, least recently read first
        self.reserved: dict[int, int] = {}
        self.pins: dict[ObjectId, int] = {}
        self.leases: dict[ObjectId, list[AbstractContextManager[None]]] = {}
        self.open: dict[int, ObjectId] = {}  # descriptors of readers
        self.unlinked: list[tuple[set[int], int]] = []  # readers of what lost its name, and its size
        self.orphans: set[int] = set()  # readers of what lost its name before a restart
        self.aside: list[int] = []
        self.is_dead = False

    def teardown(self) -> None:
        for fd in self.open:
            os.close(fd)
        self.cache.close()
        shutil.rmtree(self.directory)

    # -- the model ------------------------------------------------------------------------------------

    def settle(self) -> None:
        self.unlinked = [(fds & self.open.keys(), size) for fds, size in self.unlinked]
        self.unlinked = [(fds, size) for fds, size in self.unlinked if fds]

    def used(self) -> int:
        return sum(self.order.values()) + sum(size for _, size in self.unlinked) + sum(self.aside)

    def readers_of(self, one: ObjectId) -> set[int]:
        gone = self.orphans.union(*(fds for fds, _ in self.unlinked))
        return {fd for fd, read in self.open.items() if read == one and fd not in gone}

    def stays(self, one: ObjectId) -> bool:
        return bool(self.pins.get(one) or self.leases.get(one) or self.readers_of(one))

    def evict(self, wanted: int) -> int:
        freed = 0
        while self.aside and freed < wanted:
            freed += self.aside.pop(0)
        for one in list(self.order):
            if freed >= wanted:
                break
            if not self.stays(one):
                freed += self.order.pop(one)
        return freed

    def make_room(self, size: int) -> bool:
        over = self.used() + sum(self.reserved.values()) + size - int(QUOTA * HIGH)
        if over > 0:
            self.settle()
            self.evict(over + int(QUOTA * (HIGH - LOW)))
        return self.used() + sum(self.reserved.values()) + size <= QUOTA

    def lose(self, one: ObjectId) -> None:
        """Take an object's name away."""
        size, fds = self.order.pop(one), self.readers_of(one)
        if fds:
            self.unlinked.append((fds, size))

    # -- what happens ---------------------------------------------------------------------------------

    @initialize(target=hashes)
    def some_contents(self) -> Any:
        made = [self.make_content(size) for size in (400, 12_000, 20_000, 36_000, 60_000, 80_000, 120_000)]
        for one in made[1:]:
            self.store(one)
        return multiple(*made)

    def make_content(self, size: int) -> ObjectId:
        data = bytes([len(self.content) % 251 + 1]) * size
        one = ObjectId("realm", xxhash.xxh3_128_hexdigest(data))
        self.content[one] = data
        return one

    @rule(one=hashes)
    def store(self, one: ObjectId) -> None:
        """A whole transfer."""
        made = self.reserve(one)
        if made is not None:
            self.publish(made)

    @rule(target=hashes, size=SIZES)
    def store_new(self, size: int) -> ObjectId:
        one = self.make_content(size)
        self.store(one)
        return one

    @rule(target=reservations, one=hashes)
    def promise(self, one: ObjectId) -> Any:
        made = self.reserve(one)
        return multiple() if made is None else made

    def reserve(self, one: ObjectId) -> tuple[ObjectId, Reservation] | None:
        size = charged(len(self.content[one]))
        expected = self.make_room(size)
        try:
            made = self.cache.reserve(size)
        except CacheFullError:
            assert not expected, "there was room"
            return None
        assert expected, "there was no room"
        self.reserved[id(made)] = size
        return (one, made)

    @rule(pair=consumes(reservations))
    def publish_promised(self, pair: tuple[ObjectId, Reservation]) -> None:
        self.publish(pair)

    def publish(self, pair: tuple[ObjectId, Reservation]) -> None:
        one, made = pair
        if self.reserved.pop(id(made), None) is None:
            return  # of before a restart
        data = self.content[one]
        path = os.path.join(self.cache.incoming, "file")
        Path(path).write_bytes(data)
        made.use(made.left_bytes)
        self.cache.publish(path, one, len(data))
        # A second copy is thrown away.
        self.order.setdefault(one, charged(len(data)))

    @rule(pair=consumes(reservations), share=st.floats(0, 1))
    def give_up(self, pair: tuple[ObjectId, Reservation], share: float) -> None:
        _, made = pair
        if self.reserved.pop(id(made), None) is not None:
            made.release()

    @rule(target=readers, one=hashes)
    def read(self, one: ObjectId) -> Any:
        fd = trio.run(self.cache.open, one)
        assert (fd is not None) == (one in self.order)
        if fd is None:
            return multiple()
        self.order[one] = self.order.pop(one)
        self.open[fd] = one
        return fd

    @rule(fd=consumes(readers))
    def finish(self, fd: int) -> None:
        self.open.pop(fd)
        self.orphans.discard(fd)
        os.close(fd)

    @rule(one=hashes)
    def pin(self, one: ObjectId) -> None:
        self.cache.pin(one)
        self.pins[one] = self.pins.get(one, 0) + 1

    @rule(one=hashes)
    def unpin(self, one: ObjectId) -> None:
        if self.pins.get(one):
            self.cache.unpin(one)
            self.pins[one] -= 1

    @rule(one=hashes)
    def lease(self, one: ObjectId) -> None:
        made = self.cache.leased(one)
        made.__enter__()
        self.leases.setdefault(one, []).append(made)

    @rule(one=hashes)
    def end_lease(self, one: ObjectId) -> None:
        if self.leases.get(one):
            self.leases[one].pop().__exit__(None, None, None)

    @rule(one=hashes)
    def evict_one(self, one: ObjectId) -> None:
        expected = one in self.order and not self.stays(one)
        assert self.cache.evict_one(one) == expected
        if expected:
            del self.order[one]

    @rule(wanted=st.integers(0, QUOTA))
    def evict_some(self, wanted: int) -> None:
        assert self.cache.evict(wanted) == self.evict(wanted)

    @rule(one=hashes)
    def drop(self, one: ObjectId) -> None:
        assert self.cache.drop(one) == (one in self.order)
        if one in self.order:
            self.lose(one)

    @rule(one=hashes)
    def damage_and_verify(self, one: ObjectId) -> None:
        if one not in self.order or self.readers_of(one):
            return
        damage(self.cache.path_of(one), "flip", 0)
        assert trio.run(self.cache.verifier.verify, one) is Verdict.DAMAGED
        size = self.order.pop(one)
        if size <= KEPT_ASIDE:
            self.aside.append(size)
            while len(self.aside) > MOST_FILES or sum(self.aside) > KEPT_ASIDE:
                self.aside.pop(0)

    @rule(one=hashes)
    def verify(self, one: ObjectId) -> None:
        found = trio.run(self.cache.verifier.verify, one)
        assert found is (Verdict.WHOLE if one in self.order else Verdict.GONE)

    @rule()
    def write_index(self) -> None:
        trio.run(self.cache.write_index)

    @rule()
    def readers_are_looked_after(self) -> None:
        self.cache.lingering.settle()
        self.settle()

    @rule(clean=st.booleans())
    def restart(self, clean: bool) -> None:
        if clean:
            self.cache.close()
        else:
            self.cache.lingering.close()
            self.cache.disk.close()
        self.cache = ObjectCache(self.config)
        self.reserved.clear()
        self.pins.clear()
        self.leases.clear()
        # What has no name is nobody's any more, when its readers are gone.
        self.orphans.update(*(fds for fds, _ in self.unlinked))
        self.unlinked.clear()
        there = [one for one, _ in self.cache.items()]
        if clean:
            assert there == list(self.order)
        else:
            # What was read last is only known as far as it was written.
            assert set(there) == self.order.keys()
            self.order = {one: self.order[one] for one in there}

    # -- what always holds ----------------------------------------------------------------------------

    @invariant()
    def the_figures_are_the_models(self) -> None:
        assert [(one, charged(entry.size_bytes)) for one, entry in self.cache.items()] == list(self.order.items())
        assert self.cache.reserved_bytes == sum(self.reserved.values())
        # What readers closed is counted until somebody looks.
        assert self.cache.used_bytes == self.used()

    @invariant()
    def the_quota_holds(self) -> None:
        assert self.cache.used_bytes + self.cache.reserved_bytes <= QUOTA

    @invariant()
    def the_tree_holds_what_is_listed(self) -> None:
        tree = {
            ObjectId(path.parent.parent.name, path.name): charged(path.stat().st_size)
            for path in Path(self.cache.disk.objects).glob("*/*/*")
        }
        assert tree == self.order
        assert sorted(charged(path.stat().st_size) for path in Path(self.cache.disk.quarantine).iterdir()) == sorted(
            self.aside
        )

    @invariant()
    def readers_have_right_bytes(self) -> None:
        for fd, one in self.open.items():
            data = self.content[one]
            assert os.fstat(fd).st_size == len(data)
            assert os.pread(fd, 16, 0) == data[:16]


CacheMachine.TestCase.settings = settings(
    max_examples=150, stateful_step_count=50, deadline=None, suppress_health_check=list(HealthCheck)
)
test_cache_machine = CacheMachine.TestCase


class LongCacheMachine(CacheMachine):
    """The same for longer."""


LongCacheMachine.TestCase.settings = settings(CacheMachine.TestCase.settings, max_examples=3000)
test_cache_machine_for_long = pytest.mark.soak(LongCacheMachine.TestCase)
