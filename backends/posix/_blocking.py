"""What the backend does in threads: the calls of the operating system on files below the root."""

from __future__ import annotations

import errno
import os
import stat
import time
from collections.abc import Callable, Generator, Iterable, Iterator

from pantry.backends.contract import MAX_KEY_BYTES, RESERVED_PREFIX, ByteRange, ObjectStat, check_key, check_version
from pantry.backends.posix._beneath import DIRECTORY, open_beneath
from pantry.backends.posix._copying import copy_range
from pantry.backends.posix._errors import STALE
from pantry.backends.posix._root import READ, Root, open_object, open_parent
from pantry.backends.progress import Progress, reporting
from pantry.errors import (
    BackendAccessError,
    BackendError,
    ObjectNotFoundError,
    TransientBackendError,
)

LATE_S = 1.0
"""How long a file on a shared file system may be missing, stale or short before that is believed, in seconds."""
_LOOK_AGAIN_S = 0.02

_SURE_CHARACTERS = MAX_KEY_BYTES // 4
"""A key of no more characters has no more than `MAX_KEY_BYTES` bytes."""


def file_version(status: os.stat_result) -> str:
    """Version of a file: changes with its time, its size, or another file in its place."""
    return f"{status.st_mtime_ns:x}-{status.st_size:x}-{status.st_ino:x}"


def object_stat(key: str, status: os.stat_result) -> ObjectStat:
    """Describe a regular file as an object."""
    return ObjectStat(key=key, size_bytes=status.st_size, version=file_version(status), modified_ns=status.st_mtime_ns)


def stat_object(root: Root, key: str) -> ObjectStat:
    """Describe the file of ``key``."""
    with root.translating(key):
        fd = open_object(root, key, os.O_PATH | os.O_CLOEXEC)
        try:
            return object_stat(key, _regular(key, fd))
        finally:
            os.close(fd)


def open_each(root: Root, keys: Iterable[str]) -> Iterator[tuple[int, os.stat_result]]:
    """Open one file after the other read-only; give descriptor and status of each.

    A directory is opened once for all files of it that follow one another.
    """
    directory, opened = "", -1
    try:
        for key in keys:
            parent, _, name = key.rpartition("/")
            if opened < 0 or parent != directory:
                check_key(key)
                if opened >= 0:
                    os.close(opened)
                    opened = -1
                with root.translating(key):
                    opened = open_beneath(root.fd, parent or ".", DIRECTORY)
                directory = parent
            elif len(key) > _SURE_CHARACTERS:
                check_key(key)
            else:
                check_key(name)  # what stands before it has been
            yield _open_in(root, key, opened, name)
    finally:
        if opened >= 0:
            os.close(opened)


def _open_in(root: Root, key: str, directory: int, name: str) -> tuple[int, os.stat_result]:
    try:
        fd = os.open(name, READ | os.O_NOFOLLOW, dir_fd=directory)
    except OSError:  # mostly a link
        with root.translating(key):
            fd = open_object(root, key)
    try:
        return fd, _regular(key, fd)
    except BaseException:
        os.close(fd)
        raise


def read_object(
    root: Root,
    key: str,
    span: ByteRange,
    target: int,
    if_version: str | None,
    checkpoint: Callable[[], None],
    on_progress: Progress | None = None,
) -> None:
    """Copy ``span`` of the file into ``target`` at the same offsets, exactly or not at all.

    On a shared file system whoever reads has mostly heard of the file from another host, and this one may
    not know it yet, or not its length: it is looked for again during `LATE_S`. A mount that came back is
    opened again.
    """
    until = time.monotonic() + LATE_S
    while True:
        told = _Told(on_progress)
        try:
            return _read_once(root, key, span, target, if_version, checkpoint, told.progress)
        except (ObjectNotFoundError, TransientBackendError) as exc:
            if not root.is_shared or told.any or time.monotonic() > until or not _may_be_late(exc):
                raise
            checkpoint()
            time.sleep(_LOOK_AGAIN_S)


class _Told:
    """Passes progress on, and knows whether there was any: then a read is not begun again."""

    def __init__(self, on_progress: Progress | None) -> None:
        self.any = False
        self._on_progress = on_progress
        self.progress = None if on_progress is None else self._tell

    def _tell(self, position: int) -> None:
        self.any = True
        if self._on_progress is not None:
            self._on_progress(position)


def _may_be_late(error: BackendError) -> bool:
    """Whether the file may be there in a moment: not yet known, shorter than it is, or on a mount that comes back."""
    cause = error.__cause__
    return not isinstance(cause, OSError) or cause.errno in STALE | {errno.ENOENT}


def _read_once(
    root: Root,
    key: str,
    span: ByteRange,
    target: int,
    if_version: str | None,
    checkpoint: Callable[[], None],
    on_progress: Progress | None = None,
) -> None:
    with reporting(on_progress) as report, root.translating(key):
        fd = open_object(root, key)

        def tell(copied: int) -> None:
            # Before: whoever is told may use the bytes at once.
            check_version(key, file_version(os.fstat(fd)), if_version)
            report(span.start + copied)

        try:
            status = _regular(key, fd)
            check_version(key, file_version(status), if_version)
            copied = copy_range(
                fd,
                target,
                start=span.start,
                stop=span.stop,
                target_start=span.start,
                checkpoint=checkpoint,
                on_copied=None if on_progress is None else tell,
                # A copy in the kernel from a file system that hangs would write into the target whenever
                # that one comes back, though nobody waits any more; a read can only fill our buffer.
                by_kernel=status.st_dev == os.fstat(target).st_dev,
            )
            # Again: a file that was rewritten in place meanwhile gave a mixture.
            check_version(key, file_version(os.fstat(fd)), if_version)
        finally:
            os.close(fd)
    if copied != span.size_bytes:
        raise TransientBackendError(
            f"{key!r} gave {copied} of the {span.size_bytes} bytes from offset {span.start}", key=key
        )


def _regular(key: str, fd: int) -> os.stat_result:
    status = os.fstat(fd)
    if not stat.S_ISREG(status.st_mode):
        raise ObjectNotFoundError(f"no object {key!r}: it is not a regular file", key=key)
    return status


def walk(root: Root, prefix: str, checkpoint: Callable[[], None]) -> Generator[ObjectStat, None, None]:
    """Iterate over the files whose key begins with ``prefix``; linked directories are not entered."""
    top, _, beginning = prefix.rpartition("/")
    directories = [(top, beginning)]
    while directories:
        directory, beginning = directories.pop()
        checkpoint()
        with root.translating(directory or "/"):
            try:
                fd = open_beneath(root.fd, directory or ".", os.O_RDONLY | os.O_DIRECTORY)
            except (FileNotFoundError, NotADirectoryError):
                continue
            try:
                with os.scandir(fd) as entries:
                    for entry in entries:
                        if not entry.name.startswith(beginning) or not _may_be_key(entry.name):
                            continue
                        path = f"{directory}/{entry.name}" if directory else entry.name
                        if entry.is_dir(follow_symlinks=False):
                            directories.append((path, ""))
                        else:
                            yield from _listed(root, path, entry)
            finally:
                os.close(fd)


def _listed(root: Root, path: str, entry: os.DirEntry[str]) -> Iterator[ObjectStat]:
    try:
        if entry.is_symlink():
            yield stat_object(root, path)
        elif entry.is_file(follow_symlinks=False):
            yield object_stat(path, entry.stat(follow_symlinks=False))
    except (FileNotFoundError, ObjectNotFoundError, BackendAccessError):
        return  # gone meanwhile, a dangling link, or one that leads out: not an object


def _may_be_key(name: str) -> bool:
    if name.startswith(RESERVED_PREFIX):
        return False
    try:
        name.encode()
    except UnicodeEncodeError:
        return False  # bytes that are not UTF-8: such a name cannot cross the wire
    return True


def delete_object(root: Root, key: str) -> None:
    """Unlink the file of ``key`` and the directories that this leaves empty."""
    with root.translating(key, writing=True):
        try:
            parent, name = open_parent(root, key)
        except (FileNotFoundError, NotADirectoryError):
            return
        try:
            if not _unlink_file(name, parent):
                return
        finally:
            os.close(parent)
        prune_parents(root, key)


def _unlink_file(name: str, dir_fd: int) -> bool:
    try:
        if stat.S_ISDIR(os.stat(name, dir_fd=dir_fd, follow_symlinks=False).st_mode):
            return False
        os.unlink(name, dir_fd=dir_fd)
    except FileNotFoundError:
        return False
    return True


def prune_parents(root: Root, key: str) -> None:
    """Remove the directories above ``key`` that are empty, never the root."""
    path = key
    while path := path.rpartition("/")[0]:
        try:
            parent, name = open_parent(root, path)
        except OSError:
            return
        try:
            os.rmdir(name, dir_fd=parent)
        except OSError:
            return  # not empty, or not ours to remove
        finally:
            os.close(parent)
