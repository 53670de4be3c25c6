"""The daemon's life: on demand, idle, shutdown, crash; and what it holds for its clients."""

from __future__ import annotations

import os
import signal
import socket as sockets
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from tests.integration.observatory import INSTRUMENT, furnish
from tests.servers.other_user import run_as, start_as
from tests.servers.pantryd import PantryDaemon

from pantry.client import Butler
from pantry.client.connection import connect
from pantry.errors import DaemonUnavailableError, PantryError, PermissionDeniedError
from pantry.wire import operations as ops

POLL_S = 0.02


def eventually(condition: Callable[[], bool], what: str, timeout_s: float = 20.0) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, f"did not come: {what}"
        threading.Event().wait(POLL_S)


@pytest.fixture
def butler(make_daemon: Callable[..., PantryDaemon], short_dir: Path) -> Iterator[Butler]:
    daemon = make_daemon()
    with Butler.create("life", str(short_dir / "root"), socket=daemon.socket) as made:
        furnish(made)
        made.daemon = daemon  # type: ignore[attr-defined]
        yield made


@pytest.fixture
def home(short_dir: Path) -> Iterator[dict[str, str]]:
    """A user's environment of its own; the daemon started in it is ended."""
    runtime = short_dir / "run"
    runtime.mkdir(mode=0o700)
    environment = {
        **os.environ,
        "HOME": str(short_dir),
        "XDG_RUNTIME_DIR": str(runtime),
        "XDG_CONFIG_HOME": str(short_dir / "config"),
        "XDG_STATE_HOME": str(short_dir / "state"),
        "XDG_CACHE_HOME": str(short_dir / "cache"),
    }
    environment.pop("PANTRY_SOCKET", None)
    yield environment
    path = str(runtime / "pantry" / "pantryd.sock")
    if os.path.exists(path):
        pid = connect(path).call(ops.GetStatus()).pid
        os.kill(pid, signal.SIGTERM)
        eventually(lambda: not os.path.exists(path), "the daemon's end")


ASK_PID = "from pantry.client.connection import connect; from pantry.wire.operations import GetStatus; " + (
    "print(connect().call(GetStatus()).pid)"
)


def test_twenty_clients_at_once_start_one_daemon(home: dict[str, str]) -> None:
    asked = [
        subprocess.Popen([sys.executable, "-c", ASK_PID], env=home, stdout=subprocess.PIPE, text=True)
        for _ in range(20)
    ]
    pids = {one.communicate(timeout=60)[0].strip() for one in asked}
    assert len(pids) == 1
    assert pids != {""}


def test_a_daemon_started_on_demand_leaves_when_nobody_is_connected(home: dict[str, str], short_dir: Path) -> None:
    config = short_dir / "config" / "pantry"
    config.mkdir(parents=True)
    (config / "pantryd.yaml").write_text("idle_exit_s: 0.5\n")
    done = subprocess.run([sys.executable, "-c", ASK_PID], env=home, capture_output=True, text=True, check=True)
    pid = int(done.stdout)
    eventually(lambda: not os.path.exists(f"/proc/{pid}"), "the idle daemon's leaving")
    assert not (short_dir / "run" / "pantry" / "pantryd.sock").exists()


def test_a_client_killed_while_it_puts_frees_what_it_held(butler: Butler) -> None:
    code = (
        "import sys, os, signal\n"
        "from pantry.client.connection import connect\n"
        "from pantry.wire.operations import BeginPut\n"
        "connection = connect(sys.argv[1])\n"
        "ticket, fds = connection.call_with_fds(BeginPut(repository='life', dataset_type='config',"
        " data_id={'instrument': 'TestCam', 'exposure': 5}, run='u/killed'))\n"
        "os.write(fds[0], b'{')\n"
        "print('begun', flush=True)\n"
        "sys.stdin.read()\n"
    )
    daemon: PantryDaemon = butler.daemon  # type: ignore[attr-defined]
    client = subprocess.Popen(
        [sys.executable, "-c", code, daemon.socket], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert client.stdout is not None
    assert client.stdout.readline() == "begun\n"
    assert butler.connection.call(ops.GetStatus()).puts_under_way == 1
    assert [path.suffix for path in (daemon.cache / "incoming").iterdir()] == [".put"]
    client.kill()
    client.communicate()
    eventually(lambda: butler.connection.call(ops.GetStatus()).puts_under_way == 0, "the put to be given up")
    assert not list((daemon.cache / "incoming").iterdir())
    assert butler.put({"a": 1}, "config", instrument=INSTRUMENT, exposure=5, run="u/killed")


def test_what_a_client_writes_after_the_commit_has_no_effect(butler: Butler) -> None:
    link = butler.connection
    data_id: dict[str, int | str] = {"instrument": INSTRUMENT, "exposure": 6}
    ticket, (fd,) = link.call_with_fds(
        ops.BeginPut(repository="life", dataset_type="config", data_id=data_id, run="u/late")
    )
    os.pwrite(fd, b'{"honest": true}', 0)
    # The descriptor stays open for writing: the daemon must take a copy of its own.
    ref = link.call(ops.CommitPut(put=ticket.put))
    os.pwrite(fd, b'{"honest": nope}', 0)
    os.close(fd)
    assert butler.get(ref) == {"honest": True}


def test_arbitrary_bytes_on_the_socket_end_that_connection_only(butler: Butler) -> None:
    daemon: PantryDaemon = butler.daemon  # type: ignore[attr-defined]
    for junk in (b"GET / HTTP/1.1\r\n\r\n", b"\xff" * 100, b"\0\0\0\5\0\0\0\0junk!", b"\0\0"):
        with sockets.socket(sockets.AF_UNIX) as sock:
            sock.connect(daemon.socket)
            sock.sendall(junk)
            sock.shutdown(sockets.SHUT_WR)
            sock.settimeout(10)
            while sock.recv(4096):
                pass
    assert butler.connection.call(ops.GetStatus()).pid == daemon.pid


def test_a_second_daemon_on_the_same_socket_says_so(butler: Butler) -> None:
    daemon: PantryDaemon = butler.daemon  # type: ignore[attr-defined]
    argv = [sys.executable, "-m", "pantry.daemon.main", "--socket", daemon.socket]
    argv += ["--state", str(daemon.directory / "s2"), "--cache", str(daemon.directory / "c2")]
    done = subprocess.run(argv, capture_output=True, text=True, check=False, timeout=30)
    assert done.returncode == 1
    assert "another daemon already serves" in done.stderr
    assert "Traceback" not in done.stderr
    argv[4:5] = [daemon.socket + "2"]
    argv[-1] = str(daemon.cache)
    done = subprocess.run(argv, capture_output=True, text=True, check=False, timeout=30)
    assert done.returncode == 1
    assert "another daemon uses the cache directory" in done.stderr


def test_a_wrong_configuration_is_one_line_with_file_and_line(short_dir: Path) -> None:
    file = short_dir / "bad.yaml"
    file.write_text("cache:\n  quota: 5 GiB\n")
    argv = [sys.executable, "-m", "pantry.daemon.main", "--config", str(file)]
    done = subprocess.run(argv, capture_output=True, text=True, check=False, timeout=30)
    assert done.returncode == 1
    assert done.stderr == f"pantryd: error: {file}:2: unknown key 'cache.quota'\n  hint: did you mean 'quota_bytes'?\n"


def test_shutdown_lets_requests_end_and_tells_clients(butler: Butler) -> None:
    daemon: PantryDaemon = butler.daemon  # type: ignore[attr-defined]
    pid = daemon.pid
    refs: list[Any] = []

    def write() -> None:
        try:
            for exposure in range(1, 101):
                refs.append(
                    butler.put({"n": exposure}, "config", instrument=INSTRUMENT, exposure=exposure, run="u/end")
                )
        except DaemonUnavailableError:
            return

    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(write)
        eventually(lambda: len(refs) > 3, "some puts")
        os.kill(pid, signal.SIGTERM)
        running.result(60)
    daemon.stop()
    daemon.start()
    with Butler("life", collections="u/end", socket=daemon.socket) as again:
        found = {ref.id for ref in again.query_datasets("config")}
        assert {ref.id for ref in refs} <= found
        assert len(found) <= len(refs) + 1, "only the last one may have been stored without an answer"


def test_the_cache_is_kept_over_a_restart_and_a_crash(butler: Butler) -> None:
    daemon: PantryDaemon = butler.daemon  # type: ignore[attr-defined]
    ref = butler.put({"kept": 1}, "config", instrument=INSTRUMENT, exposure=7, run="u/kept")
    for end in (daemon.stop, daemon.kill):
        end()
        daemon.start()
        with Butler("life", socket=daemon.socket) as again:
            before = again.connection.call(ops.GetCacheStatus())
            assert before.objects == 1
            assert again.get(ref) == {"kept": 1}
            assert again.connection.call(ops.GetCacheStatus()).misses == 0


def test_the_index_is_rebuilt_when_it_is_destroyed(butler: Butler) -> None:
    daemon: PantryDaemon = butler.daemon  # type: ignore[attr-defined]
    daemon.expected_log = ("the cache's index cannot be read",)
    ref = butler.put({"kept": 1}, "config", instrument=INSTRUMENT, exposure=7, run="u/kept")
    daemon.stop()
    (daemon.cache / "index.sqlite3").write_bytes(b"not a database" * 1000)
    daemon.start()
    with Butler("life", socket=daemon.socket) as again:
        assert again.get(ref) == {"kept": 1}
        assert again.connection.call(ops.GetCacheStatus()).misses == 0


@pytest.mark.root
def test_a_users_own_daemon_serves_nobody_else(needs_root: None, butler: Butler) -> None:
    daemon: PantryDaemon = butler.daemon  # type: ignore[attr-defined]
    os.chmod(daemon.socket, 0o666)  # noqa: S103 - as if somebody had opened the directory
    code = "import sys; from pantry.client.connection import connect; connect(sys.argv[1]).link()"
    done = run_as(40001, code, daemon.socket)
    assert done.returncode == 1
    assert "PermissionDeniedError: this daemon serves uid 0 only" in done.stderr


@pytest.mark.root
def test_only_trusted_peers_ask_for_others(
    needs_root: None, make_daemon: Callable[..., PantryDaemon], short_dir: Path
) -> None:
    daemon = make_daemon(system=True)
    code = (
        "import sys, socket, msgspec\n"
        "from pantry.wire.envelope import *\n"
        "from pantry.wire.framing import *\n"
        "from pantry.wire.operations import GetRepository\n"
        "sock = socket.socket(socket.AF_UNIX); sock.connect(sys.argv[1])\n"
        "sock.sendall(encode_frame(encode(Hello((1,)))))\n"
        "request = Request(1, msgspec.Raw(encode(GetRepository(repository='x'))), Behalf(0, 0, ()))\n"
        "sock.sendall(encode_frame(encode(request)))\n"
        "parser = FrameParser(); frames = []\n"
        "while len(frames) < 2: frames += parser.feed(sock.recv(65536))\n"
        "print(decode_from_daemon(frames[1].payload).code)\n"
    )
    done = run_as(40001, code, daemon.socket)
    assert done.stdout == "permission_denied\n", done.stderr


SLUGGARD = """
import socket, sys, msgspec
from pantry.wire.envelope import Hello, Request, encode
from pantry.wire.framing import encode_frame
from pantry.wire.operations import QueryDatasets
sock = socket.socket(socket.AF_UNIX)
sock.connect(sys.argv[1])
sock.sendall(encode_frame(encode(Hello((1,)))))
query = QueryDatasets(repository="life", dataset_types=("config",), collections=("u/slow",))
for number in range(1, 200):
    sock.sendall(encode_frame(encode(Request(number, msgspec.Raw(encode(query))))))
print("asked", flush=True)
sys.stdin.read()
"""


@pytest.mark.root
def test_a_slow_client_does_not_stop_another(
    needs_root: None, make_daemon: Callable[..., PantryDaemon], short_dir: Path
) -> None:
    daemon = make_daemon(system=True)
    with Butler.create("life", str(short_dir / "root"), readers="*", socket=daemon.socket) as butler:
        furnish(butler)
        for exposure in range(1, 60):
            butler.put({"n": exposure}, "config", instrument=INSTRUMENT, exposure=exposure, run="u/slow")
        # It asks for two hundred results and never reads one. Meanwhile everybody else is served.
        sluggard = start_as(40001, SLUGGARD, daemon.socket)
        assert sluggard.stdout is not None
        assert sluggard.stdout.readline() == "asked\n"
        for _ in range(20):
            assert len(butler.query_datasets("config", collections="u/slow")) == 59
        assert butler.connection.call(ops.GetStatus()).connections == 2
        sluggard.communicate("")
        eventually(lambda: butler.connection.call(ops.GetStatus()).connections == 1, "the slow client's end")


def test_permission_errors_cross_the_wire_as_the_same_class(butler: Butler) -> None:
    with pytest.raises(PantryError) as caught:
        Butler("nowhere", connection=butler.connection)
    assert caught.value.code == "repository_not_found"
    assert "pantry repo list" in caught.value.hint
    assert not isinstance(caught.value, PermissionDeniedError)
