"""One file to its place: linked, cloned or copied; checked; complete under its name or not there."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import secrets
import stat
import threading
from collections.abc import Iterator
from typing import Literal, get_args

from pantry.errors import ConflictError, IntegrityError, InvalidRequestError, LimitExceededError, PermissionDeniedError
from pantry.model.datasets import StoredFile

StageTransfer = Literal["auto", "hardlink", "reflink", "copy"]
"""How a file gets to its place; see `Butler.stage`."""
Placing = Literal["hardlink", "reflink", "copy", "present"]
"""What was done for a file; ``present`` if it was there already."""

_FICLONE = 0x40049409
_COPY_BYTES = 1 << 24
_BLOCK_BYTES = 1 << 20
_IMPOSSIBLE = {errno.EXDEV, errno.ENOSYS, errno.EOPNOTSUPP, errno.EINVAL, errno.EPERM, errno.EMLINK, errno.ENOTTY}
"""What system calls answer where links or clones cannot be had; the file itself may still be readable."""


class Stopped(Exception):  # noqa: N818 - no error: another file's is reported
    """Work on other files was given up."""


class Placer:
    """Puts files below one directory; may be used by several threads.

    Parameters
    ----------
    root : str
        The directory; made if need be.
    transfer : str
        See `StageTransfer`.
    overwrite : bool
        Replace files that have other content, in place of `ConflictError`.

    Attributes
    ----------
    stopped : threading.Event
        Set it to make all threads give up soon.
    """

    def __init__(self, root: str | os.PathLike[str], *, transfer: StageTransfer, overwrite: bool = False) -> None:
        if transfer not in get_args(StageTransfer):
            raise InvalidRequestError(
                f"unknown transfer {transfer!r}", hint=f"one of {', '.join(get_args(StageTransfer))}"
            )
        self.root = os.path.abspath(os.fspath(root))
        self.stopped = threading.Event()
        self._transfer = transfer
        self._overwrite = overwrite
        self._checked: set[str] = set()
        with translate_errors(self.root):
            os.makedirs(self.root, exist_ok=True)
            self._real_root = os.path.realpath(self.root)

    def path(self, name: str) -> str:
        """Return where the file ``name`` goes, and make its directory; refuses every way out of the root."""
        parts = name.split("/")
        if any(part in ("", ".", "..") or "\0" in part for part in parts):
            raise InvalidRequestError(f"{name!r} is no name of a file below a directory")
        path = os.path.join(self.root, *parts)
        directory = os.path.dirname(path)
        if directory not in self._checked:
            with translate_errors(path):
                os.makedirs(directory, exist_ok=True)
            # A symbolic link on the way could lead anywhere.
            if os.path.realpath(directory) != os.path.join(self._real_root, *parts[:-1]):
                raise ConflictError(f"{directory} leads out of {self.root}", hint="remove the symbolic link on the way")
            self._checked.add(directory)
        return path

    def is_there(self, path: str, file: StoredFile) -> bool:
        """Whether a file of exactly this content is there.

        Raises
        ------
        ConflictError
            There is something else, which may not be replaced.
        """
        if not os.path.lexists(path):
            return False
        if has_hash(path, file):
            return True
        self.refuse(path)
        return False

    def refuse(self, path: str) -> None:
        """Raise that something else is there, unless that may be replaced, which a directory never may."""
        if not self._overwrite or os.path.isdir(path):
            raise ConflictError(
                f"{path} exists with other content",
                hint="remove it, stage to another directory, or let it be replaced (overwrite=True, --overwrite)",
            )

    def place(self, source_fd: int, path: str, file: StoredFile, *, own: bool) -> Placing:
        """Make the file ``path`` of an open one, check its content, and let it appear.

        Parameters
        ----------
        source_fd : int
            Readable and complete.
        path : str
            From `path`; nothing is there, or something that may be replaced.
        file : StoredFile
            What its content is.
        own : bool
            Whether the open file is the repository's own, which may be linked. What the cache holds may not: a link
            would let its content be changed, and keep its room taken when it is evicted.

        Raises
        ------
        IntegrityError
            The content is not what was registered; nothing appears.
        LimitExceededError
            The disk is full; nothing appears.
        """
        directory = os.path.dirname(path)
        with translate_errors(path):
            parent = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                if self._transfer == "hardlink":
                    self._hardlink(source_fd, path, parent, file, own=own)
                    return "hardlink"
                return self._independent(source_fd, path, parent, file, own=own)
            finally:
                os.close(parent)

    # -- the ways -----------------------------------------------------------------------------------

    def _hardlink(self, source_fd: int, path: str, parent: int, file: StoredFile, *, own: bool) -> None:
        if not own:
            raise InvalidRequestError(
                f"{path}: only files of a repository in a directory that you may read yourself can be hard links",
                hint="use the transfer auto, reflink or copy",
            )
        check_content(source_fd, file, path)
        try:
            self._appear(source_fd, parent, os.path.basename(path))
        except OSError as exc:
            if exc.errno not in _IMPOSSIBLE:
                raise
            raise InvalidRequestError(
                f"{path} cannot be a hard link to the repository's file: {os.strerror(exc.errno or 0)}",
                hint="they must be on one file system, and the file be yours; the transfer auto copies where need be",
            ) from None

    def _independent(self, source_fd: int, path: str, parent: int, file: StoredFile, *, own: bool) -> Placing:
        name = os.path.basename(path)
        with _draft(parent, name) as (fd, draft):
            try:
                fcntl.ioctl(fd, _FICLONE, source_fd)
                how: Placing = "reflink"
            except OSError as exc:
                if exc.errno not in _IMPOSSIBLE:
                    raise
                if self._transfer == "reflink":
                    raise InvalidRequestError(
                        f"{path} cannot be a reflink: {os.strerror(exc.errno or 0)}",
                        hint="source and directory must be on one file system that has them, as XFS or Btrfs; "
                        "the transfer auto copies where need be",
                    ) from None
                if own and self._transfer == "auto" and self._is_linked(source_fd, path, parent, file):
                    return "hardlink"
                how = "copy"
                self._copy(source_fd, fd)
            check_content(fd, file, path)
            if draft is None:
                self._appear(fd, parent, name)
            else:
                os.rename(draft, name, src_dir_fd=parent, dst_dir_fd=parent)
            return how

    def _is_linked(self, source_fd: int, path: str, parent: int, file: StoredFile) -> bool:
        """Link a file that nobody may write to; else a program that alters its copy would alter the repository."""
        if stat.S_IMODE(os.fstat(source_fd).st_mode) & 0o222:
            return False
        check_content(source_fd, file, path)
        try:
            self._appear(source_fd, parent, os.path.basename(path))
        except OSError as exc:
            if exc.errno not in _IMPOSSIBLE:
                raise
            return False
        return True

    def _appear(self, fd: int, parent: int, name: str) -> None:
        """Give an open file its name, in one step."""
        source = f"/proc/self/fd/{fd}"
        try:
            # With a directory's descriptor: without one, Python would link the link in /proc.
            os.link(source, name, dst_dir_fd=parent, follow_symlinks=True)
            return
        except FileExistsError:
            # What may be replaced; or another process put it there meanwhile, with the same content.
            pass
        other = f".{name[:200]}.{secrets.token_hex(4)}.part"
        os.link(source, other, dst_dir_fd=parent, follow_symlinks=True)
        try:
            os.rename(other, name, src_dir_fd=parent, dst_dir_fd=parent)
        finally:
            # Of two links to one file, rename leaves both.
            with contextlib.suppress(FileNotFoundError):
                os.unlink(other, dir_fd=parent)

    def _copy(self, source_fd: int, target_fd: int) -> None:
        for _ in copied(source_fd, target_fd):
            if self.stopped.is_set():
                raise Stopped


@contextlib.contextmanager
def _draft(parent: int, name: str) -> Iterator[tuple[int, str | None]]:
    """Give a new file without a name, which nothing is left of whatever happens; or with a temporary one."""
    try:
        fd = os.open(".", os.O_TMPFILE | os.O_RDWR | os.O_CLOEXEC, 0o666, dir_fd=parent)
        draft = None
    except OSError as exc:
        if exc.errno not in (errno.EOPNOTSUPP, errno.EISDIR, errno.ENOENT, errno.EINVAL):
            raise
        draft = f".{name[:200]}.{secrets.token_hex(4)}.part"
        fd = os.open(draft, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666, dir_fd=parent)
    try:
        yield fd, draft
    finally:
        os.close(fd)
        if draft is not None:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(draft, dir_fd=parent)


@contextlib.contextmanager
def translate_errors(path: str) -> Iterator[None]:
    """Say what a failure of the operating system means for who stages."""
    try:
        yield
    except OSError as exc:
        if exc.errno in (errno.ENOSPC, errno.EDQUOT):
            raise LimitExceededError(
                f"{path}: {'the disk is full' if exc.errno == errno.ENOSPC else 'your quota on this disk is used up'}",
                hint="make room and run it again: what is complete stays, and is not fetched again",
            ) from None
        if exc.errno in (errno.EACCES, errno.EROFS):
            raise PermissionDeniedError(f"{path}: {os.strerror(exc.errno)}", hint="choose another directory") from None
        if exc.errno in (errno.ENAMETOOLONG, errno.EFBIG):
            raise InvalidRequestError(
                f"{path}: {os.strerror(exc.errno)}", hint="this file system cannot take it; choose another directory"
            ) from None
        if exc.errno in (errno.ENOTDIR, errno.EEXIST):
            raise ConflictError(
                f"{path}: a file is in the way of a directory", hint="remove it, or choose another"
            ) from None
        raise


def check_content(fd: int, file: StoredFile, path: str) -> None:
    """Raise `IntegrityError` unless an open file has the size and the hash that were registered."""
    size_bytes = os.fstat(fd).st_size
    if size_bytes != file.size_bytes:
        found = f"{size_bytes} bytes, not {file.size_bytes}"
    elif file.hash and (digest := hash_file(fd)) != file.hash:
        found = f"the hash {digest}, not {file.hash}"
    else:
        return
    raise IntegrityError(
        f"the content for {path} has {found}",
        hint="the repository's file was damaged or replaced: `pantry cache verify` and the repository's owner can tell",
    )


def has_hash(path: str, file: StoredFile) -> bool:
    """Whether a regular file has the size and the hash that were registered; a link is never one."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError:
        return False
    try:
        status = os.fstat(fd)
        if not stat.S_ISREG(status.st_mode) or status.st_size != file.size_bytes:
            return False
        return bool(file.hash) and hash_file(fd) == file.hash
    finally:
        os.close(fd)


def hash_file(fd: int) -> str:
    """Give the xxh3-128 of an open file, as ``xxh128sum`` prints it; its offset stays."""
    import xxhash

    state = xxhash.xxh3_128()
    buffer = memoryview(bytearray(min(_BLOCK_BYTES, os.fstat(fd).st_size + 1)))
    offset = 0
    while got := os.preadv(fd, [buffer], offset):
        state.update(buffer[:got])
        offset += got
    return state.hexdigest()


def hash_path(path: str) -> str:
    """Give the xxh3-128 of a file."""
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    try:
        return hash_file(fd)
    finally:
        os.close(fd)


@contextlib.contextmanager
def replaced_atomically(path: str) -> Iterator[int]:
    """Give a descriptor to write a file that appears under its name when the ``with`` ends without error."""
    directory, name = os.path.split(path)
    temporary = os.path.join(directory, f".{name[:200]}.{secrets.token_hex(4)}.part")
    fd = os.open(temporary, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
    try:
        yield fd
        os.rename(temporary, path)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(temporary)
        raise
    finally:
        os.close(fd)


def copy_content(source_fd: int, target_fd: int) -> None:
    """Copy a whole file into an empty one: by sharing its blocks, else in the kernel, else through memory."""
    with contextlib.suppress(OSError):
        fcntl.ioctl(target_fd, _FICLONE, source_fd)
        return
    for _ in copied(source_fd, target_fd):
        pass


def copied(source_fd: int, target_fd: int) -> Iterator[int]:
    """Copy a whole file into an empty one: in the kernel, else through memory; gives how far it is after each step."""
    offset = 0
    try:
        while count := os.copy_file_range(source_fd, target_fd, _COPY_BYTES, offset, offset):
            offset += count
            yield offset
    except OSError as exc:
        # Between file systems, or on those that cannot.
        if exc.errno not in _IMPOSSIBLE:
            raise
    # Also what copy_file_range says is nothing: some file systems answer 0 for what they cannot copy.
    while chunk := os.pread(source_fd, _COPY_BYTES, offset):
        view = memoryview(chunk)
        while view:
            count = os.pwrite(target_fd, view, offset)
            view, offset = view[count:], offset + count
        yield offset
