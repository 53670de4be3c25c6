"""What the backend does in threads: the calls of the operating system on files below the root."""

from __future__ import annotations

import errno
import logging
import os
import stat
import threading
import time
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import contextmanager

from pantry.backends.contract import MAX_KEY_BYTES, RESERVED_PREFIX, ByteRange, ObjectStat, check_key, check_version
from pantry.backends.mounted import LOCAL, Mounted
from pantry.backends.posix._beneath import DIRECTORY, open_beneath
from pantry.backends.posix._copying import copy_range
from pantry.backends.posix._errors import STALE, translate_os_errors
from pantry.backends.progress import Progress, reporting
from pantry.errors import (
    BackendAccessError,
    BackendError,
    ConfigError,
    ObjectNotFoundError,
    TransientBackendError,
)

log = logging.getLogger(__name__)

LATE_S = 1.0
"""How long a file on a shared file system may be missing, stale or short before that is believed, in seconds."""
_LOOK_AGAIN_S = 0.02

_SURE_CHARACTERS = MAX_KEY_BYTES // 4
"""A key of no more characters has no more than `MAX_KEY_BYTES` bytes."""
_READ = os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC  # NONBLOCK: opening a FIFO by mistake must not hang


def file_version(status: os.stat_result) -> str:
    """Version of a file: changes with its time, its size, or another file in its place."""
    return f"{status.st_mtime_ns:x}-{status.st_size:x}-{status.st_ino:x}"


def object_stat(key: str, status: os.stat_result) -> ObjectStat:
    """Describe a regular file as an object."""
    return ObjectStat(key=key, size_bytes=status.st_size, version=file_version(status), modified_ns=status.st_mtime_ns)


class Root:
    """The root directory, open as a descriptor from the first use on.

    Parameters
    ----------
    path : str
        Absolute.
    create : bool
        Make the directory if it does not exist.
    mounted : Mounted
        The file system that holds it.

    Attributes
    ----------
    is_shared : bool
        Whether other hosts may write to it, whose changes are seen late.
    claims_names : bool
        Whether a name must be claimed before it is linked, see `pantry.backends.posix._claiming`.
    """

    def __init__(self, path: str, *, create: bool, mounted: Mounted = LOCAL) -> None:
        self.path = path
        self.is_shared = mounted.is_shared
        self.claims_names = not mounted.links_are_exclusive
        self._kind = mounted.kind
        self._create = create
        self._fd = -1
        self._owners = frozenset[int]()
        self._lock = threading.Lock()

    @property
    def fd(self) -> int:
        """The descriptor; opened if it is not."""
        with self._lock:
            if self._fd < 0:
                if self._create:
                    os.makedirs(self.path, exist_ok=True)
                try:
                    self._fd = os.open(self.path, DIRECTORY)
                except (FileNotFoundError, NotADirectoryError) as exc:
                    raise BackendError(
                        f"the storage root {self.path} is not a directory",
                        hint="Mount it or make it, or set the option create = true.",
                    ) from exc
                if self.is_shared:
                    how = "claimed by directories" if self.claims_names else "linked"
                    log.info(
                        "%s is on %s, which other hosts may write to: new names are %s", self.path, self._kind, how
                    )
                self._owners = frozenset({0, os.geteuid(), os.fstat(self._fd).st_uid})
            return self._fd

    def trusts_link_of(self, uid: int) -> bool:
        """Whether symbolic links of this user may lead out of the root.

        Anybody who may write into the tree could else have the daemon read its own secrets for them.
        """
        return uid in self._owners

    def reopen(self) -> None:
        """Open the root again after its mount went stale; who uses the descriptor gets the new one."""
        with self._lock:
            if self._fd < 0:
                return
            try:
                fresh = os.open(self.path, DIRECTORY)
            except OSError:
                return
            # In place, so that no thread ever holds a number that means something else.
            os.dup2(fresh, self._fd, inheritable=False)
            os.close(fresh)

    def close(self) -> None:
        """Close the descriptor."""
        with self._lock:
            if self._fd >= 0:
                os.close(self._fd)
                self._fd = -1

    @contextmanager
    def translating(self, key: str, *, writing: bool = False) -> Iterator[None]:
        """Translate errors of the operating system, and reopen a stale root for the next call."""
        with translate_os_errors(key, writing=writing):
            try:
                yield
            except OSError as exc:
                if exc.errno in STALE:
                    self.reopen()
                raise


def open_parent(root: Root, key: str, flags: int = DIRECTORY) -> tuple[int, str]:
    """Open the directory of ``key`` below the root; the descriptor and the last name."""
    parent, _, name = key.rpartition("/")
    return open_beneath(root.fd, parent or ".", flags), name


def open_object(root: Root, key: str, flags: int = _READ) -> int:
    """Open the file of ``key``; a symbolic link as last component is followed if its owner is trusted."""
    try:
        fd = open_beneath(root.fd, key, flags | os.O_NOFOLLOW)
    except OSError as exc:
        if exc.errno != errno.ELOOP:
            raise
        return _open_linked(root, key, flags)
    if flags & os.O_PATH and stat.S_ISLNK(os.fstat(fd).st_mode):  # O_PATH opens the link itself
        os.close(fd)
        return _open_linked(root, key, flags)
    return fd


def _open_linked(root: Root, key: str, flags: int) -> int:
    parent, name = open_parent(root, key)
    try:
        link = os.open(name, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=parent)
        try:
            status = os.fstat(link)
            if stat.S_ISLNK(status.st_mode) and root.trusts_link_of(status.st_uid):
                # Of the link that was checked, not of one that has replaced it since.
                return os.open(os.readlink("", dir_fd=link), flags | os.O_CLOEXEC, dir_fd=parent)
        finally:
            os.close(link)
    finally:
        os.close(parent)
    fd = open_beneath(root.fd, key, flags)
    if stat.S_ISLNK(os.fstat(fd).st_mode):  # O_PATH, where links are not followed for want of openat2
        os.close(fd)
        raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), key)
    return fd


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
        fd = os.open(name, _READ | os.O_NOFOLLOW, dir_fd=directory)
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


def require_absolute(path: str) -> str:
    """Return ``path`` normalised if it is absolute, else raise `ConfigError`."""
    if not os.path.isabs(path):
        raise ConfigError(f"the storage root {path!r} is not an absolute path")
    return os.path.normpath(path)
