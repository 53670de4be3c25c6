"""The S3 backend on a bad network: a proxy in front of SeaweedFS cuts, lies and refuses."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from typing import Any

import pytest
import trio
from tests.contract.conftest import S3Outside, close, new_root, s3_backend
from tests.fault.proxy import Fault, FaultProxy
from tests.servers.seaweedfs import SeaweedServer

from pantry.backends.contract import ByteRange
from pantry.backends.s3 import S3Backend
from pantry.backends.suite_calls import descriptor, pattern, read, run, write
from pantry.errors import ObjectChangedError, ObjectExistsError, TransientBackendError

CONTENT = pattern(3 << 20)


@pytest.fixture
def outside(seaweed: SeaweedServer, seaweed_client: Any) -> S3Outside:
    return S3Outside(seaweed_client, *new_root(seaweed))


@pytest.fixture
def backend(seaweed: SeaweedServer, outside: S3Outside, proxy: FaultProxy) -> Iterator[S3Backend]:
    made = s3_backend(
        seaweed, outside.bucket, outside.prefix, endpoint_url=proxy.endpoint_url, max_attempts=3, read_timeout_s=10
    )
    yield made
    close(made)


def test_a_good_read_is_one_request_on_a_connection_that_is_kept(
    backend: S3Backend, outside: S3Outside, proxy: FaultProxy
) -> None:
    outside.put("k", CONTENT)
    for _ in range(5):
        assert run(lambda: read(backend, "k", 0, len(CONTENT))) == CONTENT
    assert (proxy.count("GET"), proxy.count(), proxy.connections) == (5, 5, 1)


def test_a_cut_read_goes_on_where_it_ended(backend: S3Backend, outside: S3Outside, proxy: FaultProxy) -> None:
    outside.put("k", CONTENT)
    proxy.inject(Fault(method="GET", cut_after=2_000_000))
    assert run(lambda: read(backend, "k", 0, len(CONTENT))) == CONTENT
    assert proxy.count("GET") == 2
    first, second = proxy.requests
    assert first.answer_bytes == 2_000_000
    assert second.headers["range"] != first.headers["range"]
    assert "if-match" in second.headers


def test_a_read_that_is_cut_always_is_transient(backend: S3Backend, outside: S3Outside, proxy: FaultProxy) -> None:
    outside.put("k", CONTENT)
    proxy.inject(Fault(method="GET", cut_after=1000, times=-1))
    with pytest.raises(TransientBackendError):
        run(lambda: read(backend, "k", 0, len(CONTENT)))
    assert proxy.count("GET") == 3


def test_the_rest_of_a_cut_read_is_of_the_same_object(
    backend: S3Backend, outside: S3Outside, proxy: FaultProxy
) -> None:
    """Even if the caller asked for no version: never the beginning of one and the end of another."""
    outside.put("k", CONTENT)
    gate = threading.Event()
    proxy.inject(Fault(method="GET", cut_after=1_500_000), Fault(method="GET", wait_for=gate))

    async def check() -> None:
        async with trio.open_nursery() as nursery:

            @nursery.start_soon
            async def _change() -> None:
                await trio.to_thread.run_sync(
                    lambda: proxy.wait_for_request(lambda request: request.fault == Fault(method="GET", wait_for=gate))
                )
                await trio.to_thread.run_sync(outside.put, "k", CONTENT[::-1])
                gate.set()

            with descriptor() as fd, pytest.raises(ObjectChangedError):
                await backend.read_into("k", ByteRange(0, len(CONTENT)), fd)

    run(check)


def test_a_truncated_answer_is_not_taken(backend: S3Backend, outside: S3Outside, proxy: FaultProxy) -> None:
    outside.put("k", CONTENT)
    proxy.inject(Fault(method="GET", truncate_to=1000))
    with pytest.raises(TransientBackendError):
        run(lambda: read(backend, "k", 0, len(CONTENT)))
    assert run(lambda: read(backend, "k", 0, len(CONTENT))) == CONTENT


def test_a_read_that_trickles_is_asked_for_anew(seaweed: SeaweedServer, outside: S3Outside, proxy: FaultProxy) -> None:
    outside.put("k", CONTENT)
    backend = s3_backend(
        seaweed, outside.bucket, outside.prefix, endpoint_url=proxy.endpoint_url, max_attempts=2, read_timeout_s=0.5
    )
    proxy.inject(Fault(method="GET", trickle_bytes_per_s=1000))
    assert run(lambda: read(backend, "k", 0, len(CONTENT))) == CONTENT
    _first, second = proxy.requests
    assert 0 < int(second.headers["range"].removeprefix("bytes=").split("-")[0]) < 100_000
    assert second.headers["if-match"]
    proxy.inject(Fault(method="GET", trickle_bytes_per_s=1000, times=-1))
    with pytest.raises(TransientBackendError, match="too slowly"):
        run(lambda: read(backend, "k", 0, len(CONTENT)))
    close(backend)


def test_a_read_that_trickles_can_be_cancelled(backend: S3Backend, outside: S3Outside, proxy: FaultProxy) -> None:
    outside.put("k", CONTENT)
    proxy.inject(Fault(method="GET", trickle_bytes_per_s=1000, times=-1))

    async def check() -> None:
        with descriptor() as fd, trio.CancelScope() as scope:

            def stop(position: int) -> None:
                assert os.fstat(fd).st_size == position
                trio.from_thread.run_sync(scope.cancel)

            await backend.read_into("k", ByteRange(0, len(CONTENT)), fd, on_progress=stop)
        assert scope.cancelled_caught

    run(check)
    assert proxy.count("GET") == 1


def test_how_long_the_service_wants_to_be_left_alone(
    seaweed: SeaweedServer, outside: S3Outside, proxy: FaultProxy
) -> None:
    backend = s3_backend(seaweed, outside.bucket, outside.prefix, endpoint_url=proxy.endpoint_url, max_attempts=1)
    proxy.inject(
        Fault(status=503, headers=(("Retry-After", "7"),)),
        Fault(status=429, headers=(("Retry-After", "Fri, 31 Dec 2199 23:59:59 GMT"),)),
        Fault(status=500),
    )
    waits = []
    for _ in range(3):
        with pytest.raises(TransientBackendError) as caught:
            run(lambda: read(backend, "k", 0, 1))
        waits.append(caught.value.fields.get("retry_after_s"))
    assert waits == [7.0, 300.0, None]
    close(backend)


@pytest.mark.parametrize(
    "fault",
    [Fault(status=503), Fault(status=500), Fault(cut_after=-1), Fault(cut_after=1_000_000, reset=True)],
)
def test_what_may_be_repeated_is(backend: S3Backend, outside: S3Outside, proxy: FaultProxy, fault: Fault) -> None:
    outside.put("k", CONTENT)
    proxy.inject(fault)
    assert run(lambda: read(backend, "k", 0, len(CONTENT))) == CONTENT
    assert proxy.count("GET") == 2


@pytest.mark.parametrize("fault", [Fault(stall_after=1, times=-1), Fault(cut_after=1, reset=True, times=-1)])
def test_an_error_whose_text_breaks_off_is_transient(
    seaweed: SeaweedServer, outside: S3Outside, proxy: FaultProxy, fault: Fault
) -> None:
    backend = s3_backend(
        seaweed,
        outside.bucket,
        outside.prefix,
        endpoint_url=proxy.endpoint_url,
        max_attempts=1,
        read_timeout_s=0.5,
    )
    proxy.inject(fault)
    with pytest.raises(TransientBackendError):
        run(lambda: read(backend, "missing", 0, 10))
    close(backend)


def test_a_service_that_stays_down_is_transient(backend: S3Backend, outside: S3Outside, proxy: FaultProxy) -> None:
    outside.put("k", CONTENT)
    proxy.inject(Fault(status=503, times=-1))
    with pytest.raises(TransientBackendError):
        run(lambda: read(backend, "k", 0, len(CONTENT)))
    assert proxy.count() == 3
    proxy.clear()
    proxy.refusing = True
    with pytest.raises(TransientBackendError):
        run(lambda: backend.stat("k"))
    proxy.refusing = False
    assert run(lambda: backend.stat("k")).size_bytes == len(CONTENT)


def test_a_corrupted_byte_passes_here_and_is_the_callers_to_find(
    backend: S3Backend, outside: S3Outside, proxy: FaultProxy
) -> None:
    """The hash of the registered dataset is checked at publication, not here."""
    outside.put("k", CONTENT)
    proxy.inject(Fault(method="GET", corrupt_at=777_777))
    got = run(lambda: read(backend, "k", 0, len(CONTENT)))
    assert [index for index, (a, b) in enumerate(zip(got, CONTENT, strict=True)) if a != b] == [777_777]


# -- writes whose answer is lost --------------------------------------------------------------------


@pytest.mark.parametrize("warm", [False, True])
def test_a_write_whose_answer_was_lost_has_succeeded(
    backend: S3Backend, outside: S3Outside, proxy: FaultProxy, warm: bool
) -> None:
    """The repeated request is answered "exists": by the token the object is known to be ours."""
    if warm:
        run(lambda: write(backend, "first", b"1"))
    proxy.clear()
    proxy.inject(Fault(method="PUT", cut_after=-1))
    status = run(lambda: write(backend, "k", CONTENT))
    assert proxy.count("PUT") >= 2
    assert status.size_bytes == len(CONTENT)
    assert outside.get("k") == CONTENT


def test_a_multipart_write_whose_last_answer_was_lost_has_succeeded(
    backend: S3Backend, outside: S3Outside, proxy: FaultProxy
) -> None:
    content = pattern(20 << 20)
    proxy.inject(Fault(method="POST", skip=1, cut_after=-1))
    run(lambda: write(backend, "k", content))
    assert outside.get("k") == content
    assert outside.residue() == set()


def test_a_lost_answer_does_not_make_anothers_object_ours(
    backend: S3Backend, outside: S3Outside, proxy: FaultProxy
) -> None:
    run(lambda: write(backend, "first", b"1"))
    outside.put("k", CONTENT)
    proxy.inject(Fault(method="PUT", cut_after=-1))
    with pytest.raises(ObjectExistsError):
        run(lambda: write(backend, "k", CONTENT))
    assert outside.get("k") == CONTENT


def test_a_write_cut_in_its_body_is_repeated(backend: S3Backend, outside: S3Outside, proxy: FaultProxy) -> None:
    proxy.inject(Fault(method="PUT", cut_request_after=1_000_000))
    run(lambda: write(backend, "k", CONTENT))
    assert outside.get("k") == CONTENT


def test_conditions_answered_with_501(backend: S3Backend, outside: S3Outside, proxy: FaultProxy) -> None:
    proxy.inject(Fault(method="PUT", status=501))
    run(lambda: write(backend, "k", b"1"))
    assert not backend.capabilities.conditional_write
    assert outside.get("k") == b"1"
    assert "if-none-match" not in proxy.requests[-2].headers
    with pytest.raises(ObjectExistsError):
        run(lambda: write(backend, "k", b"2"))
    assert outside.get("k") == b"1"


@pytest.mark.parametrize("fault", [Fault(method="PUT", status=500, skip=1, times=-1)])
def test_a_failed_part_leaves_nothing(backend: S3Backend, outside: S3Outside, proxy: FaultProxy, fault: Fault) -> None:
    proxy.inject(fault)
    with pytest.raises(TransientBackendError):
        run(lambda: write(backend, "k", pattern(40 << 20)))
    assert outside.keys() == set()
    assert outside.residue() == set()


def test_a_write_cancelled_between_its_parts_leaves_nothing(
    backend: S3Backend, outside: S3Outside, proxy: FaultProxy
) -> None:
    gate = threading.Event()
    held = Fault(method="PUT", skip=1, wait_for=gate)
    proxy.inject(held)

    async def check() -> None:
        async with trio.open_nursery() as nursery:
            with descriptor(pattern(40 << 20)) as fd:
                scope = trio.CancelScope()

                @nursery.start_soon
                async def _cancel() -> None:
                    await trio.to_thread.run_sync(lambda: proxy.wait_for_request(lambda r: r.fault == held))
                    scope.cancel()
                    gate.set()

                with scope:
                    await backend.write_from("k", fd, 40 << 20, token="t-1")
                assert scope.cancelled_caught

    run(check)
    assert outside.keys() == set()
    assert outside.residue() == set()
