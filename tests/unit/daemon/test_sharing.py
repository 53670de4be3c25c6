"""What one credential of a user brought, and another one of his finds: after proof, and only what is still the same."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import trio
import trio.testing
import xxhash

from pantry.backends.admission import Admission
from pantry.backends.flaky import FlakyBackend
from pantry.backends.memory import MemoryBackend
from pantry.backends.suite_calls import pattern
from pantry.daemon.cache.counters import Counters
from pantry.daemon.cache.flights import Source
from pantry.daemon.cache.object_id import ObjectId, users_realm
from pantry.daemon.cache.objects import ObjectCache
from pantry.daemon.cache.partials import PartialObjects, running_partials
from pantry.daemon.config import CacheConfig
from pantry.daemon.datasets.sharing import SharedObjects
from pantry.daemon.transfers.absent import AbsentKeys
from pantry.daemon.transfers.origin import Origin
from pantry.errors import BackendAccessError, ObjectChangedError

CHUNK = 64 * 1024
CONTENT = pattern(4 * CHUNK)
OTHER = CONTENT[::-1]
SIZE = len(CONTENT)
ID = ObjectId(users_realm("r", 7), xxhash.xxh3_128_hexdigest(CONTENT))


class Store(MemoryBackend):
    """As one that reads in a thread: what it told of its progress has come when it returns."""

    async def read_into(self, *args: Any, **kwargs: Any) -> None:
        await super().read_into(*args, **kwargs)
        await trio.testing.wait_all_tasks_blocked()


class House:
    """An object at an origin, and what is here of it."""

    def __init__(self, cache: ObjectCache, partials: PartialObjects) -> None:
        self.cache, self.partials = cache, partials
        self.store = Store({"k": CONTENT})
        self.backend = FlakyBackend(self.store, only="read_into")
        self.rights = (1,)
        self.origin = Origin(
            [self.backend],
            Admission(user_limit=4, node_limit=4),
            absent=AbsentKeys(5.0),
            counters=Counters(),
            offline=lambda: False,
            rights=lambda: self.rights,
        )
        self.shared = SharedObjects(cache, partials)

    async def require(self) -> None:
        await self.shared.require(ID, self.origin, "k", version="", size_bytes=SIZE)

    async def fetch(self, stop: int, *, uncached: bool = False) -> int:
        """Fetch the beginning of the object, by the present credential; return a descriptor."""
        await self.require()
        making = self.partials.acquire(ID, SIZE, Source(self.origin, "k"), "k", uncached=uncached)
        fd = making.open_for_reader()
        await making.ensure(0, stop)
        if stop == SIZE:
            await making.wait_published()
        self.partials.release(making)
        return fd

    def pieces(self) -> int:
        return sum(one.method == "read_into" for one in self.backend.calls)


@asynccontextmanager
async def running(directory: Path) -> AsyncIterator[House]:
    cache = ObjectCache(
        CacheConfig(directory=str(directory), quota_bytes=64 << 20, keep_free_bytes=0, chunk_bytes=CHUNK)
    )
    try:
        async with running_partials(cache) as partials:
            yield House(cache, partials)
    finally:
        cache.close()


@pytest.mark.parametrize("kind", ["part", "memory", "complete"])
def test_another_credential_has_to_bring_a_piece_once(tmp_path: Path, kind: str) -> None:
    async def main() -> None:
        async with running(tmp_path) as house:
            fd = await house.fetch(CHUNK if kind == "part" else SIZE, uncached=kind == "memory")
            before = house.pieces()
            await house.require()
            assert house.pieces() == before, "brought by this one"
            house.rights = (2,)
            house.backend.fail(BackendAccessError("not for you"))
            with pytest.raises(BackendAccessError):
                await house.require()
            # Ten at once cause one request.
            async with trio.open_nursery() as nursery:
                for _ in range(10):
                    nursery.start_soon(house.require)
            assert house.pieces() == before + 2
            house.rights = (1,)
            await house.require()
            assert house.pieces() == before + 3, "the first one was replaced"
            os.close(fd)

    trio.run(main)


@pytest.mark.parametrize("kind", ["part", "memory", "complete"])
def test_what_is_another_one_at_the_origin_is_not_his_any_more(tmp_path: Path, kind: str) -> None:
    async def main() -> None:
        async with running(tmp_path) as house:
            fd = await house.fetch(CHUNK if kind == "part" else SIZE, uncached=kind == "memory")
            old = house.partials.of(ID)
            house.store.put("k", OTHER)
            house.rights = (2,)
            await house.require()
            assert ID not in house.cache
            assert house.partials.of(ID) == []
            assert house.partials.memory.open(ID) is None
            assert os.pread(fd, CHUNK, 0) == CONTENT[:CHUNK], "whoever has it open keeps it"
            for one in old:
                with pytest.raises(ObjectChangedError):
                    await one.ensure(0, SIZE)
            os.close(fd)
            house.partials.memory.settle()
            assert house.partials.memory.used_bytes == 0

    trio.run(main)


def test_who_changes_the_credential_meanwhile_is_asked_again(tmp_path: Path) -> None:
    async def main() -> None:
        async with running(tmp_path) as house:
            os.close(await house.fetch(SIZE))
            before = house.pieces()
            house.rights = (2,)
            read = house.store.read_into

            async def replaced(*args: object, **kwargs: object) -> None:
                house.rights = (3,)
                await read(*args, **kwargs)  # type: ignore[arg-type]

            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(house.store, "read_into", replaced)
                await house.require()
            assert house.pieces() == before + 2
            await house.require()
            assert house.pieces() == before + 2

    trio.run(main)
