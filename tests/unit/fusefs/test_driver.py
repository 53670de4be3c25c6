"""The trio driver against a real socket: answers out of order, streams, cancellation, loss."""

from __future__ import annotations

import gc
import os
from collections.abc import Awaitable, Callable
from pathlib import Path
from uuid import uuid4

import msgspec
import pytest
import trio
from tests.unit.fusefs.fake import BATCH, FakeDaemon

from pantry.errors import DaemonUnavailableError, DatasetNotFoundError, PermissionDeniedError, ProtocolError
from pantry.wire import operations as ops
from pantry.wire.envelope import MAX_REQUESTS, STREAM_WINDOW, Behalf, Reply, Welcome, decode_from_client, encode
from pantry.wire.framing import FrameParser
from pantry.wire.trio_driver import open_connection
from pantry.wire.trio_transport import receive, send_frame


@pytest.fixture
def daemon(tmp_path: Path) -> FakeDaemon:
    return FakeDaemon(tmp_path)


def descriptors() -> int:
    # What earlier tests left to the garbage collector is not ours to count.
    gc.collect()
    return len(os.listdir("/proc/self/fd"))


async def until(condition: Callable[[], bool]) -> None:
    with trio.fail_after(5):
        while not condition():  # noqa: ASYNC110 - what it waits for has no event
            await trio.sleep(0.005)


def in_trio(scenario: Callable[[], Awaitable[None]]) -> None:
    """Run a scenario with a deadline; nothing may be open after it that was not before."""

    async def limited() -> None:
        with trio.fail_after(20):
            await scenario()

    before = descriptors()
    trio.run(limited)
    assert descriptors() == before


def test_calls_give_results_descriptors_and_errors(daemon: FakeDaemon) -> None:
    dataset = daemon.repository("r").add("run", "t", b"hello", visit=1)

    async def scenario() -> None:
        async with daemon.serving(), open_connection(daemon.socket_path) as connection:
            assert connection.welcome.daemon == "fake"
            opened, fds = await connection.call(ops.OpenDataset(repository="r", id=dataset.id))
            assert opened.complete
            assert os.read(fds[0], 10) == b"hello"
            os.close(fds[0])
            with pytest.raises(DatasetNotFoundError):
                await connection.call(ops.GetDataset(repository="r", id=uuid4()))
            daemon.repositories["r"].denied = {77}
            with pytest.raises(PermissionDeniedError):
                await connection.call(ops.GetRepository(repository="r"), behalf=Behalf(77, 77, (5,)))
            assert daemon.behalfs[-1] == Behalf(77, 77, (5,))

    in_trio(scenario)


def test_more_calls_than_the_daemon_takes_wait_their_turn(daemon: FakeDaemon) -> None:
    daemon.repository("r")
    most = 0

    async def scenario() -> None:
        nonlocal most
        async with daemon.serving(), open_connection(daemon.socket_path) as connection:
            done = 0

            async def one() -> None:
                nonlocal done, most
                await connection.call(ops.GetRepository(repository="r"))
                most = max(most, connection.requests_under_way)
                done += 1

            async with trio.open_nursery() as nursery:
                for _ in range(3 * MAX_REQUESTS):
                    nursery.start_soon(one)
            assert done == 3 * MAX_REQUESTS

    in_trio(scenario)
    assert most <= MAX_REQUESTS


def test_a_stream_keeps_to_its_window_and_gives_everything(daemon: FakeDaemon) -> None:
    repository = daemon.repository("r")
    for visit in range(30 * BATCH):
        if not visit % BATCH:
            first = repository.add("run", "t", b"", visit=visit)
        else:
            repository.add_alias(first, visit)

    async def scenario() -> None:
        async with daemon.serving(), open_connection(daemon.socket_path) as connection:
            stream = connection.stream(ops.ListTree(repository="r", collection="run", dataset_type="t"))
            first_batch = await anext(stream)
            await until(lambda: daemon.most_ahead == STREAM_WINDOW)
            names = [entry.name for entry in first_batch.entries]
            async for batch in stream:
                names += [entry.name for entry in batch.entries]
            assert len(set(names)) == 30 * BATCH
            assert daemon.most_ahead == STREAM_WINDOW
            with pytest.raises(StopAsyncIteration):
                await anext(stream)

    in_trio(scenario)


def test_a_stream_left_early_is_cancelled_and_never_looks_complete(daemon: FakeDaemon) -> None:
    repository = daemon.repository("r")
    first = repository.add("run", "t", b"", visit=0)
    for visit in range(1, 20 * BATCH):
        repository.add_alias(first, visit)

    async def scenario() -> None:
        async with daemon.serving(), open_connection(daemon.socket_path) as connection:
            stream = connection.stream(ops.ListTree(repository="r", collection="run", dataset_type="t"))
            await anext(stream)
            await stream.aclose()
            await until(lambda: len(daemon.cancelled) == 1 and not connection.requests_under_way)
            with pytest.raises(ProtocolError):
                await anext(stream)
            await connection.call(ops.GetRepository(repository="r"))

    in_trio(scenario)


def test_a_cancelled_call_is_told_and_its_late_descriptor_closed(tmp_path: Path) -> None:
    """The daemon answers after the caller has gone, with a descriptor."""
    path = str(tmp_path / "s")
    seen: list[str] = []

    async def slow_daemon(task_status: trio.TaskStatus[None]) -> None:
        with trio.socket.socket(trio.socket.AF_UNIX) as listener:
            await listener.bind(path)
            listener.listen()
            task_status.started()
            peer, _ = await listener.accept()
            with peer:
                parser = FrameParser()
                while True:
                    for frame in parser.feed((await receive(peer))[0]):
                        message = decode_from_client(frame.payload)
                        seen.append(type(message).__name__)
                        if seen[-1] == "Hello":
                            await send_frame(peer, encode(Welcome(1, "slow", 0)))
                        if seen[-1] == "Cancel":
                            fd = os.memfd_create("late")
                            reply = Reply(message.number, msgspec.Raw(encode(ops.Done())))  # type: ignore[union-attr]
                            await send_frame(peer, encode(reply), [fd, fd])
                            os.close(fd)

    async def scenario() -> None:
        async with trio.open_nursery() as nursery:
            await nursery.start(slow_daemon)
            async with open_connection(path) as connection:
                before = descriptors()
                with trio.move_on_after(0.05) as scope:
                    await connection.call(ops.CloseOpened(handle=1))
                assert scope.cancelled_caught
                assert connection.requests_under_way == 1
                await until(lambda: connection.requests_under_way == 0)
                assert descriptors() == before
            nursery.cancel_scope.cancel()
        assert seen == ["Hello", "Request", "Cancel"]

    in_trio(scenario)


def test_everybody_wakes_when_the_daemon_goes(daemon: FakeDaemon) -> None:
    dataset = daemon.repository("r").add("run", "t", b"x" * 10, partial=True, visit=1)
    daemon.gate.clear()
    errors: list[str] = []

    async def scenario() -> None:
        async with trio.open_nursery() as nursery:
            await nursery.start(daemon.serve)
            async with open_connection(daemon.socket_path) as connection:
                opened, fds = await connection.call(ops.OpenDataset(repository="r", id=dataset.id, partial=True))
                os.close(fds[0])

                async def wait() -> None:
                    try:
                        await connection.call(ops.FetchRanges(handle=opened.handle, ranges=((0, 10),)))
                    except DaemonUnavailableError as exc:
                        errors.append(exc.message)

                async with trio.open_nursery() as waiting:
                    for _ in range(20):
                        waiting.start_soon(wait)
                    await until(lambda: daemon.calls["FetchRanges"] == 20)
                    daemon.die()
                assert not connection.alive
                with pytest.raises(DaemonUnavailableError):
                    await connection.call(ops.ListRepositories())
        assert not daemon.handles

    in_trio(scenario)
    assert len(errors) == 20


def test_no_daemon_is_said_clearly(tmp_path: Path) -> None:
    async def scenario() -> None:
        with pytest.raises(DaemonUnavailableError, match="No such file"):
            async with open_connection(str(tmp_path / "nobody")):
                pass

    in_trio(scenario)


@pytest.mark.skipif(os.getuid() != 0, reason="needs root, to listen as somebody else")
def test_somebody_elses_socket_is_refused(tmp_path: Path) -> None:
    path = str(tmp_path / "s")

    async def scenario() -> None:
        with trio.socket.socket(trio.socket.AF_UNIX) as listener:
            await listener.bind(path)
            os.seteuid(65534)
            try:
                listener.listen()
            finally:
                os.seteuid(0)
            with pytest.raises(DaemonUnavailableError, match="posing"):
                async with open_connection(path, daemon_uid=1000):
                    pass

    in_trio(scenario)


def test_the_callers_exception_comes_out_as_it_is(daemon: FakeDaemon) -> None:
    async def scenario() -> None:
        async with daemon.serving():
            with pytest.raises(KeyError):
                async with open_connection(daemon.socket_path):
                    raise KeyError("mine")

    in_trio(scenario)


@pytest.mark.parametrize("answer", [b"\xc1", b"", encode(Reply(99, msgspec.Raw(b"\xc0")))])
def test_a_daemon_that_breaks_the_protocol_is_left(tmp_path: Path, answer: bytes) -> None:
    path = str(tmp_path / "s")

    async def bad_daemon(task_status: trio.TaskStatus[None]) -> None:
        with trio.socket.socket(trio.socket.AF_UNIX) as listener:
            await listener.bind(path)
            listener.listen()
            task_status.started()
            peer, _ = await listener.accept()
            with peer:
                await receive(peer)
                await send_frame(peer, encode(Welcome(1, "bad", 0)))
                await receive(peer)
                await send_frame(peer, answer)
                await trio.sleep_forever()

    async def scenario() -> None:
        async with trio.open_nursery() as nursery:
            await nursery.start(bad_daemon)
            async with open_connection(path) as connection:
                with pytest.raises(ProtocolError):
                    await connection.call(ops.ListRepositories())
                assert not connection.alive
            nursery.cancel_scope.cancel()

    in_trio(scenario)
