"""Starting a daemon on demand: only one, only in a safe place, and with a reason if it fails."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from pantry.client.connection import connect
from pantry.client.connection.launch import secure_runtime_directory, start_daemon
from pantry.errors import DaemonUnavailableError
from pantry.wire.operations import GetStatus


@pytest.fixture
def own_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("XDG_RUNTIME_DIR", "XDG_CONFIG_HOME", "XDG_STATE_HOME", "XDG_CACHE_HOME", "HOME"):
        monkeypatch.setenv(name, str(tmp_path))
    monkeypatch.delenv("PANTRY_SOCKET", raising=False)
    monkeypatch.setattr("pantry.wire.paths.SYSTEM_SOCKET", str(tmp_path / "system"))
    return tmp_path


def test_twenty_processes_start_one_daemon(own_home: Path) -> None:
    script = (
        "import pantry.wire.paths as paths; paths.SYSTEM_SOCKET = '/nonexistent'\n"
        "from pantry.client.connection import connect\n"
        "from pantry.wire.operations import GetStatus\n"
        "print(connect().call(GetStatus()).pid)"
    )
    asking = [subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE) for _ in range(20)]
    pids = {process.communicate(timeout=120)[0].strip() for process in asking}
    try:
        assert [process.returncode for process in asking] == [0] * 20
        assert len(pids) == 1
        assert connect().call(GetStatus()).pid == int(next(iter(pids)))
    finally:
        for pid in pids:
            os.kill(int(pid), signal.SIGTERM)


def test_the_reason_why_it_does_not_start(own_home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", _program(own_home, "echo 'the disk is on fire' >&2; exit 3"))
    (own_home / "pantry").mkdir(mode=0o700)
    (own_home / "pantry" / "pantryd.log").write_text("yesterday's trouble\n")
    with pytest.raises(DaemonUnavailableError) as caught:
        connect().call(GetStatus())
    assert "the disk is on fire" in caught.value.message
    assert "yesterday" not in caught.value.message
    assert "pantryd.log" in caught.value.hint


def test_a_daemon_that_never_gets_ready(own_home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", _program(own_home, "exec sleep 60"))
    begin = time.monotonic()
    with pytest.raises(DaemonUnavailableError, match="did not start"):
        start_daemon(str(own_home / "pantry" / "pantryd.sock"), deadline_s=0.2)
    assert time.monotonic() - begin < 10


def _program(directory: Path, what: str) -> str:
    program = directory / "program"
    program.write_text(f"#!/bin/sh\n{what}\n")
    program.chmod(0o755)
    return str(program)


def test_none_is_started_for_a_named_socket(own_home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PANTRY_SOCKET", str(own_home / "named"))
    for connection in (connect(), connect(start=False), connect(str(own_home / "other"))):
        with pytest.raises(DaemonUnavailableError, match="no daemon answers"):
            connection.call(GetStatus())
    assert list(own_home.iterdir()) == []


@pytest.mark.parametrize("kind", ["writable", "link", "file"])
def test_unsafe_runtime_directory(own_home: Path, kind: str) -> None:
    path = own_home / "pantry"
    if kind == "writable":
        path.mkdir()
        path.chmod(0o770)
    elif kind == "link":
        (own_home / "elsewhere").mkdir(mode=0o700)
        path.symlink_to("elsewhere")
    else:
        path.write_text("")
    with pytest.raises(DaemonUnavailableError, match="only you can write"):
        connect().call(GetStatus())


@pytest.mark.root
@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to make a directory of another user")
def test_runtime_directory_of_somebody_else(own_home: Path) -> None:
    (own_home / "pantry").mkdir(mode=0o700)
    os.chown(own_home / "pantry", 65534, 65534)
    with pytest.raises(DaemonUnavailableError, match="only you can write"):
        secure_runtime_directory()


def test_runtime_directory_is_made_private(own_home: Path) -> None:
    assert secure_runtime_directory() == str(own_home / "pantry")
    assert (own_home / "pantry").stat().st_mode & 0o777 == 0o700
