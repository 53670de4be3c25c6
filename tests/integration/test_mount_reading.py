"""Every way to read a file, beyond `read`: mapped, sent, directly, beyond 4 GiB, by many at once."""

from __future__ import annotations

import hashlib
import os
import random
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
from tests.unit.fusefs.fake import FakeDaemon
from tests.unit.fusefs.mounted import MountProcess, can_mount, mounted, public_place, wait_until

pytestmark = [pytest.mark.root, can_mount]

MIB = 1 << 20
GIB = 1 << 30
HUGE = 5 * GIB + 12_345
MARKS = {0: b"begin", 4 * GIB - 4: b"across 4 GiB", 5 * GIB + 12_000: b"near the end"}
MODES = {
    "passthrough": (),
    "no-passthrough": ("--no-passthrough",),
    "many-users": ("--no-passthrough", "--allow-other"),
}


class Pair(NamedTuple):
    """A file in the mount, and one with the same content elsewhere."""

    mounted: Path
    other: Path


class Node(NamedTuple):
    daemon: FakeDaemon
    mount: MountProcess

    def pair(self, run: str, name: str) -> Pair:
        dataset = next(one for one in self.daemon.repositories["dp1"].members[run] if one.type.name == name)
        return Pair(self.mount.point / "dp1" / run / name / dataset.name, dataset.content)


@pytest.fixture(scope="module", params=MODES.values(), ids=MODES)
def node(request: pytest.FixtureRequest) -> Iterator[Node]:
    with public_place() as place:
        daemon = FakeDaemon(place)
        repository = daemon.repository("dp1")
        content = random.Random(11).randbytes(3 * MIB + 77)
        repository.add("here", "fresh", content[::-1], visit=1)
        for run in ("here", "coming"):
            repository.add(run, "some", content, partial=run == "coming", visit=1)
            huge = repository.add(run, "huge", HUGE, partial=run == "coming", visit=1)
            with huge.content.open("r+b") as file:
                for offset, mark in MARKS.items():
                    file.seek(offset)
                    file.write(mark)
            assert huge.content.stat().st_size == HUGE
        with daemon.running_in_thread(), mounted(daemon.socket_path, place, *request.param) as mount:
            yield Node(daemon, mount)
            assert "Traceback" not in mount.log_text()


@pytest.fixture(params=["here", "coming"])
def some(request: pytest.FixtureRequest, node: Node) -> Pair:
    return node.pair(request.param, "some")


@pytest.fixture(params=["here", "coming"])
def huge(request: pytest.FixtureRequest, node: Node) -> Pair:
    return node.pair(request.param, "huge")


def python(code: str, *words: object) -> str:
    """Run Python code in a process of its own: a page fault would keep the GIL that the fake daemon needs."""
    done = subprocess.run(
        [sys.executable, "-c", "import errno, hashlib, mmap, os, sys\n" + code, *map(str, words)],
        capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest() + "\n"


MAP = """
fd = os.open(sys.argv[1], os.O_RDONLY)
private = sys.argv[2] == "MAP_PRIVATE"
found = mmap.mmap(fd, 0, getattr(mmap, sys.argv[2]), mmap.PROT_READ | (mmap.PROT_WRITE if private else 0))
os.close(fd)
print(hashlib.sha256(found).hexdigest())
if private:
    found[1000:1004] = b"mine"
    with open(sys.argv[1], "rb") as file:
        assert file.read()[1000:1004] != b"mine"
else:
    try:
        mmap.mmap(os.open(sys.argv[1], os.O_RDONLY), 0, mmap.MAP_SHARED, mmap.PROT_READ | mmap.PROT_WRITE)
    except PermissionError:
        pass
    else:
        sys.exit("could be mapped for writing")
"""


@pytest.mark.parametrize("kind", ["MAP_SHARED", "MAP_PRIVATE"])
def test_mapped(some: Pair, kind: str) -> None:
    assert python(MAP, some.mounted, kind) == digest(some.other)


SEND = """
import socket, threading
fd = os.open(sys.argv[1], os.O_RDONLY)
left, right = socket.socketpair()
size = os.fstat(fd).st_size
def send():
    offset = 0
    while offset < size:
        offset += os.sendfile(left.fileno(), fd, offset, size - offset)
    left.close()
threading.Thread(target=send).start()
seen = hashlib.sha256()
while data := right.recv(1 << 16):
    seen.update(data)
print(seen.hexdigest())
"""

SPLICE = """
fd, (out, into) = os.open(sys.argv[1], os.O_RDONLY), os.pipe()
seen = hashlib.sha256()
while os.splice(fd, into, 1 << 16):
    seen.update(os.read(out, 1 << 16))
print(seen.hexdigest())
"""

COPY_RANGE = """
fd, to = os.open(sys.argv[1], os.O_RDONLY), os.open(sys.argv[2], os.O_RDWR | os.O_CREAT)
try:
    while os.copy_file_range(fd, to, 1 << 20):
        pass
except OSError as exc:
    # What the kernel says of two kinds of file system; programs then read and write.
    assert exc.errno in (errno.EXDEV, errno.EOPNOTSUPP), exc
    while data := os.read(fd, 1 << 20):
        os.write(to, data)
print(hashlib.sha256(open(sys.argv[2], "rb").read()).hexdigest())
"""


@pytest.mark.parametrize("code", [SEND, SPLICE, COPY_RANGE], ids=["sendfile", "splice", "copy_file_range"])
def test_sent_within_the_kernel(some: Pair, code: str, tmp_path: Path) -> None:
    assert python(code, some.mounted, tmp_path / "copy") == digest(some.other)


DIRECT = """
fd = os.open(sys.argv[1], os.O_RDONLY | os.O_DIRECT)
buffer, seen, offset = mmap.mmap(-1, 1 << 20), hashlib.sha256(), 0
while done := os.preadv(fd, [buffer], offset):
    seen.update(buffer[:done])
    offset += done
print(seen.hexdigest())
"""


def test_with_o_direct(some: Pair) -> None:
    assert python(DIRECT, some.mounted) == digest(some.other)


HOLES = """
fd, size = os.open(sys.argv[1], os.O_RDONLY), os.stat(sys.argv[1]).st_size
print(os.lseek(fd, 1000, os.SEEK_DATA), os.lseek(fd, 1000, os.SEEK_HOLE) == size)
for whence in (os.SEEK_DATA, os.SEEK_HOLE):
    try:
        os.lseek(fd, size, whence)
    except OSError as exc:
        print(errno.errorcode[exc.errno])
print(os.stat(sys.argv[1]).st_blocks * 512 >= size)
"""


def test_no_file_shows_holes(huge: Pair) -> None:
    """What the origin has of a file that is still fetched must not be taken for zeros."""
    assert python(HOLES, huge.mounted).split() == ["1000", "True", "ENXIO", "ENXIO", "True"]


FAR = """
fd = os.open(sys.argv[1], os.O_RDONLY)
print(os.lseek(fd, 0, os.SEEK_END))
for offset in map(int, sys.argv[2:]):
    print(os.pread(fd, 100, offset).rstrip(bytes(1)).decode())
shown = mmap.mmap(fd, 0, mmap.MAP_SHARED, mmap.PROT_READ)
for offset in map(int, sys.argv[2:]):
    print(shown[offset : offset + 100].rstrip(bytes(1)).decode())
print(os.pread(fd, 100, os.fstat(fd).st_size), len(os.pread(fd, 100, os.fstat(fd).st_size - 10)))
"""


def test_beyond_4_gib(huge: Pair) -> None:
    marks = [mark.decode() for mark in MARKS.values()]
    assert huge.mounted.stat().st_size == HUGE
    assert python(FAR, huge.mounted, *MARKS).splitlines() == [str(HUGE), *marks, *marks, "b'' 10"]


def test_many_readers_of_one_file(some: Pair) -> None:
    code = "print(hashlib.sha256(open(sys.argv[1], 'rb').read()).hexdigest())"
    words = [sys.executable, "-c", "import hashlib, sys\n" + code, str(some.mounted)]
    readers = [subprocess.Popen(words, stdout=subprocess.PIPE, text=True) for _ in range(16)]
    assert {reader.communicate(timeout=60)[0] for reader in readers} == {digest(some.other)}


def test_complete_files_are_read_without_the_mounts_process(node: Node) -> None:
    """It is stopped meanwhile. Without passthrough the reader waits until it goes on."""
    path, other = node.pair("here", "fresh")  # of which the kernel has no pages
    code = "import hashlib, sys; file = open(sys.argv[1], 'rb', buffering=0); print('open', flush=True); input()\n"
    code += "print(hashlib.sha256(file.read()).hexdigest(), flush=True)"
    words = [sys.executable, "-c", code, str(path)]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as reader:
        assert reader.stdin is not None
        assert reader.stdout is not None
        assert reader.stdout.readline() == "open\n"
        server = node.mount.server_pid()
        passing = b"--no-passthrough" not in Path(f"/proc/{server}/cmdline").read_bytes()
        os.kill(server, signal.SIGSTOP)
        try:
            reader.stdin.write("\n")
            reader.stdin.flush()
            if passing:
                assert reader.stdout.readline() == digest(other)
            else:
                wait_until(lambda: _waits(reader.pid), what="a reader that waits")
        finally:
            os.kill(server, signal.SIGCONT)
        if not passing:
            assert reader.stdout.readline() == digest(other)


def _waits(pid: int) -> bool:
    """Whether a process sleeps in the kernel for a page or an answer, not for what the test writes to it."""
    place = Path(f"/proc/{pid}/wchan").read_text()
    return "fuse" in place or "folio" in place
