"""The posix backend: the contract, and what only a file system can be tried with."""

from __future__ import annotations

import errno
import os
import stat
import tempfile
import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
import xxhash
from tests.contract.conftest import PosixOutside

from pantry.backends.admission import Admission
from pantry.backends.contract import BatchWriting, ByteRange, LocalPlacement, ObjectWrite
from pantry.backends.mounted import Mounted
from pantry.backends.posix import PosixBackend, PosixBackendFactory, _beneath, _publishing
from pantry.backends.posix import backend as backend_module
from pantry.backends.suite import ObjectBackendContract
from pantry.backends.suite_calls import descriptor, listed, read, run, write
from pantry.errors import (
    BackendAccessError,
    BackendError,
    ConfigError,
    InvalidRequestError,
    ObjectExistsError,
    ObjectNotFoundError,
)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    path = tmp_path / "root"
    path.mkdir()
    return path


@pytest.fixture
def backend(root: Path, admission: Admission) -> Iterator[PosixBackend]:
    made = PosixBackend(str(root), admission)
    yield made
    run(made.aclose)


@pytest.fixture
def outside(root: Path) -> PosixOutside:
    return PosixOutside(root)


class TestPosix(ObjectBackendContract):
    @pytest.fixture
    def backend(self, root: Path, admission: Admission) -> Iterator[PosixBackend]:
        made = PosixBackend(str(root), admission)
        yield made
        run(made.aclose)

    @pytest.fixture
    def outside(self, root: Path) -> PosixOutside:
        return PosixOutside(root)


class TestPosixByBuffer(TestPosix):
    """Where the kernel cannot copy."""

    @pytest.fixture(autouse=True)
    def _no_kernel_copy(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def refuse(*_: object) -> int:
            raise OSError(95, "Operation not supported")

        monkeypatch.setattr(os, "copy_file_range", refuse)


class TestPosixWithoutOpenat2(TestPosix):
    """Where the kernel is older than 5.6."""

    @pytest.fixture(autouse=True)
    def _no_openat2(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(_beneath, "HAVE_OPENAT2", False)


def _refuse_links(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr(os, "link", refuse)


class TestPosixWithoutHardLinks(TestPosix):
    """On a file system without hard links, new names come by exclusive rename."""

    @pytest.fixture(autouse=True)
    def _no_links(self, monkeypatch: pytest.MonkeyPatch) -> None:
        _refuse_links(monkeypatch)


class TestPosixWithoutExclusiveRename(TestPosix):
    """On a file system with neither, an empty file claims the name."""

    @pytest.fixture(autouse=True)
    def _no_rename(self, monkeypatch: pytest.MonkeyPatch) -> None:
        _refuse_links(monkeypatch)

        def refuse(*_: object, **__: object) -> None:
            raise OSError(22, "Invalid argument")

        monkeypatch.setattr(_publishing, "rename_exclusive", refuse)


def test_a_name_that_somebody_claimed_is_taken_until_the_claim_is_settled_or_undone(
    root: Path, admission: Admission, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Though the file itself is not seen yet, as on another host."""
    monkeypatch.setattr(backend_module, "mounted_at", lambda path: Mounted("/", "fuse.unknown"))
    backend = PosixBackend(str(root), admission)
    for token, end in (("t-1", backend.undo_write), ("t-2", backend.settle_write)):
        run(lambda token=token: write(backend, "k", b"1", token))
        (root / "k").unlink()
        with pytest.raises(ObjectExistsError):
            run(lambda: write(backend, "k", b"2", "t-9"))
        run(lambda: backend.undo_write("k", token="t-9"))
        run(lambda token=token, end=end: end("k", token=token))
    run(lambda: write(backend, "k", b"3", "t-3"))
    run(lambda: backend.settle_write("k", token="t-3"))
    assert [path.name for path in root.iterdir()] == ["k"]
    run(backend.aclose)


def test_this_kernel_has_openat2() -> None:
    """Else the escape tests below try only the slow way."""
    assert _beneath.HAVE_OPENAT2


# -- no way out of the root ---------------------------------------------------------------------


@pytest.fixture(params=["openat2", "walk"])
def escape(request: pytest.FixtureRequest, root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(_beneath, "HAVE_OPENAT2", request.param == "openat2")
    secret = tmp_path / "secret"
    secret.mkdir()
    (secret / "key").write_bytes(b"secret")
    (root / "absolute").symlink_to(secret)
    (root / "relative").symlink_to("../secret")
    (root / "magic").symlink_to("/proc/self/cwd")
    return secret


@pytest.mark.parametrize("link", ["absolute", "relative", "magic"])
def test_a_linked_directory_leads_nowhere(backend: PosixBackend, escape: Path, link: str) -> None:
    key = f"{link}/key"
    refused = (BackendAccessError, ObjectNotFoundError)
    with pytest.raises(refused):
        run(lambda: backend.stat(key))
    with pytest.raises(refused):
        run(lambda: read(backend, key, 0, 6))
    with pytest.raises(refused):
        next(backend.open_each([key]))
    with pytest.raises(BackendError):
        run(lambda: write(backend, f"{link}/new", b"1"))
    with pytest.raises(BackendError):
        run(lambda: backend.delete(key)) if _beneath.HAVE_OPENAT2 else _raise()
    assert run(lambda: listed(backend, "")) == {}
    assert sorted(path.name for path in escape.iterdir()) == ["key"]


def _raise() -> None:
    raise BackendError("the walk sees a link as no directory, and deletes nothing")


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to make links of another owner")
def test_a_link_of_a_stranger_leads_nowhere(backend: PosixBackend, root: Path, escape: Path) -> None:
    """Else whoever may write into the tree could have the daemon read its own secrets for them."""
    (root / "theirs").symlink_to(escape / "key")
    os.chown(root / "theirs", 4711, 4711, follow_symlinks=False)
    with pytest.raises(BackendAccessError):
        run(lambda: read(backend, "theirs", 0, 6))
    with pytest.raises(BackendAccessError):
        run(lambda: backend.stat("theirs"))
    assert run(lambda: listed(backend, "")) == {}
    os.chown(root / "theirs", 0, 0, follow_symlinks=False)
    assert run(lambda: read(backend, "theirs", 0, 6)) == b"secret"


def test_what_is_no_regular_file_is_no_object(backend: PosixBackend, root: Path) -> None:
    os.mkfifo(root / "fifo")
    (root / "dangling").symlink_to("nowhere")
    for key in ("fifo", "dangling"):
        with pytest.raises(ObjectNotFoundError):
            run(lambda key=key: backend.stat(key))
        with pytest.raises(ObjectNotFoundError):
            run(lambda key=key: read(backend, key, 0, 1))
    assert run(lambda: listed(backend, "")) == {}


def test_reserved_names_are_no_keys(backend: PosixBackend) -> None:
    with pytest.raises(InvalidRequestError):
        run(lambda: write(backend, "run/.pantry-x", b"1"))


def test_names_that_are_not_utf8_are_not_listed(backend: PosixBackend, root: Path) -> None:
    (root / os.fsdecode(b"bad\xff")).write_bytes(b"1")
    (root / "good").write_bytes(b"1")
    assert run(lambda: listed(backend, "")).keys() == {"good"}


# -- batches --------------------------------------------------------------------------------------


@pytest.fixture
def opened(tmp_path: Path) -> Iterator[Callable[[str, bytes], ObjectWrite]]:
    """Make a member of a batch: a key and its content."""
    with ExitStack() as stack:

        def make(key: str, content: bytes) -> ObjectWrite:
            file = stack.enter_context(tempfile.TemporaryFile(dir=tmp_path))
            file.write(content)
            file.flush()
            return ObjectWrite(key, file.fileno(), len(content), f"t-{uuid.uuid4()}")

        yield make


def test_a_batch_stores_each_of_its_objects(
    backend: PosixBackend, outside: PosixOutside, opened: Callable[[str, bytes], ObjectWrite]
) -> None:
    assert isinstance(backend, BatchWriting)
    batch = [opened(key, key.encode()) for key in ("a/b/1", "a/b/2", "c", "d/3")]
    assert backend.write_batch(batch) == [None] * 4
    assert {key: outside.get(key) for key in sorted(outside.keys())} == {one.key: one.key.encode() for one in batch}
    # Each is this write's own: it can be undone, and once it is settled no more.
    assert backend.settle_batch([(one.key, one.token) for one in batch[1:]]) == [None] * 3
    undone = [run(lambda one=one: backend.undo_write(one.key, token=one.token)) for one in batch]
    assert undone == [True, False, False, False]
    assert outside.keys() == {"a/b/2", "c", "d/3"}
    assert outside.residue() == set()


def test_what_fails_in_a_batch_fails_alone_and_leaves_nothing(
    backend: PosixBackend, outside: PosixOutside, opened: Callable[[str, bytes], ObjectWrite]
) -> None:
    outside.put("a/taken", b"before")
    outside.put("file", b"no directory")
    short = opened("e/short", b"12")._replace(size_bytes=3)
    batch = [opened("a/taken", b"x"), opened("a/new", b"1"), opened("file/below", b"x"), short, opened("a/new", b"2")]
    errors = backend.write_batch(batch)
    assert [type(error) for error in errors] == [
        ObjectExistsError,
        type(None),
        BackendError,
        InvalidRequestError,
        ObjectExistsError,
    ]
    backend.settle_batch([(batch[1].key, batch[1].token)])
    assert outside.keys() == {"a/taken", "file", "a/new"}
    assert (outside.get("a/taken"), outside.get("a/new")) == (b"before", b"1")
    assert outside.residue() == set()


def test_a_batch_whose_directory_cannot_be_made_durable_is_told(
    backend: PosixBackend, opened: Callable[[str, bytes], ObjectWrite], monkeypatch: pytest.MonkeyPatch
) -> None:
    fsync = os.fsync

    def failing(fd: int) -> None:
        if os.readlink(f"/proc/self/fd/{fd}").endswith("/bad"):
            raise OSError(errno.EIO, "Input/output error")
        fsync(fd)

    batch = [opened("bad/1", b"1"), opened("good/1", b"1"), opened("bad/2", b"2")]
    backend.write_batch([opened("bad/0", b""), opened("good/0", b"")])  # the directories are there
    monkeypatch.setattr(os, "fsync", failing)
    assert [error is not None for error in backend.write_batch(batch)] == [True, False, True]


def test_a_content_in_memory_is_stored_as_one_of_a_file_is(backend: PosixBackend, outside: PosixOutside) -> None:
    batch = [ObjectWrite("a/1", b"in memory", 9, "t-1"), ObjectWrite("a/2", b"", 0, "t-2")]
    batch.append(ObjectWrite("a/short", b"12", 3, "t-3"))
    errors = backend.write_batch(batch)
    assert [type(error) for error in errors] == [type(None), type(None), InvalidRequestError]
    assert {key: outside.get(key) for key in outside.keys()} == {"a/1": b"in memory", "a/2": b""}  # noqa: SIM118


@pytest.mark.parametrize("shared", [False, True])
def test_in_a_batch_files_have_their_names_when_they_are_made_durable_but_not_where_others_see_them(
    root: Path, admission: Admission, monkeypatch: pytest.MonkeyPatch, shared: bool
) -> None:
    """One commit of the file system has data and names then; other hosts see complete files only."""
    mounted = Mounted("/", "nfs4" if shared else "ext4")
    assert mounted.is_shared == shared
    monkeypatch.setattr(backend_module, "mounted_at", lambda path: mounted)
    backend = PosixBackend(str(root), admission)
    backend.write_batch([ObjectWrite("a/before", b"", 0, "t-0")])  # the directory is there
    synced: list[tuple[str, int]] = []
    fsync = os.fsync

    def noting(fd: int) -> None:
        status = os.fstat(fd)
        is_file = stat.S_ISREG(status.st_mode)
        synced.append(("file", status.st_nlink) if is_file else ("directory", 0))
        fsync(fd)

    monkeypatch.setattr(os, "fsync", noting)
    assert backend.write_batch([ObjectWrite("a/1", b"1", 1, "t-1"), ObjectWrite("a/2", b"2", 1, "t-2")]) == [None, None]
    links = 1 if shared else 2
    assert synced == [("file", links), ("file", links), ("directory", 0)]
    run(backend.aclose)


def test_a_batched_write_that_cannot_be_made_durable_is_told_and_can_be_undone(
    backend: PosixBackend, outside: PosixOutside, monkeypatch: pytest.MonkeyPatch
) -> None:
    def failing(fd: int) -> None:
        raise OSError(errno.EIO, "Input/output error")

    with monkeypatch.context() as patch:
        backend.write_batch([ObjectWrite("a/before", b"", 0, "t-0")])
        patch.setattr(os, "fsync", failing)
        (error,) = backend.write_batch([ObjectWrite("a/1", b"1", 1, "t-1")])
    assert isinstance(error, BackendError)
    assert run(lambda: backend.undo_write("a/1", token="t-1"))
    assert outside.keys() == {"a/before"}


def test_settling_a_batch_takes_proofs_of_every_kind(
    backend: PosixBackend, outside: PosixOutside, monkeypatch: pytest.MonkeyPatch
) -> None:
    linked, renamed = ObjectWrite("a/linked", b"1", 1, "t-1"), ObjectWrite("a/renamed", b"2", 1, "t-2")
    assert backend.write_batch([linked]) == [None]
    with monkeypatch.context() as patch:
        _refuse_links(patch)
        assert backend.write_batch([renamed]) == [None]
    gone = ("b/gone", "t-3")
    written = [(one.key, one.token) for one in (linked, renamed)]
    assert backend.settle_batch([*written, gone, *written]) == [None] * 5
    assert outside.keys() == {"a/linked", "a/renamed"}
    assert outside.residue() == set()


# -- placing --------------------------------------------------------------------------------------


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "source.fits"
    path.write_bytes(b"placed")
    return path


@pytest.mark.parametrize("how", ["hardlink", "symlink", "move"])
@pytest.mark.parametrize("settled", [True, False])
def test_place(backend: PosixBackend, outside: PosixOutside, root: Path, source: Path, how: str, settled: bool) -> None:
    assert isinstance(backend, LocalPlacement)
    status = run(lambda: backend.place("a/b", str(source), how=how, token="t-1"))
    assert source.exists()
    assert status == run(lambda: backend.stat("a/b"))
    assert run(lambda: read(backend, "a/b", 0, 6, status.version)) == b"placed"
    assert run(lambda: listed(backend, "")) == {"a/b": status}
    assert (root / "a/b").is_symlink() == (how == "symlink")
    if settled:
        run(lambda: backend.settle_write("a/b", token="t-1"))
        assert outside.get("a/b") == b"placed"
        assert source.exists() == (how != "move")
    else:
        assert run(lambda: backend.undo_write("a/b", token="t-1"))
        assert source.read_bytes() == b"placed"
        assert outside.keys() == set()
    assert outside.residue() == set()


@pytest.mark.parametrize("how", ["hardlink", "symlink", "move"])
def test_place_never_replaces(backend: PosixBackend, outside: PosixOutside, source: Path, how: str) -> None:
    """Nor does the undo of the second take what the first placed, though it is the same inode."""
    run(lambda: backend.place("k", str(source), how=how, token="t-1"))
    with pytest.raises(ObjectExistsError):
        run(lambda: backend.place("k", str(source), how=how, token="t-2"))
    assert not run(lambda: backend.undo_write("k", token="t-2"))
    assert outside.get("k") == b"placed"
    assert source.exists()


def left_by(token: str, key: str) -> str:
    """Name of the temporary file that a killed write leaves."""
    return f".pantry-{token}.{xxhash.xxh3_64_hexdigest(key.rpartition('/')[2].encode())}"


def test_undo_of_a_place_that_was_killed_before_the_rename(
    backend: PosixBackend, outside: PosixOutside, root: Path, source: Path
) -> None:
    """The target is another writer's hard link to the same source: equal inodes prove nothing."""
    run(lambda: backend.place("k", str(source), how="hardlink", token="t-1"))
    run(lambda: backend.settle_write("k", token="t-1"))
    os.link(source, root / (left_by("t-2", "k") + ".new"))
    (root / (left_by("t-2", "k") + ".mark")).write_text(f'{{"inode": {source.stat().st_ino}}}')
    assert run(lambda: backend.undo_write("k", token="t-2"))
    assert outside.get("k") == b"placed"
    assert outside.residue() == set()


def test_undo_of_a_write_that_was_killed(backend: PosixBackend, outside: PosixOutside, root: Path) -> None:
    (root / "a").mkdir()
    (root / "a" / left_by("t-1", "a/b")).write_bytes(b"half")
    assert run(lambda: backend.undo_write("a/b", token="t-1"))
    assert outside.residue() == set()
    assert outside.keys() == set()


def test_move_across_file_systems(
    backend: PosixBackend, outside: PosixOutside, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    link = os.link

    def across(src: str, dst: str, **options: object) -> None:
        if src.startswith("/proc/"):
            raise OSError(18, "Invalid cross-device link")
        link(src, dst, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(os, "link", across)
    run(lambda: backend.place("k", str(source), how="move", token="t-1"))
    assert source.exists()
    run(lambda: backend.settle_write("k", token="t-1"))
    assert not source.exists()
    assert outside.get("k") == b"placed"
    assert outside.residue() == set()
    source.write_bytes(b"placed")
    with pytest.raises(BackendError, match="hard-linked"):
        run(lambda: backend.place("h", str(source), how="hardlink", token="t-2"))
    run(lambda: backend.place("u", str(source), how="move", token="t-3"))
    assert run(lambda: backend.undo_write("u", token="t-3"))
    assert source.exists()
    assert outside.keys() == {"k"}


def test_settling_a_move_spares_a_source_that_was_replaced(backend: PosixBackend, source: Path) -> None:
    run(lambda: backend.place("k", str(source), how="move", token="t-1"))
    source.unlink()
    source.write_bytes(b"new")
    run(lambda: backend.settle_write("k", token="t-1"))
    assert source.read_bytes() == b"new"


def test_bad_placements(backend: PosixBackend, source: Path, tmp_path: Path) -> None:
    with pytest.raises(InvalidRequestError):
        run(lambda: backend.place("k", str(source), how="copy", token="t-1"))
    with pytest.raises(InvalidRequestError):
        run(lambda: backend.place("k", "relative", how="move", token="t-1"))
    with pytest.raises(InvalidRequestError):
        run(lambda: backend.place("k", str(tmp_path), how="symlink", token="t-1"))
    with pytest.raises(ObjectNotFoundError):
        run(lambda: backend.place("k", str(tmp_path / "none"), how="move", token="t-1"))


# -- roots and failures ---------------------------------------------------------------------------


def test_roots(tmp_path: Path, admission: Admission) -> None:
    made = PosixBackendFactory(f"file://{tmp_path}/new%20root", {"create": True}, admission)
    run(lambda: write(made, "k", b"1"))
    assert (tmp_path / "new root/k").read_bytes() == b"1"
    assert made.location == f"file://{tmp_path}/new%20root"
    for root, options in (
        ("relative/path", {}),
        ("file://elsewhere/path", {}),
        ("/x", {"creat": True}),
        ("/x", {"create": "yes"}),
    ):
        with pytest.raises(ConfigError):
            PosixBackendFactory(root, options, admission)
    absent = PosixBackendFactory(str(tmp_path / "absent"), {}, admission)
    with pytest.raises(BackendError, match="not a directory"):
        run(lambda: absent.stat("k"))


@pytest.mark.parametrize(("code", "words"), [(28, "no room"), (122, "no room")])
def test_a_full_file_system_says_so(
    backend: PosixBackend, outside: PosixOutside, monkeypatch: pytest.MonkeyPatch, code: int, words: str
) -> None:
    def full(*_: object) -> int:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(os, "copy_file_range", full)
    with pytest.raises(BackendError, match=words) as caught:
        run(lambda: write(backend, "a/b", b"1"))
    assert caught.value.hint
    assert outside.residue() == set()


def test_an_object_below_an_object_is_explained(backend: PosixBackend) -> None:
    run(lambda: write(backend, "a", b"1"))
    with pytest.raises(BackendError, match="part of its path is a file"):
        run(lambda: write(backend, "a/b", b"1"))


def test_the_root_is_found_again_when_its_mount_went_stale(backend: PosixBackend, root: Path) -> None:
    (root / "k").write_bytes(b"1")
    run(lambda: backend.stat("k"))
    root.rename(root.with_name("old"))
    root.mkdir()
    (root / "k").write_bytes(b"22")
    assert run(lambda: backend.stat("k")).size_bytes == 1
    backend._root.reopen()
    assert run(lambda: backend.stat("k")).size_bytes == 2


def test_closing(backend: PosixBackend, root: Path) -> None:
    (root / "k").write_bytes(b"1")
    run(lambda: backend.stat("k"))
    run(backend.aclose)
    with descriptor() as fd:  # opens again rather than using somebody else's number
        run(lambda: backend.read_into("k", ByteRange(0, 1), fd))
        assert os.pread(fd, 9, 0) == b"1"
    run(backend.aclose)
