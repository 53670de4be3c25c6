"""The mount in a real kernel, with a fake daemon: what programs see."""

from __future__ import annotations

import contextlib
import errno
import json
import mmap
import os
import random
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.unit.fusefs.fake import FakeDaemon, FakeDataset
from tests.unit.fusefs.mounted import MountProcess, can_mount, mounted, wait_until

from pantry.errors import IntegrityError, TransientBackendError
from pantry.fusefs.mounting import mounts_at

pytestmark = [pytest.mark.root, can_mount]

MIB = 1 << 20
NOBODY = 65534


@pytest.fixture
def place() -> Iterator[Path]:
    """A directory that other users can reach, which tmp_path is not."""
    directory = Path(tempfile.mkdtemp(prefix="pantry-mount-"))
    directory.chmod(0o755)
    yield directory
    assert not mounts_at(str(directory / "mnt"))
    shutil.rmtree(directory)


@pytest.fixture
def daemon(place: Path) -> Iterator[FakeDaemon]:
    fake = FakeDaemon(place)
    repository = fake.repository("dp1")
    rng = random.Random(5)
    for detector in range(3):
        repository.add(
            "LSST/raw/all", "raw", rng.randbytes(70_000 + detector), extension=".fits", exposure=7, detector=detector
        )
    repository.add("u/anna/run", "conf", b"{}\n", extension=".json", instrument="L")
    repository.add("u/anna/run", "big", rng.randbytes(6 * MIB + 123), visit=1)
    repository.add("u/anna/run", "far", rng.randbytes(6 * MIB + 123), partial=True, visit=1)
    repository.chain("all", "u/anna/run", "LSST/raw/all")
    with fake.running_in_thread():
        yield fake


@pytest.fixture
def mount(daemon: FakeDaemon, place: Path) -> Iterator[MountProcess]:
    with mounted(daemon.socket_path, place, "--collections-ttl", "0.2") as process:
        yield process


def dataset_of(daemon: FakeDaemon, type_name: str) -> FakeDataset:
    return next(d for d in daemon.repositories["dp1"].by_id.values() if d.type.name == type_name)


def as_nobody(code: str, *arguments: object, groups: tuple[int, ...] = ()) -> str:
    """Run Python as another user; return what it prints, or the name of its errno."""
    program = (
        f"import os, sys\ntry:\n {code}\nexcept OSError as exc:\n import errno\n print(errno.errorcode[exc.errno])"
    )
    done = subprocess.run(
        ["/usr/bin/python3", "-I", "-c", program, *map(str, arguments)],
        user=NOBODY, group=NOBODY, extra_groups=list(groups), capture_output=True, text=True, timeout=60, cwd="/",
    )  # fmt: skip
    assert not done.stderr
    return done.stdout.strip()


def errno_name(action: object, *arguments: object) -> str:
    with pytest.raises(OSError) as caught:  # noqa: PT011 - whichever it is, its name is what is compared
        action(*arguments)  # type: ignore[operator]
    return errno.errorcode[caught.value.errno or 0]


def test_programs_see_ordinary_files(daemon: FakeDaemon, mount: MountProcess) -> None:
    listing = subprocess.run(["ls", "-lR", mount.point / "dp1"], capture_output=True, text=True, check=True).stdout
    assert "raw_7_2.fits" in listing
    found = subprocess.run(
        ["find", mount.point, "-type", "f", "-size", "+1k"], capture_output=True, text=True, check=True
    )
    assert len(found.stdout.split()) == 10
    assert daemon.calls["OpenDataset"] == 0
    for dataset in daemon.repositories["dp1"].by_id.values():
        for path in (
            next((mount.point / "dp1" / dataset.run).rglob(dataset.name)),
            next((mount.point / "dp1" / "all").rglob(dataset.name)),
            mount.point / "dp1" / ".by-id" / str(dataset.id) / dataset.name,
        ):
            assert path.stat().st_size == dataset.size
            assert path.stat().st_mtime_ns == dataset.stored.ingest_ns
            assert stat.S_IMODE(path.stat().st_mode) == 0o444
            subprocess.run(["cmp", path, dataset.content], check=True)
    assert os.listdir(mount.point / "dp1" / ".by-id") == []


def test_random_reads_give_the_right_bytes(daemon: FakeDaemon, mount: MountProcess) -> None:
    rng = random.Random(6)
    for name in ("big", "far"):
        dataset = dataset_of(daemon, name)
        path = mount.point / "dp1/u/anna/run" / name / dataset.name
        content = dataset.content.read_bytes()
        with path.open("rb", buffering=0) as file:
            for _ in range(200):
                offset, size = rng.randrange(dataset.size), rng.choice([1, 4096, 100_000, 3 * MIB])
                assert os.pread(file.fileno(), size, offset) == content[offset : offset + size]
        out = subprocess.run(
            ["dd", f"if={path}", "bs=1000", "skip=4000", "count=7", "status=none"], capture_output=True
        )
        assert out.stdout == content[4_000_000:4_007_000]


def test_a_file_that_is_still_fetched_can_be_mapped(daemon: FakeDaemon, mount: MountProcess) -> None:
    """By another process: a page fault holds the GIL that the fake daemon's thread needs."""
    dataset = dataset_of(daemon, "far")
    code = (
        "import mmap, sys, hashlib; f = open(sys.argv[1], 'rb'); "
        "print(hashlib.md5(mmap.mmap(f.fileno(), 0, mmap.MAP_SHARED, mmap.PROT_READ)).hexdigest(), end='')"
    )
    found = [
        subprocess.run([sys.executable, "-c", code, path], capture_output=True, text=True, check=True).stdout
        for path in (mount.point / "dp1/u/anna/run/far" / dataset.name, dataset.content)
    ]
    assert found[0] == found[1] != ""
    assert mmap.PAGESIZE


def test_pages_from_before_verification_are_dropped_after_it(daemon: FakeDaemon, mount: MountProcess) -> None:
    dataset = dataset_of(daemon, "far")
    path = mount.point / "dp1/u/anna/run/far" / dataset.name
    right = dataset.content.read_bytes()
    dataset.content.write_bytes(b"\xff" * dataset.size)  # a lying origin
    with path.open("rb") as file:
        assert file.read(4096) == b"\xff" * 4096
    dataset.content.write_bytes(right)
    dataset.partial = False
    wait_until(lambda: not daemon.handles)
    assert path.read_bytes() == right


def test_extended_attributes(daemon: FakeDaemon, mount: MountProcess) -> None:
    dataset = dataset_of(daemon, "raw")
    path = mount.point / "dp1/all/raw/7" / dataset.name
    found = {name.removeprefix("user.pantry."): os.getxattr(path, name).decode() for name in os.listxattr(path)}
    assert json.loads(found.pop("data_id")) == {"exposure": 7, "detector": 0}
    assert found == {
        "uuid": str(dataset.id), "hash": dataset.hash, "size": "70000", "dataset_type": "raw", "run": "LSST/raw/all",
        "origin": f"s3://bucket/dp1/LSST/raw/all/x/{dataset.name}", "cached": "complete",
    }  # fmt: skip
    far = mount.point / "dp1/all/far" / dataset_of(daemon, "far").name
    assert os.getxattr(far, "user.pantry.cached") == b"no"
    assert not daemon.fetched
    assert os.listxattr(mount.point / "dp1") == []
    assert errno_name(os.getxattr, path, "user.other") == "ENODATA"


def test_nothing_can_be_changed(mount: MountProcess) -> None:
    directory = mount.point / "dp1/u/anna/run/conf"
    path = directory / "conf_L.json"
    for flags in (os.O_WRONLY, os.O_RDWR, os.O_RDONLY | os.O_TRUNC, os.O_WRONLY | os.O_APPEND):
        assert errno_name(os.open, path, flags) == "EROFS"
    assert errno_name(os.open, directory / "new", os.O_CREAT | os.O_WRONLY) == "EROFS"
    assert errno_name(os.mkdir, directory / "new") == "EROFS"
    assert errno_name(os.unlink, path) == "EROFS"
    assert errno_name(os.rmdir, directory) == "EROFS"
    assert errno_name(os.rename, path, directory / "new") == "EROFS"
    assert errno_name(os.symlink, "x", directory / "new") == "EROFS"
    assert errno_name(os.link, path, directory / "new") == "EROFS"
    assert errno_name(os.chmod, path, 0o777) == "EROFS"
    assert errno_name(os.chown, path, 1, 1) == "EROFS"
    assert errno_name(os.truncate, path, 0) == "EROFS"
    assert errno_name(os.utime, path) == "EROFS"
    assert errno_name(os.setxattr, path, "user.x", b"") == "EROFS"
    assert errno_name(os.removexattr, path, "user.pantry.run") == "EROFS"
    assert errno_name(os.mknod, directory / "new") == "EROFS"
    assert errno_name(os.mkfifo, directory / "new") == "EROFS"
    assert errno_name(os.open, directory, os.O_TMPFILE | os.O_RDWR) == "EROFS"
    assert not os.access(path, os.W_OK)
    with path.open("rb") as file:
        assert errno_name(os.fchmod, file.fileno(), 0o777) == "EROFS"
        assert errno_name(os.utime, file.fileno()) == "EROFS"
        assert errno_name(os.setxattr, file.fileno(), "user.x", b"") == "EROFS"
        assert errno_name(os.write, file.fileno(), b"x") == "EBADF"  # it is open for reading
        assert errno_name(os.ftruncate, file.fileno(), 0) == "EINVAL"
    assert path.read_bytes() == b"{}\n"


def test_what_is_new_appears_also_where_it_was_looked_for(daemon: FakeDaemon, mount: MountProcess) -> None:
    path = mount.point / "dp1/u/anna/run/conf/conf_M.json"
    assert errno_name(os.stat, path) == "ENOENT"
    daemon.repositories["dp1"].add("u/anna/run", "conf", b"new", extension=".json", instrument="M")
    daemon.repositories["dp1"].run("brand/new")
    wait_until(path.exists)
    wait_until((mount.point / "dp1/brand/new").is_dir)
    assert path.read_bytes() == b"new"


@pytest.mark.parametrize("options", [(), ("--no-passthrough",)])
def test_complete_files_pass_through_where_they_may(daemon: FakeDaemon, place: Path, options: tuple[str, ...]) -> None:
    """Seen from what the kernel holds open: then a read works while the process that serves is stopped."""
    with mounted(daemon.socket_path, place, *options) as mount:
        assert "read through this process" not in mount.log_text()
        path = mount.point / "dp1/u/anna/run/big/big_1.dat"
        with path.open("rb", buffering=0) as file:
            server = mount.server_pid()
            os.kill(server, signal.SIGSTOP)
            try:
                reader = threading.Thread(target=file.read, args=(100,))
                reader.start()
                reader.join(5 if not options else 0.5)
                assert reader.is_alive() == bool(options)
            finally:
                os.kill(server, signal.SIGCONT)
            reader.join(10)
            assert not reader.is_alive()
        assert not [name for name in os.listdir(mount.point) if name.startswith(".")]


def test_the_kernel_keeps_a_listing_until_something_changes(daemon: FakeDaemon, mount: MountProcess) -> None:
    directory = mount.point / "dp1/LSST/raw/all/raw/7"
    before = sorted(os.listdir(directory))
    assert len(before) == 3
    listings = daemon.calls["ListTree"]
    for _ in range(5):
        assert sorted(os.listdir(directory)) == before
    assert daemon.calls["ListTree"] == listings
    daemon.repositories["dp1"].add("LSST/raw/all", "raw", b"new", extension=".fits", exposure=7, detector=9)
    wait_until(lambda: len(os.listdir(directory)) == 4)
    assert daemon.calls["ListTree"] > listings


def test_each_user_has_their_own_rights(daemon: FakeDaemon, place: Path) -> None:
    closed = daemon.repository("closed").add("run", "t", b"secret", visit=1)
    daemon.repositories["closed"].denied = {NOBODY}
    with mounted(daemon.socket_path, place, "--allow-other") as mount:
        path = mount.point / "closed/run/t/t_1.dat"
        by_id = mount.point / "closed/.by-id" / str(closed.id) / "t_1.dat"
        # Root walks there first, so that the kernel knows all names.
        assert path.read_bytes() == by_id.read_bytes() == b"secret"
        assert as_nobody("print(sorted(os.listdir(sys.argv[1])))", mount.point) == "['dp1']"
        for code in ("os.stat(sys.argv[1])", "open(sys.argv[1])", "os.listxattr(sys.argv[1])"):
            for target in (path, by_id, path.parent, mount.point / "closed"):
                assert as_nobody(code, target) == "EACCES"
        assert as_nobody("os.listdir(sys.argv[1])", path.parent) == "EACCES"
        assert path.read_bytes() == b"secret"
        conf = mount.point / "dp1/u/anna/run/conf/conf_L.json"
        assert as_nobody("print(open(sys.argv[1]).read())", conf, groups=(4321, 17)) == "{}"
        asked = [behalf for behalf in daemon.behalfs if behalf is not None and behalf.uid == NOBODY]
        assert asked[-1].gid == NOBODY
        assert asked[-1].groups == (17, 4321)
        # Taken away while a file is known to the kernel: the next open is refused.
        daemon.repositories["dp1"].denied = {NOBODY}
        assert as_nobody("open(sys.argv[1])", conf) == "EACCES"


def test_a_users_own_mount_asks_as_that_user_and_keeps_others_out(daemon: FakeDaemon, mount: MountProcess) -> None:
    assert (mount.point / "dp1/u/anna/run/conf/conf_L.json").read_bytes() == b"{}\n"
    assert set(daemon.behalfs) == {None}
    assert as_nobody("os.listdir(sys.argv[1])", mount.point) == "EACCES"


def test_failures_have_their_own_errno_and_pass(daemon: FakeDaemon, mount: MountProcess) -> None:
    path = mount.point / "dp1/u/anna/run/far/far_1.dat"
    for error, name in ((TransientBackendError("origin is down"), "EIO"), (IntegrityError("bad bytes"), "EBADMSG")):
        daemon.fetch_error = error
        assert errno_name(path.read_bytes) == name
    assert "origin is down" in mount.log_text()
    daemon.fetch_error = None
    assert path.read_bytes() == dataset_of(daemon, "far").content.read_bytes()


def test_slow_reads_stop_nobody_else_and_have_a_deadline(daemon: FakeDaemon, place: Path) -> None:
    daemon.gate.clear()
    with mounted(daemon.socket_path, place, "--deadline", "1.5") as mount:
        far = mount.point / "dp1/u/anna/run/far/far_1.dat"
        errors: list[str] = []
        readers = [threading.Thread(target=lambda: errors.append(errno_name(far.read_bytes))) for _ in range(30)]
        for reader in readers:
            reader.start()
        wait_until(lambda: daemon.calls["FetchRanges"] > 0)
        assert (mount.point / "dp1/u/anna/run/big/big_1.dat").read_bytes() == dataset_of(
            daemon, "big"
        ).content.read_bytes()
        for reader in readers:
            reader.join(20)
        assert set(errors) <= {"ETIMEDOUT", "EIO"}
        assert len(errors) == 30


@pytest.mark.parametrize("options", [[], ["--allow-other"]])
def test_many_hanging_files_do_not_hold_back_one_that_is_there(
    daemon: FakeDaemon, place: Path, options: list[str]
) -> None:
    """More than the kernel's default of 12 background reads; sequential readers, so that it reads ahead."""
    repository = daemon.repositories["dp1"]
    for visit in range(40):
        repository.add("slow", "s", 4 * MIB, partial=True, visit=visit)
    daemon.gate.clear()
    with mounted(daemon.socket_path, place, *options) as mount:
        directory = mount.point / "dp1/slow/s"
        readers = [subprocess.Popen(["cat", path], stdout=subprocess.DEVNULL) for path in directory.iterdir()]
        try:
            wait_until(lambda: daemon.calls["FetchRanges"] >= 30)
            big = mount.point / "dp1/u/anna/run/big/big_1.dat"
            done = subprocess.run(["cmp", big, dataset_of(daemon, "big").content], timeout=20, check=False)
            assert done.returncode == 0
        finally:
            daemon.gate.set()
            for reader in readers:
                assert reader.wait(20) == 0


def test_a_hanging_reader_can_be_killed_and_sigterm_still_ends_the_mount(daemon: FakeDaemon, place: Path) -> None:
    daemon.gate.clear()
    with mounted(daemon.socket_path, place) as mount:
        far = mount.point / "dp1/u/anna/run/far/far_1.dat"
        readers = [
            subprocess.Popen(["cat", far], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) for _ in range(2)
        ]
        wait_until(lambda: daemon.calls["FetchRanges"] > 0)
        readers[0].kill()
        assert readers[0].wait(10) < 0
        assert mount.end() == 0
        assert not mounts_at(str(mount.point))
        assert readers[1].wait(10) != 0


def test_sigterm_leaves_nothing_behind(daemon: FakeDaemon, mount: MountProcess) -> None:
    fd = os.open(mount.point / "dp1/u/anna/run/far/far_1.dat", os.O_RDONLY)
    assert mount.end() == 0
    assert not mounts_at(str(mount.point))
    assert os.listdir(mount.point) == []
    assert errno_name(os.pread, fd, 10, 0) in ("ENOTCONN", "ECONNABORTED")
    with contextlib.suppress(OSError):  # closed nevertheless
        os.close(fd)
    wait_until(lambda: not daemon.handles)


def test_the_daemon_goes_and_comes_back(daemon: FakeDaemon, place: Path) -> None:
    stop = daemon.start_thread()  # takes the socket over from the fixture's
    try:
        with mounted(daemon.socket_path, place, "--collections-ttl", "0.05") as mount:
            big, far = dataset_of(daemon, "big"), dataset_of(daemon, "far")
            directory = mount.point / "dp1/u/anna/run"
            big_path, far_path = directory / "big" / big.name, directory / "far" / far.name
            with big_path.open("rb", buffering=0) as big_file, far_path.open("rb", buffering=0) as far_file:
                assert big_file.read(10) == big.content.read_bytes()[:10]
                stop()
                assert big_file.read() == big.content.read_bytes()[10:]
                assert errno_name(os.pread, far_file.fileno(), 4096, 5 * MIB) == "EHOSTDOWN"
                wait_until(lambda: not _answers(mount.point))
                assert errno_name(os.listdir, mount.point) == "EHOSTDOWN"
                assert errno_name(big_path.read_bytes) == "EHOSTDOWN"
                stop = daemon.start_thread()
                wait_until(lambda: _answers(mount.point))
                assert big_path.read_bytes() == big.content.read_bytes()
                assert os.pread(far_file.fileno(), 4096, 5 * MIB) == far.content.read_bytes()[5 * MIB : 5 * MIB + 4096]
    finally:
        stop()


def _answers(path: Path) -> bool:
    try:
        return bool(os.listdir(path))
    except OSError:
        return False


def test_inode_numbers_survive_a_restart(daemon: FakeDaemon, place: Path) -> None:
    found = []
    for _ in range(2):
        with mounted(daemon.socket_path, place) as mount:
            paths = sorted(mount.point.rglob("*"))
            found.append({path.relative_to(mount.point): path.stat().st_ino for path in paths})
    assert found[0] == found[1]
    assert len(found[0]) > 20
    raw = [inode for path, inode in found[0].items() if path.name == "raw_7_0.fits"]
    assert len(raw) == 2
    assert len(set(raw)) == 1


def test_df_shows_the_cache(mount: MountProcess) -> None:
    found = os.statvfs(mount.point)
    assert found.f_blocks * found.f_frsize == 1 << 30
    assert found.f_bfree * found.f_frsize == (1 << 30) - (1 << 20)


def test_only_chosen_repositories(daemon: FakeDaemon, place: Path) -> None:
    daemon.repository("other").run("r")
    with mounted(daemon.socket_path, place, "--repository", "other") as mount:
        assert os.listdir(mount.point) == ["other"]
        assert errno_name(os.listdir, mount.point / "dp1") == "ENOENT"


def test_a_large_directory(daemon: FakeDaemon, place: Path) -> None:
    repository = daemon.repositories["dp1"]
    first = repository.add("many", "t", b"", visit=0)
    for visit in range(1, 20_000):
        repository.add_alias(first, visit)
    with mounted(daemon.socket_path, place) as mount:
        directory = mount.point / "dp1/many/t"
        with os.scandir(directory) as entries:
            for _, _entry in zip(range(10), entries, strict=False):
                pass
        assert daemon.batches < 40
        assert len(set(os.listdir(directory))) == 20_000


def test_a_directory_that_was_listed_empty_fills(daemon: FakeDaemon, mount: MountProcess) -> None:
    """The kernel keeps listings, and cannot be told that an empty one is not good any more."""
    repository = daemon.repositories["dp1"]
    repository.run("u/new")
    wait_until((mount.point / "dp1/u/new").is_dir)
    assert os.listdir(mount.point / "dp1/u/new") == []
    repository.add("u/new", "conf", b"x", instrument="L")
    wait_until(lambda: os.listdir(mount.point / "dp1/u/new") == ["conf"])
    with subprocess.Popen(["ls", "-ai", mount.point / "dp1/u/new/conf"], stdout=subprocess.PIPE, text=True) as listing:
        assert listing.stdout is not None
        numbers = {name: int(number) for number, name in map(str.split, listing.stdout)}
    places = {".": "dp1/u/new/conf", "..": "dp1/u/new", "conf_L.dat": "dp1/u/new/conf/conf_L.dat"}
    assert numbers == {name: (mount.point / path).stat().st_ino for name, path in places.items()}


def test_attributes_of_directories_are_not_asked_for_again(daemon: FakeDaemon, place: Path) -> None:
    """They never change; so a process that is in a directory learns them from the kernel, although nobody serves."""
    with mounted(daemon.socket_path, place, "--collections-ttl", "0") as mount:
        directory = os.open(mount.point / "dp1/u/anna/run", os.O_RDONLY | os.O_DIRECTORY)
        server = mount.server_pid()
        try:
            mode = os.fstat(directory).st_mode
            os.kill(server, signal.SIGSTOP)
            said = subprocess.run(
                [sys.executable, "-c", f"import os; print(os.fstat({directory}).st_mode)"],
                pass_fds=[directory], cwd="/", check=True, capture_output=True, timeout=10,
            )  # fmt: skip
            assert int(said.stdout) == mode
        finally:
            os.kill(server, signal.SIGCONT)
            os.close(directory)
