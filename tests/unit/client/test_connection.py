"""The blocking driver: one socket, many threads, nothing lost and nothing leaked."""

from __future__ import annotations

import gc
import itertools
import os
import queue
import signal
import socket
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from typing import Any

import msgspec
import pytest
from tests.unit.client.conftest import open_descriptors, wait_for
from tests.unit.client.fake_daemon import Asked, FakeDaemon, WithFds
from tests.unit.client.fake_repository import INFO

from pantry.client.connection import Connection, connect
from pantry.errors import (
    BY_CODE,
    DaemonUnavailableError,
    DatasetNotFoundError,
    PantryError,
    ProtocolError,
)
from pantry.model.data_id import DataCoordinate
from pantry.model.datasets import DatasetRef, DatasetType, StoredFile
from pantry.wire.envelope import STREAM_WINDOW, Failure, Reply, Welcome, encode
from pantry.wire.operations import (
    CachedObject,
    CacheListing,
    CloseOpened,
    Done,
    FetchRanges,
    GetRepository,
    ListCache,
    ListRepositories,
    OpenDataset,
    Opened,
    Operation,
    RepositoryList,
)

Make = Callable[..., FakeDaemon]


def fetch(handle: int) -> FetchRanges:
    """An operation that carries a number."""
    return FetchRanges(handle=handle, ranges=())


def opened(handle: int = 0, name: str = "x") -> Opened:
    kind = DatasetType(name="t", dimensions=(), storage_class="Bytes")
    import uuid

    ref = DatasetRef(id=uuid.UUID(int=1), dataset_type=kind, data_id=DataCoordinate((), ()), run="r")
    file = StoredFile(path="p", size_bytes=0, hash="", formatter="bytes", ingest_ns=0)
    return Opened(ref=ref, file=file, name=name, complete=not handle, handle=handle)


def leads(connection: Connection) -> bool:
    """Whether some thread waits for an answer; a Ctrl-C while sending costs the link, as it must."""
    return connection._link is not None and connection._link._leader != 0


def test_calls_and_reuses_the_link(make_daemon: Make) -> None:
    daemon = make_daemon(lambda op, asked: Done())
    with Connection(daemon.path) as connection:
        assert connection.welcome.daemon == "fake"
        assert [connection.call(fetch(n)) for n in range(3)] == [Done()] * 3
    assert len(daemon.peers) == 1


def test_raises_every_error_as_its_own_class(make_daemon: Make) -> None:
    codes = sorted(BY_CODE)

    def answer(op: Any, asked: Asked) -> Any:
        raise BY_CODE[codes[op.handle]]("what failed", hint="what to do", path="x")

    with Connection(make_daemon(answer).path) as connection:
        for number, code in enumerate(codes):
            with pytest.raises(PantryError) as caught:
                connection.call(fetch(number))
            assert type(caught.value) is BY_CODE[code]
            assert (caught.value.message, caught.value.hint) == ("what failed", "what to do")
            assert caught.value.fields == {"path": "x"}


def test_answers_out_of_order_reach_the_right_threads(make_daemon: Make) -> None:
    waiting: list[tuple[Asked, str]] = []
    lock = threading.Lock()

    def answer(op: Any, asked: Asked) -> None:
        with lock:
            waiting.append((asked, op.repository))
            if len(waiting) < 16:
                return
        for one, name in reversed(waiting):
            one.peer.reply(one.number, opened(name=name))

    daemon = make_daemon(answer)
    results: queue.Queue[tuple[int, str]] = queue.Queue()
    with Connection(daemon.path) as connection:

        def ask(n: int) -> None:
            results.put((n, connection.call(OpenDataset(repository=str(n))).name))

        threads = [threading.Thread(target=ask, args=(n,)) for n in range(16)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(10)
    assert sorted(results.queue) == [(n, str(n)) for n in range(16)]
    assert len(daemon.peers) == 1


def test_many_threads_many_calls(make_daemon: Make) -> None:
    daemon = make_daemon(lambda op, asked: opened(name=op.repository))
    wrong: list[object] = []
    with Connection(daemon.path) as connection:

        def ask(base: int) -> None:
            for n in range(base, base + 100):
                if (name := connection.call(OpenDataset(repository=str(n))).name) != str(n):
                    wrong.append((n, name))

        threads = [threading.Thread(target=ask, args=(1000 * n,)) for n in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
            assert not thread.is_alive()
    assert wrong == []


def test_descriptors_are_close_on_exec_and_none_leaks(make_daemon: Make) -> None:
    def answer(op: Any, asked: Asked) -> WithFds:
        return WithFds(opened(), (os.open("/dev/null", os.O_RDONLY), os.open("/dev/zero", os.O_RDONLY)))

    with Connection(make_daemon(answer).path) as connection:
        connection.call(OpenDataset(repository="r"))
        before = open_descriptors()
        result, fds = connection.call_with_fds(OpenDataset(repository="r"))
        assert result.complete
        assert [os.get_inheritable(fd) for fd in fds] == [False, False]
        assert os.read(fds[1], 2) == b"\0\0"
        for fd in fds:
            os.close(fd)
        for _ in range(20):
            connection.call(OpenDataset(repository="r"))  # does not want them
        wait_for(lambda: open_descriptors() <= before)


def test_descriptors_of_a_senseless_answer_are_closed(make_daemon: Make) -> None:
    with Connection(
        make_daemon(lambda op, asked: WithFds({"no": "Opened"}, (os.open("/dev/null", os.O_RDONLY),))).path
    ) as connection:
        _ = connection.welcome
        before = open_descriptors()
        for _ in range(5):
            with pytest.raises(ProtocolError, match="cannot be understood"):
                connection.call_with_fds(OpenDataset(repository="r"))
        wait_for(lambda: open_descriptors() <= before)


def test_lost_descriptors_are_an_error(make_daemon: Make) -> None:
    import resource

    def answer(op: Any, asked: Asked) -> WithFds:
        return WithFds(opened(), tuple(os.open("/dev/null", os.O_RDONLY) for _ in range(20)))

    # In a child, so that the limit bites only the client.
    daemon = make_daemon(answer)
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            connection = Connection(daemon.path)
            _ = connection.welcome
            before = open_descriptors()
            _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
            used = {int(name) for name in os.listdir("/proc/self/fd")}
            free = (fd for fd in itertools.count() if fd not in used)
            resource.setrlimit(resource.RLIMIT_NOFILE, (next(itertools.islice(free, 6, None)), hard))
            try:
                connection.call_with_fds(OpenDataset(repository="r"))
            except ProtocolError as exc:
                status = 0 if "ulimit" in exc.hint and open_descriptors() <= before else 2
        except BaseException:
            traceback.print_exc()  # pytest does not see it
        finally:
            os._exit(status)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0


def test_sends_descriptors(make_daemon: Make) -> None:
    got: list[bytes] = []

    def answer(op: Any, asked: Asked) -> Done:
        got.append(os.read(asked.fds[0], 10))
        return Done()

    read, write = os.pipe()
    os.write(write, b"hello")
    with Connection(make_daemon(answer).path) as connection:
        connection.call(fetch(1), fds=(read,))
    os.fstat(read)  # still open here
    os.close(read)
    os.close(write)
    assert got == [b"hello"]


# -- streams ------------------------------------------------------------------------------------


def listing(n: int) -> CacheListing:
    return CacheListing([CachedObject("r", str(n), n, n, 0, 0)])


def test_stream_arrives_in_order_with_flow_control(make_daemon: Make) -> None:
    sent = []

    def answer(op: Operation[Any], asked: Asked) -> Iterator[CacheListing]:
        for n in range(100):
            sent.append(n)
            yield listing(n)

    with Connection(make_daemon(answer).path) as connection:
        stream = connection.stream(ListCache())
        first = next(stream)
        assert first == listing(0)
        wait_for(lambda: len(sent) >= STREAM_WINDOW)
        time.sleep(0.05)  # it must not come further: nothing to wait for
        assert len(sent) <= STREAM_WINDOW + 1
        assert [batch.objects[0].size_bytes for batch in stream] == list(range(1, 100))


def test_stream_ends_with_its_error(make_daemon: Make) -> None:
    def answer(op: Operation[Any], asked: Asked) -> Iterator[CacheListing]:
        yield listing(0)
        raise DatasetNotFoundError("gone")

    with Connection(make_daemon(answer).path) as connection:
        stream = connection.stream(ListCache())
        next(stream)
        with pytest.raises(DatasetNotFoundError):
            next(stream)


@pytest.mark.parametrize("end", ["close", "drop"])
def test_stream_closed_early_is_cancelled(make_daemon: Make, end: str) -> None:
    def answer(op: Operation[Any], asked: Asked) -> Any:
        if isinstance(op, ListCache):
            return (listing(n) for n in range(10**9))
        return Done()

    daemon = make_daemon(answer)
    with Connection(daemon.path) as connection:
        stream = connection.stream(ListCache())
        next(stream)
        if end == "close":
            stream.close()  # type: ignore[attr-defined]
        else:
            del stream
            gc.collect()
        wait_for(lambda: len(daemon.cancels) == 1)
        assert connection.call(fetch(1)) == Done()


def test_calls_within_a_stream(make_daemon: Make) -> None:
    def answer(op: Operation[Any], asked: Asked) -> Any:
        return (listing(n) for n in range(50)) if isinstance(op, ListCache) else Done()

    with Connection(make_daemon(answer).path) as connection:
        count = 0
        for _ in connection.stream(ListCache()):
            assert connection.call(fetch(1)) == Done()
            count += 1
    assert count == 50


# -- cancellation -------------------------------------------------------------------------------


def test_ctrl_c_cancels_and_leaves_the_connection_usable(make_daemon: Make) -> None:
    cancelled = threading.Event()

    def answer(op: Any, asked: Asked) -> Any:
        if op.handle != 7:
            return Done()
        wait_for(lambda: leads(connection))
        os.kill(os.getpid(), signal.SIGINT)
        asked.cancelled.wait(5)
        cancelled.set()
        return Done()

    daemon = make_daemon(answer)
    with Connection(daemon.path) as connection:
        with pytest.raises(KeyboardInterrupt):
            connection.call(fetch(7))
        assert cancelled.wait(5)
        assert connection.call(fetch(1)) == Done()
    assert len(daemon.peers) == 1


def test_what_comes_after_cancellation_is_given_back(make_daemon: Make) -> None:
    def answer(op: Any, asked: Asked) -> Any:
        if not isinstance(op, OpenDataset):
            return Done()
        wait_for(lambda: leads(connection))
        os.kill(os.getpid(), signal.SIGINT)
        asked.cancelled.wait(5)
        return WithFds(opened(handle=5), (os.open("/dev/null", os.O_RDONLY),))

    daemon = make_daemon(answer)
    with Connection(daemon.path) as connection:
        connection.call(fetch(1))
        before = open_descriptors()
        with pytest.raises(KeyboardInterrupt):
            connection.call_with_fds(OpenDataset(repository="r"))
        wait_for(lambda: connection.call(fetch(1)) == Done() and CloseOpened(handle=5) in daemon.asked)
        wait_for(lambda: open_descriptors() <= before)


def test_ctrl_c_of_the_leader_lets_another_thread_lead(make_daemon: Make) -> None:
    release = threading.Event()
    second_waits = threading.Event()

    def answer(op: Any, asked: Asked) -> Any:
        if op.handle == 1:
            second_waits.wait(5)
            os.kill(os.getpid(), signal.SIGINT)
            asked.cancelled.wait(5)
            release.set()
        else:
            second_waits.set()
            release.wait(5)
        return Done()

    results: list[object] = []
    with Connection(make_daemon(answer).path) as connection:
        _ = connection.welcome

        def follow() -> None:
            wait_for(lambda: leads(connection))
            results.append(connection.call(fetch(2)))

        thread = threading.Thread(target=follow)
        thread.start()
        with pytest.raises(KeyboardInterrupt):
            connection.call(fetch(1))
        thread.join(5)
        assert results == [Done()]


# -- loss ---------------------------------------------------------------------------------------


def test_no_daemon(tmp_path: Any) -> None:
    with pytest.raises(DaemonUnavailableError) as caught:
        Connection(str(tmp_path / "none")).call(ListRepositories())
    assert caught.value.hint
    assert caught.value.fields["reason"] == "absent"


def test_too_long_a_path() -> None:
    with pytest.raises(DaemonUnavailableError, match="too long a path"):
        Connection("/tmp/" + "x" * 200).call(ListRepositories())


def test_connection_lost_during_a_call_and_made_again(make_daemon: Make) -> None:
    def answer(op: Any, asked: Asked) -> Any:
        if op.handle:
            asked.peer.sock.shutdown(socket.SHUT_RDWR)
            return None
        return Done()

    daemon = make_daemon(answer)
    with Connection(daemon.path) as connection:
        before = open_descriptors()
        for _ in range(3):
            with pytest.raises(DaemonUnavailableError) as caught:
                connection.call(fetch(1))
            assert "next call" in caught.value.hint
            assert connection.call(fetch(0)) == Done()
        wait_for(lambda: open_descriptors() <= before + 3)


def test_all_waiting_threads_hear_of_the_loss(make_daemon: Make) -> None:
    n_asked = []
    daemon = make_daemon(lambda op, asked: n_asked.append(1))
    lost: list[str] = []
    with Connection(daemon.path) as connection:

        def ask() -> None:
            try:
                connection.call(fetch(1))
            except DaemonUnavailableError as exc:
                lost.append(exc.code)

        threads = [threading.Thread(target=ask) for _ in range(8)]
        for thread in threads:
            thread.start()
        wait_for(lambda: len(n_asked) == 8)
        daemon.hang_up()
        for thread in threads:
            thread.join(5)
        assert len(lost) == 8


def test_a_restart_between_calls_is_not_noticed(make_daemon: Make) -> None:
    daemon = make_daemon(lambda op, asked: Done())
    with Connection(daemon.path) as connection:
        connection.call(fetch(1))
        link = connection.link()
        daemon.hang_up()
        wait_for(lambda: link.notices_hangup())
        assert connection.call(fetch(1)) == Done()
        assert len(daemon.peers) == 2
        with pytest.raises(DaemonUnavailableError):
            link.call(fetch(1))  # what was opened on it is gone, and its numbers mean nothing on another


def test_time_out(make_daemon: Make) -> None:
    daemon = make_daemon(lambda op, asked: None if op.handle else Done())
    with Connection(daemon.path, timeout_s=0.05) as connection:
        with pytest.raises(DaemonUnavailableError, match="within"):
            connection.call(fetch(1))
        wait_for(lambda: daemon.cancels != [])
        assert connection.call(fetch(0)) == Done()


# -- a hostile daemon ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    "said",
    [
        Reply(999, msgspec.Raw(encode(Done()))),
        Welcome(1, "again", 0),
        {"type": "nonsense"},
        [1, 2],
    ],
)
def test_broken_protocol(make_daemon: Make, said: object) -> None:
    def answer(op: Any, asked: Asked) -> Any:
        if op.handle:
            asked.peer.send(said, (os.open("/dev/null", os.O_RDONLY),))
            return None
        return Done()

    with Connection(make_daemon(answer).path) as connection:
        connection.call(fetch(0))
        before = open_descriptors()
        with pytest.raises(ProtocolError):
            connection.call(fetch(1))
        assert connection.call(fetch(0)) == Done()
        wait_for(lambda: open_descriptors() <= before)


def test_stream_in_answer_to_a_call_and_the_other_way_round(make_daemon: Make) -> None:
    from pantry.wire.envelope import End

    def answer(op: Any, asked: Asked) -> Any:
        if isinstance(op, FetchRanges):
            asked.peer.send(End(asked.number))
            return None
        asked.peer.reply(asked.number, RepositoryList((INFO,)))
        return iter(())

    daemon = make_daemon(answer)
    with Connection(daemon.path) as connection:
        with pytest.raises(ProtocolError, match="with a stream"):
            connection.call(fetch(1))
        with pytest.raises(ProtocolError, match="with one result"):
            list(connection.stream(ListCache()))


@pytest.mark.parametrize(
    ("greeting", "error"),
    [
        (Failure(0, "permission_denied", "not you", "ask"), "not you"),
        (Failure(0, "protocol", "speak version 7"), "version 7"),
        (Welcome(99, "x", 0), "version 99"),
        (Reply(1, msgspec.Raw(b"\xc0")), "did not greet"),
    ],
)
def test_refused_greeting(make_daemon: Make, greeting: object, error: str) -> None:
    daemon = make_daemon(lambda op, asked: Done(), greeting=greeting)
    before = open_descriptors()
    with pytest.raises(PantryError, match=error):
        Connection(daemon.path).call(fetch(1))
    daemon.hang_up()
    wait_for(lambda: open_descriptors() <= before)


def test_too_large_a_request_spoils_nothing(make_daemon: Make) -> None:
    with Connection(make_daemon(lambda op, asked: Done()).path) as connection:
        with pytest.raises(ProtocolError, match="exceeds"):
            connection.call(GetRepository(repository="x" * (17 << 20)))
        assert connection.call(fetch(1)) == Done()


# -- fork ---------------------------------------------------------------------------------------


def test_a_forked_child_gets_a_connection_of_its_own(make_daemon: Make) -> None:
    daemon = make_daemon(lambda op, asked: Done())
    with Connection(daemon.path) as connection:
        connection.call(fetch(1))
        link = connection.link()
        pid = os.fork()
        if pid == 0:
            status = 1
            try:
                try:
                    link.call(fetch(1))
                except DaemonUnavailableError as exc:
                    if "parent" in str(exc) and connection.call(fetch(1)) == Done():
                        status = 0
            finally:
                os._exit(status)
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
        assert connection.call(fetch(1)) == Done()
        assert connection.link() is link
    assert len(daemon.peers) == 2


def test_fork_while_another_thread_waits(make_daemon: Make) -> None:
    release = threading.Event()

    def answer(op: Any, asked: Asked) -> Done:
        if op.handle == 1:
            release.wait(10)
        return Done()

    with Connection(make_daemon(answer).path) as connection:
        thread = threading.Thread(target=lambda: connection.call(fetch(1)))
        thread.start()
        wait_for(lambda: leads(connection))
        pid = os.fork()
        if pid == 0:
            status = 1
            try:
                status = 0 if connection.call(fetch(2)) == Done() else 2
            finally:
                os._exit(status)
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
        release.set()
        thread.join(5)
        assert not thread.is_alive()


def test_where_the_socket_is_looked_for(monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
    monkeypatch.setenv("PANTRY_SOCKET", str(tmp_path / "named"))
    assert connect().socket_path == str(tmp_path / "named")
    assert connect(str(tmp_path / "given")).socket_path == str(tmp_path / "given")
    monkeypatch.delenv("PANTRY_SOCKET")
    monkeypatch.setattr("pantry.wire.paths.SYSTEM_SOCKET", str(tmp_path / "system"))
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    assert connect().socket_path == str(tmp_path / "pantry" / "pantryd.sock")
