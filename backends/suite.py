# ruff: noqa: S101, S106, D102
"""The contract suite: what every object backend must do, looked at from outside.

A package with a backend of its own proves it so, with pytest and Hypothesis installed::

    class TestMine(ObjectBackendContract):
        @pytest.fixture
        def backend(self): ...      # a fresh, empty root

        @pytest.fixture
        def outside(self): ...      # an `Outside` of the same root, without the class under test

One whose `Capabilities` say that it is not ``writable`` proves itself by
`pantry.backends.suite_reading.ReadingContract`, in the same way.

What a backend cannot do it says in its `Capabilities`; nothing is skipped by name.
"""

from __future__ import annotations

import os

import pytest
import trio

from pantry.backends.contract import LocalPlacement, ObjectBackend
from pantry.backends.suite_calls import Outside, descriptor, listed, pattern, read, run, write
from pantry.backends.suite_reading import ODD_KEYS, ReadingContract
from pantry.errors import (
    InvalidRequestError,
    ObjectExistsError,
    ObjectNotFoundError,
)

LARGE_BYTES = 40 << 20


class ObjectBackendContract(ReadingContract):
    """Subclass it with the fixtures ``backend`` and ``outside``."""

    @pytest.mark.parametrize("key", ODD_KEYS, ids=range(len(ODD_KEYS)))
    def test_odd_keys_round_trip(self, backend: ObjectBackend, outside: Outside, key: str) -> None:
        content = key.encode()

        async def check() -> None:
            status = await write(backend, key, content)
            assert status == await backend.stat(key)
            assert await read(backend, key, 0, len(content), status.version) == content
            found = await listed(backend, key)
            assert found.keys() == {key}
            assert (found[key].size_bytes, found[key].version) == (status.size_bytes, status.version)

        run(check)
        assert outside.get(key) == content
        assert outside.keys() == {key}

    # -- writing -----------------------------------------------------------------------------

    @pytest.mark.parametrize("size_bytes", [0, 1, 65_537, LARGE_BYTES])
    def test_round_trip(self, backend: ObjectBackend, outside: Outside, size_bytes: int) -> None:
        content = pattern(size_bytes)
        status = run(lambda: write(backend, "run/raw/x", content))
        assert status == run(lambda: backend.stat("run/raw/x"))
        assert status.size_bytes == size_bytes
        assert run(lambda: read(backend, "run/raw/x", 0, size_bytes, status.version)) == content
        assert outside.get("run/raw/x") == content

    def test_the_callers_offset_stays(self, backend: ObjectBackend, outside: Outside) -> None:
        with descriptor(b"0123456789") as fd:
            os.lseek(fd, 7, os.SEEK_SET)
            run(lambda: backend.write_from("k", fd, 4, token="t-1"))
            assert os.lseek(fd, 0, os.SEEK_CUR) == 7
        assert outside.get("k") == b"0123"

    def test_data_shorter_than_said_is_refused(self, backend: ObjectBackend, outside: Outside) -> None:
        with descriptor(b"0123") as fd, pytest.raises(InvalidRequestError):
            run(lambda: backend.write_from("k", fd, 10, token="t-1"))
        assert outside.keys() == set()

    @pytest.mark.parametrize("size_bytes", [5, LARGE_BYTES])
    def test_nothing_is_replaced(self, backend: ObjectBackend, outside: Outside, size_bytes: int) -> None:
        outside.put("k", b"theirs")
        with pytest.raises(ObjectExistsError):
            run(lambda: write(backend, "k", pattern(size_bytes)))
        assert outside.get("k") == b"theirs"
        assert outside.residue() == set()

    @pytest.mark.parametrize("size_bytes", [100, 20 << 20])
    def test_of_six_writers_one_wins(self, backend: ObjectBackend, outside: Outside, size_bytes: int) -> None:
        if not backend.capabilities.conditional_write:
            pytest.skip("the service has no conditional writes")
        contents = [bytes([65 + index]) * size_bytes for index in range(6)]
        winners: list[int] = []

        async def attempt(index: int) -> None:
            try:
                await write(backend, "prize", contents[index], f"t-{index}")
            except ObjectExistsError:
                return
            winners.append(index)

        async def race() -> None:
            async with trio.open_nursery() as nursery:
                for index in range(6):
                    nursery.start_soon(attempt, index)

        run(race)
        (winner,) = winners
        assert outside.get("prize") == contents[winner]

        async def losers_undo() -> None:
            for index in set(range(6)) - {winner}:
                await backend.undo_write("prize", token=f"t-{index}")
            await backend.settle_write("prize", token=f"t-{winner}")

        run(losers_undo)
        assert outside.get("prize") == contents[winner]
        assert outside.residue() == set()

    # -- undoing -----------------------------------------------------------------------------

    def test_undo_removes_what_was_written(self, backend: ObjectBackend, outside: Outside) -> None:
        async def check() -> None:
            await write(backend, "a/b/c", b"mine", "t-1")
            assert await backend.undo_write("a/b/c", token="t-1")
            assert not await backend.undo_write("a/b/c", token="t-1")
            await write(backend, "a/b/c", b"again", "t-2")

        run(check)
        assert outside.get("a/b/c") == b"again"

    def test_undo_leaves_the_objects_of_others(self, backend: ObjectBackend, outside: Outside) -> None:
        outside.put("theirs", b"1")

        async def check() -> None:
            assert not await backend.undo_write("theirs", token="t-1")
            assert not await backend.undo_write("no/such/thing", token="t-1")
            await write(backend, "k", b"2", "t-2")
            assert not await backend.undo_write("k", token="t-1")
            with pytest.raises(ObjectExistsError):
                await write(backend, "k", b"2", "t-3")  # the same content
            assert not await backend.undo_write("k", token="t-3")

        run(check)
        assert outside.get("theirs") == b"1"
        assert outside.get("k") == b"2"

    def test_undo_leaves_what_replaced_our_object(self, backend: ObjectBackend, outside: Outside) -> None:
        run(lambda: write(backend, "k", b"mine", "t-1"))
        outside.put("k", b"theirs now")
        run(lambda: backend.undo_write("k", token="t-1"))
        assert outside.get("k") == b"theirs now"

    @pytest.mark.parametrize("delay_s", [0.0, 0.002, 0.01, 0.05, 0.2])
    def test_a_cancelled_write_is_undone(self, backend: ObjectBackend, outside: Outside, delay_s: float) -> None:
        async def check() -> None:
            with descriptor(pattern(LARGE_BYTES)) as fd, trio.move_on_after(delay_s):
                await backend.write_from("a/b", fd, LARGE_BYTES, token="t-1")
            await backend.undo_write("a/b", token="t-1")

        run(check)
        assert outside.keys() == set()
        assert outside.residue() == set()

    def test_one_token_may_write_many_objects_into_one_directory(
        self, backend: ObjectBackend, outside: Outside
    ) -> None:
        """An ingest has one token for all its files; undoing takes each one's own away."""

        async def check() -> None:
            for key in ("many/one", "many/two"):
                with descriptor(key.encode()) as fd:
                    await backend.write_from(key, fd, len(key), token="t-many")
            await backend.settle_write("many/one", token="t-many")
            assert await backend.undo_write("many/two", token="t-many")

        run(check)
        assert outside.get("many/one") == b"many/one"
        assert outside.keys() == {"many/one"}
        assert outside.residue() == set()

    def test_settled_objects_stay(self, backend: ObjectBackend, outside: Outside) -> None:
        async def check() -> None:
            status = await write(backend, "a/b", b"kept")
            for _ in range(2):
                await backend.settle_write("a/b", token="t-1")
            await backend.settle_write("never/written", token="t-1")
            assert await backend.stat("a/b") == status

        run(check)
        assert outside.get("a/b") == b"kept"
        assert outside.residue() == set()

    def test_delete_is_idempotent(self, backend: ObjectBackend, outside: Outside) -> None:
        outside.put("a/b", b"1")
        outside.put("a/c", b"2")

        async def check() -> None:
            for _ in range(2):
                await backend.delete("a/b")
            await backend.delete("no/such/thing")
            await backend.delete("a")

        run(check)
        assert outside.keys() == {"a/c"}

    # -- the rest ----------------------------------------------------------------------------

    def test_local_files_are_offered_as_declared(self, backend: ObjectBackend, outside: Outside) -> None:
        assert isinstance(backend, LocalPlacement) == backend.capabilities.local_files
        if isinstance(backend, LocalPlacement):
            wanted = {"a/b": b"content", "a/c": b"", "d": b"other", "a/d": b"last"}
            for key, content in wanted.items():
                outside.put(key, content)
            for content, (fd, status) in zip(wanted.values(), backend.open_each(wanted), strict=True):
                try:
                    assert (os.read(fd, 100), status.st_size) == (content, len(content))
                    with pytest.raises(OSError, match="Bad file descriptor"):
                        os.write(fd, b"x")
                finally:
                    os.close(fd)
            for bad in ("a", "a/x", "x/y"):
                with pytest.raises(ObjectNotFoundError):
                    next(backend.open_each([bad]))
            for bad in ("a/../d", "a/..", "", "/a/b", "a//b", "a/" + "x" * 1030):
                opened = backend.open_each(["a/b", bad])
                os.close(next(opened)[0])
                with pytest.raises(InvalidRequestError):
                    next(opened)
