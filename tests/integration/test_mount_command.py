"""The mount's command line: what it refuses and why, the background, and what an earlier mount left behind."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.unit.fusefs.fake import FakeDaemon
from tests.unit.fusefs.mounted import MountProcess, can_mount, mount_pids, mounted, wait_until

from pantry.errors import NotFoundError
from pantry.fusefs import mounting

pytestmark = [pytest.mark.root, can_mount]


@pytest.fixture
def place() -> Iterator[Path]:
    directory = Path(tempfile.mkdtemp(prefix="pantry mount ü-"))  # a name that mountinfo escapes
    yield directory
    assert not mounting.mounts_at(str(directory / "mnt"))
    shutil.rmtree(directory)


@pytest.fixture
def daemon(place: Path) -> Iterator[FakeDaemon]:
    fake = FakeDaemon(place)
    fake.repository("dp1").add("run", "t", b"hello", visit=1)
    with fake.running_in_thread():
        yield fake


def command(*arguments: object, home: Path | None = None) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, **({"XDG_STATE_HOME": str(home)} if home else {})}
    return subprocess.run(
        [sys.executable, "-m", "pantry.fusefs.main", *map(str, arguments)],
        capture_output=True, text=True, timeout=60, env=environment,
    )  # fmt: skip


def ended(pid: int) -> bool:
    try:
        with open(f"/proc/{pid}/stat", encoding="ascii") as file:
            return file.read().rpartition(")")[2].split()[0] == "Z"
    except FileNotFoundError:
        return True


def test_in_the_background_and_back(daemon: FakeDaemon, place: Path) -> None:
    point = place / "mnt"
    point.mkdir()
    done = command("--background", "--socket", daemon.socket_path, point, home=place)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert (point / "dp1/run/t/t_1.dat").read_text() == "hello"
    pids = mount_pids(point)
    assert len(pids) == 2
    assert "mounted at" in (place / "pantry/mount.log").read_text()

    again = command("--background", "--socket", daemon.socket_path, point, home=place)
    assert again.returncode == 1
    assert "already mounted" in again.stderr
    assert "pantry umount" in again.stderr

    with (point / "dp1/run/t/t_1.dat").open():
        busy = command("--unmount", point)
        assert busy.returncode == 1
        assert "busy" in busy.stderr
        assert "--lazy" in busy.stderr
    done = command("--unmount", point)
    assert (done.returncode, done.stderr) == (0, "")
    wait_until(lambda: all(map(ended, pids)), what="the end of the mount's processes")
    done = command("--unmount", point)
    assert done.returncode == 1
    assert "not mounted" in done.stderr


@pytest.mark.parametrize("background", [False, True])
def test_wrong_mount_points_are_explained(place: Path, background: bool) -> None:
    (place / "file").write_text("")
    options = ["--background"] if background else []
    for name, message in (("missing", "does not exist"), ("file", "is not a directory"), ("file/x", "cannot be used")):
        done = command(*options, "--socket", place / "none", place / name, home=place)
        assert done.returncode == 1
        assert message in done.stderr
        assert "Traceback" not in done.stderr


def test_a_directory_with_something_in_it_is_warned_of(daemon: FakeDaemon, place: Path) -> None:
    (place / "mnt").mkdir()
    (place / "mnt" / "kept").write_text("")
    with mounted(daemon.socket_path, place) as mount:
        assert "is not empty" in mount.log_text()
        assert os.listdir(mount.point) == ["dp1"]
    assert os.listdir(place / "mnt") == ["kept"]


def test_what_a_killed_mount_left_is_cleared_away(daemon: FakeDaemon, place: Path) -> None:
    point = place / "mnt"
    with mounted(daemon.socket_path, place) as mount:
        mount.kill()
        with pytest.raises(OSError, match="not connected|connection abort"):
            os.listdir(point)
        with mounted(daemon.socket_path, place) as second:
            assert (second.point / "dp1/run/t/t_1.dat").read_text() == "hello"
            assert len(mounting.mounts_at(str(point))) == 1


def test_without_a_daemon_it_mounts_and_waits_for_one(place: Path) -> None:
    fake = FakeDaemon(place)
    fake.repository("dp1")
    with mounted(fake.socket_path, place) as mount:
        with pytest.raises(OSError, match="Host is down"):
            os.listdir(mount.point)
        with fake.running_in_thread():
            wait_until(lambda: _listing(mount) == ["dp1"])


def _listing(mount: MountProcess) -> list[str]:
    try:
        return os.listdir(mount.point)
    except OSError:
        return []


def test_systemd_is_told(daemon: FakeDaemon, place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notified:
        notified.bind(str(place / "notify"))
        notified.settimeout(10)
        monkeypatch.setenv("NOTIFY_SOCKET", str(place / "notify"))
        with mounted(daemon.socket_path, place):
            messages = [socket.recv_fds(notified, 100, 1) for _ in range(3)]
            assert [data for data, *_ in messages] == [
                b"FDSTORE=1\nFDPOLL=0\nFDNAME=pantry-device",
                b"FDSTORE=1\nFDPOLL=0\nFDNAME=pantry-state",
                b"READY=1",
            ]
            assert [len(fds) for _, fds, *_ in messages] == [1, 1, 0]
            for _, fds, *_ in messages:
                for fd in fds:
                    os.close(fd)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_both_signals_end_it(daemon: FakeDaemon, place: Path, number: signal.Signals) -> None:
    with mounted(daemon.socket_path, place) as mount:
        mount.process.send_signal(number)
        assert mount.process.wait(10) == 0
        assert "Traceback" not in mount.log_text()


def test_unmounting_by_hand_ends_the_process(daemon: FakeDaemon, place: Path) -> None:
    with mounted(daemon.socket_path, place) as mount:
        mounting.unmount(str(mount.point))
        assert mount.process.wait(10) == 0
        with pytest.raises(NotFoundError):
            mounting.unmount(str(mount.point))


def test_the_kernel_is_tuned(daemon: FakeDaemon, place: Path) -> None:
    with mounted(daemon.socket_path, place) as mount:
        directory = Path(mounting.bdi_directory(str(mount.point)))
        assert (directory / "read_ahead_kb").read_text() == f"{mounting.READ_AHEAD_KIB}\n"


def test_mount_itself_mounts_it(daemon: FakeDaemon, place: Path) -> None:
    """As fstab does: mount(8) finds the helper by the type. A link to it is in /sbin for as long as the test takes."""
    point = place / "mnt"
    point.mkdir()
    helper = Path("/sbin/mount.fuse.pantry")
    made = not helper.is_symlink()
    if made:
        helper.symlink_to(Path(sys.executable).with_name("mount.fuse.pantry"))
    try:
        options = f"allow_other,nofail,log_file={place / 'log'}"
        subprocess.run(["mount", "-t", "fuse.pantry", daemon.socket_path, point, "-o", options], check=True)
        assert (point / "dp1/run/t/t_1.dat").read_text() == "hello"
        wrong = subprocess.run(
            ["mount", "-t", "fuse.pantry", "pantry", point, "-o", "alow_other"],
            capture_output=True,
            text=True,
            check=False,
        )
        assert wrong.returncode
        assert "alow_other" in wrong.stderr
        pids = mount_pids(point)
        subprocess.run(["umount", point], check=True)
        wait_until(lambda: all(map(ended, pids)), what="the end of the mount's processes")
    finally:
        if made:
            helper.unlink()
