"""The root directory, and what is opened below it."""

from __future__ import annotations

import errno
import logging
import os
import stat
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from pantry.backends.mounted import LOCAL, Mounted
from pantry.backends.posix._beneath import DIRECTORY, open_beneath
from pantry.backends.posix._errors import STALE, translate_os_errors
from pantry.errors import BackendError, ConfigError

log = logging.getLogger(__name__)

READ = os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC
"""Without O_NONBLOCK opening a FIFO by mistake would hang."""


def require_absolute(path: str) -> str:
    """Return ``path`` normalised if it is absolute, else raise `ConfigError`."""
    if not os.path.isabs(path):
        raise ConfigError(f"the storage root {path!r} is not an absolute path")
    return os.path.normpath(path)


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


def open_object(root: Root, key: str, flags: int = READ) -> int:
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
