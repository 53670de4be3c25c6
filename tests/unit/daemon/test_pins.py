from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from pathlib import Path

import pytest
import trio
import trio.testing

from pantry.daemon.cache.object_id import ObjectId
from pantry.daemon.cache.pins import PinRecord, Pins, PinStore
from pantry.errors import (
    BackendError,
    InvalidRequestError,
    LimitExceededError,
    NotFoundError,
    PantryError,
    PermissionDeniedError,
)

SECOND = 1_000_000_000


def objects(**sizes: int) -> dict[ObjectId, int]:
    return {ObjectId("realm", name): size for name, size in sizes.items()}


class FakeCache:
    def __init__(self) -> None:
        self.pinned: Counter[ObjectId] = Counter()

    def __contains__(self, object_id: ObjectId) -> bool:
        return False

    def pin(self, object_id: ObjectId) -> None:
        self.pinned[object_id] += 1

    def unpin(self, object_id: ObjectId) -> None:
        assert self.pinned[object_id] > 0
        self.pinned[object_id] -= 1

    @property
    def names(self) -> set[str]:
        return {one.hash for one, count in self.pinned.items() if count}


class World:
    """What queries find, by where-expression."""

    def __init__(self, directory: Path) -> None:
        self.path = str(directory / "pins.sqlite3")
        self.cache = FakeCache()
        self.found: dict[str, Mapping[ObjectId, int] | PantryError] = {}
        self.now_s = 1000

    async def resolve(self, record: PinRecord) -> Mapping[ObjectId, int]:
        await trio.lowlevel.checkpoint()
        found = self.found[record.where]
        if isinstance(found, PantryError):
            raise found
        return found

    def pins(self, limit_bytes: int = 100) -> Pins:
        return Pins(
            PinStore(self.path),
            self.cache,
            self.resolve,
            limit_bytes=limit_bytes,
            refresh_s=300,
            now_ns=lambda: self.now_s * SECOND,
        )


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


def record(where: str, uid: int = 7, **more: object) -> PinRecord:
    values = {"id": "", "owner_uid": uid, "repository": "r", "dataset_types": ("raw",), "collections": ("c",)}
    return PinRecord(**(values | {"where": where} | more))  # type: ignore[arg-type]


def run(main: object, clock: trio.abc.Clock | None = None) -> None:
    trio.run(main, clock=clock)  # type: ignore[arg-type]


def test_a_pin_holds_what_its_query_finds_until_it_is_removed(world: World) -> None:
    async def main() -> None:
        pins = world.pins()
        world.found = {"one": objects(a=10, b=20), "two": objects(b=20)}
        one = await pins.add(record("one"))
        two = await pins.add(record("two"))
        assert world.cache.names == {"a", "b"}
        await pins.remove([one.record.id], 7)
        assert world.cache.names == {"b"}
        await pins.remove([two.record.id], 7)
        assert world.cache.names == set()

    run(main)


def test_a_growing_collection_is_kept_and_a_shrinking_one_let_go(world: World) -> None:
    async def main() -> None:
        pins = world.pins()
        world.found = {"w": objects(a=10)}
        await pins.add(record("w"))
        world.found = {"w": objects(b=10, c=5)}
        await pins.refresh()
        assert world.cache.names == {"b", "c"}
        assert pins.objects() == objects(b=10, c=5)

    run(main)


def test_pins_survive_a_restart_and_hold_before_any_query_has_run(world: World) -> None:
    async def main() -> None:
        world.found = {"w": objects(a=10, b=20)}
        first = world.pins()
        await first.add(record("w", note="mine"))
        world.found = {"w": objects(b=20, c=30)}
        await first.refresh()
        world.cache = FakeCache()
        again = world.pins()
        assert [one.record.note for one in again.held()] == ["mine"]
        assert world.cache.names == {"b", "c"}
        assert again.objects() == objects(b=20, c=30)
        world.found = {"w": objects(c=30)}
        await again.refresh()
        assert world.cache.names == {"c"}

    run(main)


def test_a_removed_pin_does_not_come_back(world: World) -> None:
    async def main() -> None:
        world.found = {"w": objects(a=10)}
        pins = world.pins()
        pin = await pins.add(record("w"))
        await pins.remove([pin.record.id], None)
        assert world.pins().held() == []

    run(main)


def test_an_expired_pin_lapses(world: World) -> None:
    async def main() -> None:
        world.found = {"w": objects(a=10)}
        pins = world.pins()
        await pins.add(record("w", expires_ns=1010 * SECOND))
        world.now_s = 1009
        await pins.refresh()
        assert world.cache.names == {"a"}
        world.now_s = 1010
        await pins.refresh()
        assert world.cache.names == set()
        assert pins.held() == []
        assert world.pins().held() == []
        with pytest.raises(InvalidRequestError, match="past"):
            await pins.add(record("w", expires_ns=1010 * SECOND))

    run(main)


def test_the_task_refreshes_in_time_and_when_a_pin_lapses(world: World) -> None:
    async def main() -> None:
        start = trio.current_time()
        pins = Pins(
            PinStore(world.path),
            world.cache,
            world.resolve,
            limit_bytes=100,
            refresh_s=300,
            now_ns=lambda: int((1000 + trio.current_time() - start) * SECOND),
        )
        world.found = {"w": objects(a=10), "v": objects(z=1)}
        await pins.add(record("w"))
        await pins.add(record("v", expires_ns=1100 * SECOND))
        async with trio.open_nursery() as nursery:
            nursery.start_soon(pins.run)
            await trio.sleep(50)
            world.found["w"] = objects(a=10, b=10)
            assert world.cache.names == {"a", "z"}
            await trio.sleep(60)  # the second pin has lapsed, which also refreshes the first
            assert world.cache.names == {"a", "b"}
            world.found["w"] = objects(c=10)
            await trio.sleep(301)
            assert world.cache.names == {"c"}
            nursery.cancel_scope.cancel()

    run(main, trio.testing.MockClock(autojump_threshold=0.3))


def test_all_pins_together_are_limited_and_a_user_to_half(world: World) -> None:
    async def main() -> None:
        pins = world.pins(limit_bytes=100)
        world.found = {"40": objects(a=40), "20": objects(b=20), "60": objects(c=60), "same": objects(a=40)}
        await pins.add(record("40"))
        with pytest.raises(LimitExceededError, match="your pins may hold 50 bytes; they hold 40, and this one adds 20"):
            await pins.add(record("20"))
        await pins.add(record("same"))  # adds nothing
        await pins.add(record("60", uid=0, unlimited=True))
        with pytest.raises(LimitExceededError, match="all pins may hold 100 bytes; they hold 100, and this one adds"):
            await pins.add(record("20", uid=8))
        assert world.cache.names == {"a", "c"}
        assert len(pins.held()) == 3

    run(main)


def test_what_grows_over_the_limit_is_told_and_not_held(world: World) -> None:
    async def main() -> None:
        pins = world.pins(limit_bytes=100)
        world.found = {"w": objects(z=30)}
        pin = await pins.add(record("w"))
        world.found = {"w": objects(a=30, b=15, z=30)}
        await pins.refresh()
        assert world.cache.names == {"z", "b"}, "what is held already comes first, then what fits"
        assert pin.problem == "1 of 3 objects are over the limit of pins"

    run(main)


def test_who_may_no_longer_read_keeps_nothing_but_an_outage_changes_nothing(world: World) -> None:
    async def main() -> None:
        pins = world.pins()
        world.found = {"w": objects(a=10)}
        pin = await pins.add(record("w"))
        world.found = {"w": BackendError("the registry is out of reach")}
        await pins.refresh()
        assert world.cache.names == {"a"}
        assert "out of reach" in pin.problem
        world.found = {"w": PermissionDeniedError("no longer")}
        await pins.refresh()
        assert world.cache.names == set()
        assert pin.problem == "no longer"
        world.found = {"w": objects(a=10)}
        await pins.refresh()
        assert world.cache.names == {"a"}
        assert pin.problem == ""

    run(main)


def test_another_users_pin_is_as_unknown_as_none(world: World) -> None:
    async def main() -> None:
        pins = world.pins()
        world.found = {"w": objects(a=10)}
        pin = await pins.add(record("w", uid=7))
        own = await pins.add(record("w", uid=8))
        with pytest.raises(NotFoundError):
            await pins.remove([own.record.id, pin.record.id], 8)
        assert len(pins.held()) == 2, "all or none"
        assert pins.held(8) == [own]
        assert await pins.remove([pin.record.id], None) == 1

    run(main)


def test_a_pin_that_cannot_be_stored_holds_nothing(world: World) -> None:
    async def main() -> None:
        pins = world.pins()
        world.found = {"w": objects(a=10)}
        pins._store.close()
        with pytest.raises(Exception, match="closed"):
            await pins.add(record("w"))
        assert world.cache.names == set()
        assert pins.held() == []

    run(main)
