"""Making a file appear under its name at once, never replacing, and being able to undo exactly that.

A write with token T in the target's directory, and what proves at any later moment that the target
is its own:

``.pantry-T``       the data, then hard-linked to the target. Same inode as the target: it is ours.
``.pantry-T.new``   data, hard link or symbolic link that will be *renamed* to the target. As long as
                    it exists the target is not ours; made before the marker.
``.pantry-T.mark``  JSON: the inode of ``.new``, and for a move the source. With the marker there and
                    ``.new`` gone the rename has happened: a target of that inode is ours.

The first way needs hard links. The second serves placed files (a hard link has the inode of its
source, so that equality proves nothing) and file systems without hard links. Where neither link nor
exclusive rename exists, an empty file made with O_EXCL claims the name, its inode goes into the
marker, and the data is renamed over it: readers may see the empty file for a moment, and a crash
between those two steps leaves it behind.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

import msgspec
import xxhash

from pantry.backends.contract import RESERVED_PREFIX, ObjectStat, SinkError
from pantry.backends.posix._beneath import open_beneath, rename_exclusive
from pantry.backends.posix._blocking import object_stat, prune_parents
from pantry.backends.posix._claiming import claim, release_claim
from pantry.backends.posix._copying import copy_range
from pantry.backends.posix._root import Root, open_parent
from pantry.backends.sink import write_all
from pantry.errors import BackendError, InvalidRequestError

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC  # readable: O_PATH descriptors cannot be fsynced
_UNSUPPORTED = frozenset({errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.EMLINK, errno.ENOSYS, errno.EINVAL})
_PRUNE_RACES = 8


class _Mark(msgspec.Struct, frozen=True, omit_defaults=True):
    """What ``.pantry-T.mark`` remembers."""

    inode: int | None = None
    placeholder: int | None = None
    source: str | None = None
    source_device: int | None = None
    source_inode: int | None = None


def own_token(token: str, key: str) -> str:
    """Give each object of a token temporary names of its own: one token may write many into one directory."""
    return f"{token}.{xxhash.xxh3_64_hexdigest(key.rpartition('/')[2].encode())}"


def _names(token: str) -> tuple[str, str, str]:
    base = RESERVED_PREFIX + token
    return base, base + ".new", base + ".mark"


def write_object(
    root: Root, key: str, source: int, size_bytes: int, token: str, checkpoint: Callable[[], None]
) -> ObjectStat:
    """Copy ``size_bytes`` of the descriptor ``source`` to a new file, durable when this returns."""
    token = own_token(token, key)
    with root.translating(key, writing=True), _target_directory(root, key) as (directory, name):
        status = _copy_and_link(root, key, directory, name, source, size_bytes, token, checkpoint)
        os.fsync(directory)
        return status


def _copy_and_link(
    root: Root,
    key: str,
    directory: int,
    name: str,
    source: int,
    size_bytes: int,
    token: str,
    checkpoint: Callable[[], None],
) -> ObjectStat:
    draft = Draft(root, directory, token)
    try:
        draft.fill(key, source, size_bytes, checkpoint)
        os.fsync(draft.fd)
        draft.publish(name)
        return object_stat(key, os.fstat(draft.fd))
    finally:
        draft.close()


class Draft:
    """The file of a write before it has its name; what is not published when it is closed is gone."""

    def __init__(self, root: Root, directory: int, token: str) -> None:
        self._claims = root.claims_names
        self._claimed = ""
        self._directory = directory
        self._token = token
        self._published = False
        self.fd = os.open(
            _names(token)[0], os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644, dir_fd=directory
        )

    def fill(self, key: str, source: int | bytes, size_bytes: int, checkpoint: Callable[[], None]) -> None:
        """Write the content, of a descriptor or in memory."""
        try:
            if isinstance(source, bytes):
                write_all(self.fd, memoryview(source), 0)
                copied = len(source)
            else:
                copied = copy_range(source, self.fd, start=0, stop=size_bytes, target_start=0, checkpoint=checkpoint)
        except SinkError as exc:  # here the target is the storage itself
            raise OSError(exc.errno, exc.strerror) from exc
        if copied != size_bytes:
            raise InvalidRequestError(f"the data of {key!r} has {copied} bytes, not {size_bytes}")

    def publish(self, name: str) -> None:
        """Give the file its name, never replacing."""
        directory = self._directory
        temp, new, _ = _names(self._token)
        if self._claims:
            claim(directory, name, self._token)
            self._claimed = name
        try:
            os.link(temp, name, src_dir_fd=directory, dst_dir_fd=directory, follow_symlinks=False)
        except OSError as exc:
            if exc.errno not in _UNSUPPORTED:
                raise
            os.rename(temp, new, src_dir_fd=directory, dst_dir_fd=directory)
            _publish_by_rename(directory, self._token, name, _Mark())
        self._published = True

    def close(self) -> None:
        """Close the file, and remove it unless it has its name."""
        os.close(self.fd)
        if not self._published:
            _unlink_all(self._directory, _names(self._token))
            if self._claimed:
                release_claim(self._directory, self._claimed, self._token)


def place_object(
    root: Root, key: str, source_path: str, how: str, token: str, checkpoint: Callable[[], None]
) -> ObjectStat:
    """Make the file ``source_path`` the object ``key`` by hard link, symbolic link or move."""
    token = own_token(token, key)
    if how not in ("hardlink", "symlink", "move"):
        raise InvalidRequestError(f"a file is placed by hardlink, symlink or move, not {how!r}")
    if not os.path.isabs(source_path):
        raise InvalidRequestError(f"the file to place must be given by an absolute path, not {source_path!r}")
    with root.translating(source_path):
        source = os.open(source_path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        status = os.fstat(source)
        if not stat.S_ISREG(status.st_mode):
            raise InvalidRequestError(f"{source_path!r} is not a regular file")
        with root.translating(key, writing=True), _target_directory(root, key) as (directory, name):
            if how == "symlink":
                os.symlink(source_path, _names(token)[1], dir_fd=directory)
                return _place_new(root, key, directory, name, source, token, _Mark())
            moved = _Mark(source=source_path, source_device=status.st_dev, source_inode=status.st_ino)
            mark = moved if how == "move" else _Mark()
            try:
                # Through the descriptor: the very file that was examined, wherever the path leads by now.
                os.link(f"/proc/self/fd/{source}", _names(token)[1], dst_dir_fd=directory, follow_symlinks=True)
            except OSError as exc:
                if exc.errno not in _UNSUPPORTED | {errno.EXDEV}:
                    raise
                if how == "hardlink":
                    raise BackendError(
                        f"{source_path!r} cannot be hard-linked into the storage: {exc.strerror}",
                        hint="Hard links need one file system and a source of the daemon's own; copy or symlink it.",
                    ) from exc
                return _move_by_copy(root, key, directory, name, source, token, mark, checkpoint)
            return _place_new(root, key, directory, name, source, token, mark)
    finally:
        os.close(source)


def _place_new(root: Root, key: str, directory: int, name: str, source: int, token: str, mark: _Mark) -> ObjectStat:
    published = False
    try:
        os.fsync(source)
        if root.claims_names:
            claim(directory, name, token)
        _publish_by_rename(directory, token, name, mark)
        published = True
        os.fsync(directory)
        return object_stat(key, os.fstat(source))
    finally:
        if not published:
            _unlink_all(directory, _names(token))
            if root.claims_names:
                release_claim(directory, name, token)


def _move_by_copy(
    root: Root,
    key: str,
    directory: int,
    name: str,
    source: int,
    token: str,
    mark: _Mark,
    checkpoint: Callable[[], None],
) -> ObjectStat:
    # The marker, without an inode, only remembers the source; the linked copy proves the target.
    _write_mark(directory, token, mark)
    try:
        status = _copy_and_link(root, key, directory, name, source, os.fstat(source).st_size, token, checkpoint)
        os.fsync(directory)
        return status
    except BaseException:
        _unlink_all(directory, _names(token))
        raise


def _publish_by_rename(directory: int, token: str, name: str, mark: _Mark) -> None:
    _, new, mark_name = _names(token)
    inode = os.stat(new, dir_fd=directory, follow_symlinks=False).st_ino
    mark = msgspec.structs.replace(_read_mark(directory, mark_name) or mark, inode=inode)
    _write_mark(directory, token, mark)
    try:
        rename_exclusive(new, name, dir_fd=directory)
    except OSError as exc:
        if exc.errno not in _UNSUPPORTED:
            raise
    else:
        return
    placeholder = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644, dir_fd=directory)
    try:
        status = os.fstat(placeholder)
        _write_mark(directory, token, msgspec.structs.replace(mark, placeholder=status.st_ino))
        os.rename(new, name, src_dir_fd=directory, dst_dir_fd=directory)
    except BaseException:
        with suppress(OSError):
            if os.stat(name, dir_fd=directory, follow_symlinks=False).st_ino == status.st_ino:
                os.unlink(name, dir_fd=directory)
        raise
    finally:
        os.close(placeholder)


def undo_object(root: Root, key: str, token: str) -> bool:
    """Remove what a write with ``token`` left; True if there was anything."""
    token = own_token(token, key)
    with root.translating(key, writing=True):
        try:
            directory, name = open_parent(root, key, _DIRECTORY)
        except (FileNotFoundError, NotADirectoryError):
            return False
        try:
            removed = _owns_target(directory, name, token)
            if removed:
                os.unlink(name, dir_fd=directory)
                os.fsync(directory)  # before the proof goes
            removed = _unlink_all(directory, _names(token)) or removed
            if root.claims_names:
                release_claim(directory, name, token)
        finally:
            os.close(directory)
        if removed:
            prune_parents(root, key)
        return removed


def _owns_target(directory: int, name: str, token: str) -> bool:
    temp, new, mark_name = _names(token)
    target = _lstat(directory, name)
    if target is None:
        return False
    linked = _lstat(directory, temp)
    if linked is not None and os.path.samestat(linked, target):
        return True
    mark = _read_mark(directory, mark_name)
    if mark is None or mark.inode is None:
        return False
    if _lstat(directory, new) is None:
        return target.st_ino == mark.inode
    return target.st_ino == mark.placeholder and target.st_size == 0


def settle_object(root: Root, key: str, token: str) -> None:
    """Remove what only an undo would have needed, and the source of a move."""
    token = own_token(token, key)
    with root.translating(key, writing=True):
        try:
            directory, name = open_parent(root, key, _DIRECTORY)
        except (FileNotFoundError, NotADirectoryError):
            return
        try:
            mark = _read_mark(directory, _names(token)[2])
            if mark is not None and mark.source is not None and _owns_target(directory, name, token):
                _unlink_source(mark.source, mark)
            _unlink_all(directory, _names(token))
            if root.claims_names:
                release_claim(directory, name, token)
        finally:
            os.close(directory)


def _unlink_source(path: str, mark: _Mark) -> None:
    try:
        status = os.stat(path, follow_symlinks=False)
    except FileNotFoundError:
        return
    if (status.st_dev, status.st_ino) == (mark.source_device, mark.source_inode):
        os.unlink(path)


@contextmanager
def _target_directory(root: Root, key: str) -> Iterator[tuple[int, str]]:
    """Open the directory of ``key``, made if need be, and durable; pruned again if the body fails."""
    parent, _, name = key.rpartition("/")
    directory = open_directory(root, parent)
    try:
        yield directory, name
    except BaseException:
        prune_parents(root, key)
        raise
    finally:
        os.close(directory)


def open_directory(root: Root, path: str) -> int:
    """Open a directory, made if need be, and durable."""
    for left in reversed(range(_PRUNE_RACES)):
        try:
            return _make_directories(root, path)
        except FileNotFoundError:  # somebody pruned an empty directory between mkdir and open
            if not left:
                raise
    raise AssertionError(path)


def _make_directories(root: Root, path: str) -> int:
    try:
        return open_beneath(root.fd, path or ".", _DIRECTORY)
    except FileNotFoundError:
        if not path:
            raise
    above, _, name = path.rpartition("/")
    parent = _make_directories(root, above)
    try:
        with suppress(FileExistsError):
            os.mkdir(name, dir_fd=parent)
            os.fsync(parent)
    finally:
        os.close(parent)
    return open_beneath(root.fd, path, _DIRECTORY)


# Made once: threads that make the decoders of one struct at the same time crash msgspec 0.22.
_mark_decoder = msgspec.json.Decoder(_Mark)


def _write_mark(directory: int, token: str, mark: _Mark) -> None:
    mark_name = _names(token)[2]
    draft = mark_name + ".tmp"
    fd = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600, dir_fd=directory)
    try:
        os.write(fd, msgspec.json.encode(mark))
        os.fsync(fd)
    finally:
        os.close(fd)
    os.rename(draft, mark_name, src_dir_fd=directory, dst_dir_fd=directory)
    os.fsync(directory)


def _read_mark(directory: int, mark_name: str) -> _Mark | None:
    try:
        fd = os.open(mark_name, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=directory)
    except FileNotFoundError:
        return None
    try:
        return _mark_decoder.decode(os.read(fd, 1 << 16))
    except msgspec.DecodeError:
        return None
    finally:
        os.close(fd)


def _lstat(directory: int, name: str) -> os.stat_result | None:
    try:
        return os.stat(name, dir_fd=directory, follow_symlinks=False)
    except FileNotFoundError:
        return None


def _unlink_all(directory: int, names: tuple[str, ...]) -> bool:
    removed = False
    # The marker goes last, and its draft with it: a crash in between must not lose the proof first.
    for name in (*names, names[-1] + ".tmp"):
        try:
            os.unlink(name, dir_fd=directory)
            removed = True
        except FileNotFoundError:
            continue
    return removed


def remove_link(directory: int, name: str, token: str) -> bool:
    """Remove the hard link that is all the proof of most writes of ``name``; False if another one was needed."""
    try:
        os.unlink(_names(own_token(token, name))[0], dir_fd=directory)
    except FileNotFoundError:
        return False
    return True
