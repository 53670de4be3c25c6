"""The processes of a mount are killed under its readers, who see a pause and never an error."""

from __future__ import annotations

import hashlib
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.integration.verifying_readers import READERS, longest_pause_s, readers
from tests.unit.fusefs.fake import FakeDaemon
from tests.unit.fusefs.mounted import MountProcess, can_mount, kill_all, mount_pids, mounted, wait_until

from pantry.fusefs.mounting import mounts_at

pytestmark = [pytest.mark.root, can_mount]

MIB = 1 << 20


@pytest.fixture
def place() -> Iterator[Path]:
    directory = Path(tempfile.mkdtemp(prefix="pantry-mount-"))
    directory.chmod(0o755)
    yield directory
    assert not mounts_at(str(directory / "mnt"))
    shutil.rmtree(directory)


@pytest.fixture
def daemon(place: Path) -> Iterator[FakeDaemon]:
    fake = FakeDaemon(place)
    repository = fake.repository("dp1")
    rng = random.Random(7)
    for visit in range(12):
        partial = bool(visit % 3 == 0)
        repository.add("run", "raw", rng.randbytes(300_000 + 70_000 * visit), partial=partial, visit=visit)
    with fake.running_in_thread():
        yield fake


def files_of(daemon: FakeDaemon, mount: MountProcess) -> list[tuple[str, str]]:
    return [
        (str(mount.point / "dp1/run/raw" / dataset.name), hashlib.sha256(dataset.content.read_bytes()).hexdigest())
        for dataset in daemon.repositories["dp1"].by_id.values()
    ]


def kill_server(mount: MountProcess) -> None:
    wait_until(lambda: mount.server_pid() != 0, what="a process that serves")
    os.kill(mount.server_pid(), signal.SIGKILL)


@pytest.mark.quiet
@pytest.mark.parametrize(
    ("options", "kills"),
    [
        ((), 10),
        (("--no-passthrough",), 10),
        (("--allow-other",), 10),
        pytest.param((), 100, marks=pytest.mark.soak),
        pytest.param(("--no-passthrough",), 100, marks=pytest.mark.soak),
    ],
)
def test_readers_do_not_notice_that_the_server_is_killed(
    daemon: FakeDaemon, place: Path, options: tuple[str, ...], kills: int
) -> None:
    rng = random.Random(3)
    with mounted(daemon.socket_path, place, *options) as mount:
        with readers(files_of(daemon, mount)) as results:
            for killed in range(1, kills + 1):
                kill_server(mount)
                wait_until(lambda n=killed: mount.log_text().count("going on at") == n, what="a successor")
                time.sleep(rng.random() * 0.3)
        rounds = [rounds for rounds, _ in results]
        assert len(rounds) == READERS
        assert min(rounds) > 3
        assert max(longest for _, longest in results) < longest_pause_s(kills)
        assert "Traceback" not in mount.log_text()


def test_readers_do_not_notice_that_the_holder_is_killed(daemon: FakeDaemon, place: Path) -> None:
    with mounted(daemon.socket_path, place) as mount:
        with readers(files_of(daemon, mount)):
            server = mount.server_pid()
            mount.process.kill()
            mount.process.wait()
            wait_until(lambda: len(mount_pids(mount.point)) == 2, what="another holder")
            assert mount.server_pid() == server
            for killed in (1, 2):
                kill_server(mount)
                wait_until(lambda n=killed: mount.log_text().count("going on at") == n, what="a successor")
        subprocess.run(["fusermount3", "-u", mount.point], check=True)
        wait_until(lambda: not mount_pids(mount.point), what="the end of all")


def test_a_server_that_hangs_is_replaced(daemon: FakeDaemon, place: Path) -> None:
    """It is stopped, not killed, so that only its silence tells; the wait is as long as the holder's patience."""
    with mounted(daemon.socket_path, place, "--hung-after", "1") as mount:
        os.kill(mount.server_pid(), signal.SIGSTOP)
        assert os.listdir(mount.point) == ["dp1"]
        assert "does not answer" in mount.log_text()


def test_a_new_version_is_started_on_request(daemon: FakeDaemon, place: Path) -> None:
    with mounted(daemon.socket_path, place) as mount:
        before = mount.server_pid()
        mount.process.send_signal(signal.SIGUSR1)
        wait_until(lambda: mount.server_pid() not in (0, before), what="a successor")
        assert os.listdir(mount.point) == ["dp1"]


class Systemd:
    """What systemd does for a unit with a descriptor store: it keeps what it is given, and starts it again with it."""

    def __init__(self, directory: Path) -> None:
        self.address = str(directory / "notify")
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(self.address)
        self._socket.settimeout(20)
        self.kept: dict[str, int] = {}

    def close(self) -> None:
        self._socket.close()
        for fd in self.kept.values():
            os.close(fd)

    def until_ready(self) -> None:
        while True:
            data, fds, *_ = socket.recv_fds(self._socket, 100, 2)
            words = dict(line.split("=", 1) for line in data.decode().splitlines())
            if words.get("FDSTORE") == "1":
                (self.kept[words["FDNAME"]],) = fds
            if words.get("FDSTOREREMOVE") == "1":
                os.close(self.kept.pop(words["FDNAME"]))
            if words.get("READY") == "1":
                return

    def start(self, socket_path: str, point: Path, log: Path) -> subprocess.Popen[bytes]:
        fds = list(self.kept.values())
        script = 'import os, sys; os.environ["LISTEN_PID"] = str(os.getpid())\n'
        script += "".join(f"os.dup2({fd}, {100 + place})\n" for place, fd in enumerate(fds))
        script += "".join(f"os.dup2({100 + place}, {3 + place})\n" for place in range(len(fds)))
        script += "os.execv(sys.executable, [sys.executable, *sys.argv[1:]])"
        environment = {**os.environ, "NOTIFY_SOCKET": self.address}
        if fds:
            environment |= {"LISTEN_FDS": str(len(fds)), "LISTEN_FDNAMES": ":".join(self.kept)}
        with log.open("ab") as out:
            return subprocess.Popen(
                [sys.executable, "-c", script, "-m", "pantry.fusefs.main", "--socket", socket_path, str(point)],
                pass_fds=fds, env=environment, stdout=out, stderr=out,
            )  # fmt: skip


def test_systemd_keeps_the_mount_when_all_are_killed(daemon: FakeDaemon, place: Path) -> None:
    point, log = place / "mnt", place / "log"
    point.mkdir()
    systemd = Systemd(place)
    process = systemd.start(daemon.socket_path, point, log)
    try:
        systemd.until_ready()
        assert sorted(systemd.kept) == ["pantry-device", "pantry-state"]
        dataset = next(iter(daemon.repositories["dp1"].by_id.values()))
        with (point / "dp1/run/raw" / dataset.name).open("rb", buffering=0) as file:
            assert file.read(10) == dataset.content.read_bytes()[:10]
            kill_all(point)
            process.wait()
            process = systemd.start(daemon.socket_path, point, log)
            assert file.read() == dataset.content.read_bytes()[10:]
            systemd.until_ready()
            assert len(mounts_at(str(point))) == 1
    finally:
        process.terminate()
        assert process.wait(20) == 0, log.read_text()
        systemd.close()
    assert not mounts_at(str(point))
    assert "Traceback" not in log.read_text()


def test_a_state_that_cannot_be_gone_on_with_is_mounted_anew(daemon: FakeDaemon, place: Path) -> None:
    point, log = place / "mnt", place / "log"
    point.mkdir()
    systemd = Systemd(place)
    process = systemd.start(daemon.socket_path, point, log)
    try:
        systemd.until_ready()
        kill_all(point)
        process.wait()
        os.pwrite(systemd.kept["pantry-state"], b"another!", 0)
        process = systemd.start(daemon.socket_path, point, log)
        systemd.until_ready()
        assert os.listdir(point) == ["dp1"]
        assert "another version" in log.read_text()
        assert len(mounts_at(str(point))) == 1
    finally:
        process.terminate()
        assert process.wait(20) == 0, log.read_text()
        systemd.close()
