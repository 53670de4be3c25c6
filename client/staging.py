"""Datasets' files in a directory, by their names in the mount (DMS-MWBT-REQ-0066)."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import secrets
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Literal

from pantry.client.butler import Butler
from pantry.client.butler.opened import OpenedFile
from pantry.errors import ConflictError, NotCachedError, ProtocolError
from pantry.model.datasets import DatasetRef
from pantry.wire.operations import OpenDataset

_FICLONE = 0x40049409
_COPY_BYTES = 1 << 24
_COMPARE_BYTES = 1 << 20


def stage(
    butler: Butler, refs: Iterable[DatasetRef], destination: str | os.PathLike[str], *, how: Literal["copy"] = "copy"
) -> list[Path]:
    """Copy the files of datasets into a directory.

    Each appears complete or not at all. Where the file system can, a copy shares the cache's blocks.

    Parameters
    ----------
    butler : Butler
        That reads them.
    refs : iterable of DatasetRef
        Which datasets.
    destination : str or path
        The directory; made if need be. Below it files are called ``<run>/<dataset type>/.../<file>``,
        as in the mount.
    how : str
        ``copy``: an independent file.

    Returns
    -------
    list of pathlib.Path
        The files, in the order of ``refs``.

    Raises
    ------
    ConflictError
        There is another file by such a name; a file of the same content is left alone.
    """
    if how != "copy":
        raise ValueError(f"how is 'copy', not {how!r}")
    root = os.path.abspath(os.fspath(destination))
    os.makedirs(root, exist_ok=True)
    link = butler.connection.link()
    staged = []
    for ref in refs:
        with OpenedFile.open(link, OpenDataset(repository=butler.repository, id=ref.id)) as source:
            staged.append(Path(_stage_one(source, root)))
    return staged


def export(
    butler: Butler, refs: Iterable[DatasetRef], destination: str | os.PathLike[str]
) -> tuple[list[Path], list[DatasetRef]]:
    """Copy those files of datasets that are complete in the cache into a directory; nothing is fetched.

    Parameters
    ----------
    butler, refs, destination
        As of `stage`.

    Returns
    -------
    list of pathlib.Path, list of DatasetRef
        The files, in the order of ``refs``, and the datasets that were left out.

    Raises
    ------
    ConflictError
        There is another file by such a name; a file of the same content is left alone.
    """
    root = os.path.abspath(os.fspath(destination))
    os.makedirs(root, exist_ok=True)
    link = butler.connection.link()
    exported, left_out = [], []
    for ref in refs:
        try:
            source = OpenedFile.open(link, OpenDataset(repository=butler.repository, id=ref.id, cached_only=True))
        except NotCachedError:
            left_out.append(ref)
            continue
        with source:
            exported.append(Path(_stage_one(source, root)))
    return exported, left_out


def _stage_one(source: OpenedFile, root: str) -> str:
    parts = source.opened.name.split("/")
    if any(part in ("", ".", "..") or "\0" in part for part in parts):
        raise ProtocolError(f"{source.opened.name!r} is no name of a file below a directory")
    path = os.path.join(root, *parts)
    directory = os.path.dirname(path)
    os.makedirs(directory, exist_ok=True)
    # A symbolic link on the way could lead anywhere.
    if os.path.realpath(directory) != os.path.join(os.path.realpath(root), *parts[:-1]):
        raise ConflictError(f"{directory} leads out of {root}", hint="remove the symbolic link on the way")
    if os.path.lexists(path):
        if not _has_content(path, source):
            raise ConflictError(f"{path} exists with other content", hint="remove it, or stage to another directory")
        return path
    with replaced_atomically(path) as fd:
        copy_content(source.fd, fd)
    return path


def _has_content(path: str, source: OpenedFile) -> bool:
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError:
        return False
    try:
        size = source.file.size_bytes
        if os.fstat(fd).st_size != size:
            return False
        return all(
            os.pread(fd, _COMPARE_BYTES, offset) == os.pread(source.fd, _COMPARE_BYTES, offset)
            for offset in range(0, size, _COMPARE_BYTES)
        )
    except OSError as exc:
        if exc.errno == errno.EISDIR:
            return False
        raise
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
    offset = 0
    try:
        while count := os.copy_file_range(source_fd, target_fd, _COPY_BYTES, offset):
            offset += count
    except OSError as exc:
        # Between file systems, or on those that cannot.
        if exc.errno not in (errno.EXDEV, errno.ENOSYS, errno.EOPNOTSUPP, errno.EINVAL, errno.EPERM):
            raise
    # Also what copy_file_range says is nothing: some file systems answer 0 for what they cannot copy.
    while chunk := os.pread(source_fd, _COPY_BYTES, offset):
        view = memoryview(chunk)
        while view:
            count = os.pwrite(target_fd, view, offset)
            view, offset = view[count:], offset + count
