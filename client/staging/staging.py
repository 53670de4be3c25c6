"""From references to files in a directory (DMS-MWBT-REQ-0052, 0066)."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import msgspec

from pantry.client.butler.access import RepositoryAccess
from pantry.client.butler.opened import OpenedFile
from pantry.client.staging.components import Components
from pantry.client.staging.describing import DescribedFile, describe_files
from pantry.client.staging.placing import Placer, Placing, StageTransfer, has_hash
from pantry.errors import NotCachedError
from pantry.model.datasets import DatasetRef
from pantry.wire.operations import OpenDataset

_THREADS = 8
"""Files that are under way at once: most wait for a network or a disk."""
_COMPARE_BYTES = 1 << 20

Progress = Callable[[int, int], None]


class Staged(msgspec.Struct, frozen=True, kw_only=True):
    """What `Butler.stage` did.

    Attributes
    ----------
    paths : list of pathlib.Path
        The files, in the order of the datasets; those of the components of composites too.
    size_bytes : int
        Of all of them.
    hardlinks, reflinks, copies, present : int
        How many were made in which way, and how many were there already.
    """

    paths: list[Path]
    size_bytes: int = 0
    hardlinks: int = 0
    reflinks: int = 0
    copies: int = 0
    present: int = 0


def stage(
    butler: RepositoryAccess,
    datasets: Iterable[DatasetRef],
    directory: str | os.PathLike[str],
    *,
    transfer: StageTransfer = "auto",
    overwrite: bool = False,
    progress: Progress | None = None,
) -> Staged:
    """Put the files of datasets into a directory; see `Butler.stage`."""
    placer = Placer(directory, transfer=transfer, overwrite=overwrite)
    paths: list[Path] = []
    count: dict[Placing, int] = {"hardlink": 0, "reflink": 0, "copy": 0, "present": 0}
    done = total = 0
    components = Components(butler)
    with StagingThreads(butler, placer) as threads:
        for asked in describe_files(butler, datasets):
            todo = [asked]
            while todo:
                batch, placed = todo.pop(0), []
                total += sum(one.file.size_bytes for one in batch)
                for one, (path, how) in zip(batch, threads.place(batch), strict=True):
                    placed.append((one, path))
                    count[how] += 1
                    done += one.file.size_bytes
                    if progress is not None:
                        progress(done, total)
                paths += [Path(path) for _, path in placed]
                todo += components.of(placed)
    return Staged(
        paths=paths,
        size_bytes=done,
        hardlinks=count["hardlink"],
        reflinks=count["reflink"],
        copies=count["copy"],
        present=count["present"],
    )


class StagingThreads:
    """Places files in several threads; a context manager, after which none of them is left.

    Parameters
    ----------
    butler : RepositoryAccess
        That reads the datasets.
    placer : Placer
        That puts their files in place.
    """

    def __init__(self, butler: RepositoryAccess, placer: Placer) -> None:
        self._butler = butler
        self._placer = placer
        self._link = butler.connection.link()
        self._threads = ThreadPoolExecutor(_THREADS, thread_name_prefix="pantry-stage")
        # Of a chain, one repository's root is not the others'.
        self._root = _local_root(butler.info.root) if not butler.info.chain else ""

    def __enter__(self) -> StagingThreads:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is not None:
            self._placer.stopped.set()
            if not issubclass(kind, Exception):
                # Who is impatient waits for no daemon.
                self._butler.connection.close()
        self._threads.shutdown(cancel_futures=True)

    def place(self, batch: list[DescribedFile]) -> Iterable[tuple[str, Placing]]:
        """Give path and what was done for each, in order, as they are finished."""
        return self._threads.map(self._place, batch)

    def _place(self, one: DescribedFile) -> tuple[str, Placing]:
        placer = self._placer
        path = placer.path(one.name)
        if not one.file.hash:
            return path, self._unhashed(one, path)
        if placer.is_there(path, one.file):
            return path, "present"
        fd = self._own_file(one)
        if fd is not None:
            try:
                return path, placer.place(fd, path, one.file, own=True)
            finally:
                os.close(fd)
        with self._open(one) as source:
            return path, placer.place(source.fd, path, one.file, own=False)

    def _unhashed(self, one: DescribedFile, path: str) -> Placing:
        """Place a file of an attached repository, whose hash nobody has computed."""
        with self._open(one) as source:
            if os.path.lexists(path):
                if has_content(path, source):
                    return "present"
                self._placer.refuse(path)
            return self._placer.place(source.fd, path, source.file, own=False)

    def _open(self, one: DescribedFile) -> OpenedFile:
        return OpenedFile.open(self._link, self._butler._to_open(one.repository, id=one.ref.id))

    def _own_file(self, one: DescribedFile) -> int | None:
        """Open the repository's own file, where it lies in a directory that this user may read."""
        if one.repository != self._butler.repository:
            return None
        if "://" in one.file.path:
            # Of a view, where another repository holds it.
            path = one.file.path.removeprefix("file://")
            if not os.path.isabs(path):
                return None
        elif self._root:
            path = os.path.join(self._root, one.file.path)
        else:
            return None
        try:
            fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        except OSError as exc:
            if exc.errno in (errno.EMFILE, errno.ENFILE):
                raise
            return None
        status = os.fstat(fd)
        if stat.S_ISREG(status.st_mode) and status.st_size == one.file.size_bytes:
            return fd
        os.close(fd)
        return None


def _local_root(root: str) -> str:
    """Return the directory that a repository's files are in; empty if it is elsewhere."""
    path = root.removeprefix("file://")
    return path if os.path.isabs(path) and os.path.isdir(path) else ""


def export(
    butler: RepositoryAccess, refs: Iterable[DatasetRef], destination: str | os.PathLike[str]
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
    placer = Placer(destination, transfer="auto")
    link = butler.connection.link()
    exported, left_out = [], []
    for ref in refs:
        try:
            source = OpenedFile.open(link, OpenDataset(repository=butler._holder(ref), id=ref.id, cached_only=True))
        except NotCachedError:
            left_out.append(ref)
            continue
        with source:
            path = placer.path(source.opened.name)
            if os.path.lexists(path):
                if not has_content(path, source):
                    placer.refuse(path)
            else:
                placer.place(source.fd, path, source.file, own=False)
            exported.append(Path(path))
    return exported, left_out


def has_content(path: str, source: OpenedFile) -> bool:
    """Whether a file has the content of an open one."""
    if source.file.hash:
        return has_hash(path, source.file)
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError:
        return False
    try:
        status = os.fstat(fd)
        size = source.file.size_bytes
        if not stat.S_ISREG(status.st_mode) or status.st_size != size:
            return False
        return all(
            os.pread(fd, _COMPARE_BYTES, offset) == os.pread(source.fd, _COMPARE_BYTES, offset)
            for offset in range(0, size, _COMPARE_BYTES)
        )
    finally:
        os.close(fd)
