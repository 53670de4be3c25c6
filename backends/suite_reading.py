# ruff: noqa: S101, S106, D102, RUF001
"""The part of the contract suite that is about reading and listing."""

from __future__ import annotations

import itertools
import os

import pytest
import trio
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pantry.backends.contract import ByteRange, ObjectBackend, SinkError
from pantry.backends.progress import PROGRESS_BYTES
from pantry.backends.suite_calls import Outside, descriptor, listed, pattern, read, run, write
from pantry.errors import (
    BackendAccessError,
    InvalidRequestError,
    ObjectChangedError,
    ObjectNotFoundError,
    TransientBackendError,
)

ODD_KEYS = (
    "a",
    "run/raw/file.fits",
    "with space/and+plus & ampersand.fits",
    "percent%20encoded%2Fname",
    "ünïcode/銀河/Ψ–γ.fits",
    "emoji/🔭",
    "quotes'\"`/semi;colon,comma=equals@at:colon",
    "brackets[1]{2}(3)<4>/hash#question?star*pipe|",
    "...dots/.hidden/..twodots",
    "tilde~/dollar$/bang!",
    "deep/" + "/".join("abcdefgh"),
    "long/" + "n" * 200,
)
BAD_KEYS = (
    "",
    "/absolute",
    "../up",
    "a/../b",
    "a//b",
    "a/",
    "./a",
    "a/.",
    "nul\0byte",
    "a/.pantry-b",
    ".pantry-b/a",
    "x" * 1025,
    "sur\udc80rogate",
)

MANY_KEYS = 1050


class ReadingContract:
    """What a backend that is only read must do; `pantry.backends.suite` has the whole.

    The fixtures ``backend`` and ``outside`` are the subclass's; pytest says so if it has none.
    """

    # -- reading -----------------------------------------------------------------------------

    def test_stat_tells_size_and_version(self, backend: ObjectBackend, outside: Outside) -> None:
        outside.put("a/b", b"12345")
        status = run(lambda: backend.stat("a/b"))
        assert (status.key, status.size_bytes) == ("a/b", 5)
        assert status.version
        assert status.modified_ns > 0
        assert status == run(lambda: backend.stat("a/b"))

    def test_version_changes_with_the_content(self, backend: ObjectBackend, outside: Outside) -> None:
        outside.put("k", b"before")
        before = run(lambda: backend.stat("k")).version
        outside.put("k", b"after.")
        assert run(lambda: backend.stat("k")).version != before

    def test_missing_objects_are_not_found(self, backend: ObjectBackend, outside: Outside) -> None:
        outside.put("dir/there", b"1")
        for key in ("missing", "dir/missing", "no/such/dir", "dir"):
            with pytest.raises(ObjectNotFoundError):
                run(lambda key=key: backend.stat(key))  # type: ignore[misc]
            for stop in (0, 1):
                with pytest.raises(ObjectNotFoundError):
                    run(lambda key=key, stop=stop: read(backend, key, 0, stop))  # type: ignore[misc]

    @pytest.mark.parametrize(
        ("start", "stop"), [(0, 1000), (0, 1), (999, 1000), (1, 999), (0, 0), (500, 500), (1000, 1000)]
    )
    def test_ranges_at_the_edges(self, backend: ObjectBackend, outside: Outside, start: int, stop: int) -> None:
        content = pattern(1000)
        outside.put("k", content)
        assert run(lambda: read(backend, "k", start, stop)) == content[start:stop]

    def test_ranges_anywhere(self, backend: ObjectBackend, outside: Outside) -> None:
        content = pattern(300_000)
        outside.put("k", content)
        version = run(lambda: backend.stat("k")).version

        @settings(
            max_examples=25, deadline=None, database=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
        )
        @given(st.tuples(st.integers(0, len(content)), st.integers(0, len(content))).map(sorted))
        def check(edges: list[int]) -> None:
            start, stop = edges
            assert run(lambda: read(backend, "k", start, stop, version)) == content[start:stop]

        check()

    @pytest.mark.parametrize(("start", "stop"), [(0, 11), (5, 20), (10, 11), (500, 510)])
    def test_a_range_beyond_the_end_is_an_error(
        self, backend: ObjectBackend, outside: Outside, start: int, stop: int
    ) -> None:
        outside.put("k", b"0123456789")
        with pytest.raises(TransientBackendError):
            run(lambda: read(backend, "k", start, stop))

    def test_impossible_ranges_are_refused(self, backend: ObjectBackend, outside: Outside) -> None:
        outside.put("k", b"0123456789")
        for start, stop in ((-1, 3), (4, 3)):
            with descriptor() as fd, pytest.raises(InvalidRequestError):
                run(lambda start=start, stop=stop, fd=fd: backend.read_into("k", ByteRange(start, stop), fd))  # type: ignore[misc]

    def test_another_version_is_not_read(self, backend: ObjectBackend, outside: Outside) -> None:
        outside.put("k", b"first content")
        version = run(lambda: backend.stat("k")).version
        assert run(lambda: read(backend, "k", 0, 5, version)) == b"first"
        outside.put("k", b"other content")
        for stop in (0, 5):
            with descriptor() as fd:
                with pytest.raises(ObjectChangedError):
                    run(lambda fd=fd, stop=stop: backend.read_into("k", ByteRange(0, stop), fd, if_version=version))  # type: ignore[misc]
                assert os.fstat(fd).st_size == 0

    def test_a_target_that_cannot_be_written_is_the_callers_fault(
        self, backend: ObjectBackend, outside: Outside
    ) -> None:
        outside.put("k", b"12345")
        full = os.open("/dev/full", os.O_RDWR)
        try:
            with pytest.raises(SinkError):
                run(lambda: backend.read_into("k", ByteRange(0, 5), full))
        finally:
            os.close(full)

    @pytest.mark.parametrize(("start", "stop"), [(0, 1), (0, 6_000_001), (2_000_000, 5_999_999), (0, 0)])
    def test_progress_tells_what_is_there(
        self, backend: ObjectBackend, outside: Outside, start: int, stop: int
    ) -> None:
        content = pattern(6_000_001)
        outside.put("k", content)
        told = [start]

        async def check() -> None:
            version = (await backend.stat("k")).version
            with descriptor() as fd:

                def look(position: int) -> None:
                    here = os.pread(fd, position - told[-1], told[-1])
                    assert here == content[told[-1] : position]
                    told.append(position)

                await backend.read_into("k", ByteRange(start, stop), fd, if_version=version, on_progress=look)

        run(check)
        assert told[-1] == stop
        assert all(0 < after - before <= 2 * PROGRESS_BYTES for before, after in itertools.pairwise(told))

    @pytest.mark.parametrize("error", [OSError(5, "the caller's own"), KeyError("k"), SinkError(28, "full")])
    def test_an_error_of_the_progress_ends_the_read(
        self, backend: ObjectBackend, outside: Outside, error: Exception
    ) -> None:
        outside.put("k", pattern(6_000_001))
        told: list[int] = []

        def refuse(position: int) -> None:
            told.append(position)
            raise error

        with descriptor() as fd, pytest.raises(type(error)) as caught:
            run(lambda: backend.read_into("k", ByteRange(0, 6_000_001), fd, on_progress=refuse))
        assert caught.value is error
        assert len(told) == 1

    def test_many_reads_at_once(self, backend: ObjectBackend, outside: Outside) -> None:
        content = pattern(200_000)
        outside.put("k", content)

        async def check() -> None:
            with descriptor() as fd:
                async with trio.open_nursery() as nursery:
                    for start in range(0, len(content), 10_000):
                        nursery.start_soon(backend.read_into, "k", ByteRange(start, start + 10_000), fd)
                assert os.pread(fd, len(content), 0) == content

        run(check)

    # -- keys and listings -------------------------------------------------------------------

    @pytest.mark.parametrize("key", ODD_KEYS, ids=range(len(ODD_KEYS)))
    def test_odd_keys_are_read_and_listed(self, backend: ObjectBackend, outside: Outside, key: str) -> None:
        content = key.encode()
        outside.put(key, content)

        async def check() -> None:
            status = await backend.stat(key)
            assert await read(backend, key, 0, len(content), status.version) == content
            found = await listed(backend, key)
            hidden = not backend.capabilities.lists_dot_names and (key.startswith(".") or "/." in key)
            assert found == ({} if hidden else {key: status})

        run(check)

    @pytest.mark.parametrize("key", BAD_KEYS, ids=range(len(BAD_KEYS)))
    def test_bad_keys_are_refused(self, backend: ObjectBackend, outside: Outside, key: str) -> None:
        with descriptor(b"1") as fd:
            for call in (
                lambda: backend.stat(key),
                lambda: backend.read_into(key, ByteRange(0, 1), fd),
                lambda: backend.write_from(key, fd, 1, token="t"),
                lambda: backend.undo_write(key, token="t"),
                lambda: backend.settle_write(key, token="t"),
                lambda: backend.delete(key),
            ):
                with pytest.raises(InvalidRequestError):
                    run(call)
        assert outside.keys() == set()

    def test_what_is_only_read_is_not_written(self, backend: ObjectBackend, outside: Outside) -> None:
        if backend.capabilities.writable:
            return
        outside.put("k", b"1")

        async def check() -> None:
            for key in ("k", "new"):
                with pytest.raises(BackendAccessError):
                    await write(backend, key, b"2")
                with pytest.raises(BackendAccessError):
                    await backend.delete(key)
                assert not await backend.undo_write(key, token="t-1")
                await backend.settle_write(key, token="t-1")

        run(check)
        assert outside.get("k") == b"1"
        assert outside.keys() == {"k"}

    def test_bad_tokens_are_refused(self, backend: ObjectBackend) -> None:
        for token in ("", "a/b", "..", "a" * 65, "a\nb"):
            with pytest.raises(InvalidRequestError):
                run(lambda token=token: write(backend, "k", b"1", token))  # type: ignore[misc]

    def test_listing_by_prefix(self, backend: ObjectBackend, outside: Outside) -> None:
        keys = {"run/a", "run/b/c", "runner", "other", "r/un"}
        for key in keys:
            outside.put(key, b"1")
        for prefix in ("", "run", "run/", "run/b", "run/b/", "r", "none", "run/a/"):
            found = run(lambda prefix=prefix: listed(backend, prefix))  # type: ignore[misc]
            assert found.keys() == {key for key in keys if key.startswith(prefix)}, prefix
        for prefix in ("/", "../", "a//", "./"):
            with pytest.raises(InvalidRequestError):
                run(lambda prefix=prefix: listed(backend, prefix))  # type: ignore[misc]

    def test_listing_has_more_than_one_page(self, backend: ObjectBackend, outside: Outside) -> None:
        keys = {f"many/{index // 100:02d}/{index:05d}" for index in range(MANY_KEYS)}
        for key in keys:
            outside.put(key, b"")
        assert run(lambda: listed(backend, "many/")).keys() == keys

    def test_location_is_a_uri(self, backend: ObjectBackend) -> None:
        assert ":" in backend.location
