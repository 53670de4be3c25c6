"""The posix backend: async methods over the blocking calls of this package."""

from __future__ import annotations

import itertools
import os
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping, Sequence
from functools import partial
from urllib.parse import quote, unquote, urlsplit

import trio

from pantry.backends.admission import Admission
from pantry.backends.contract import (
    BackendFactory,
    ByteRange,
    Capabilities,
    ObjectStat,
    ObjectWrite,
    check_key,
    check_prefix,
    check_span,
    check_token,
)
from pantry.backends.mounted import mounted_at
from pantry.backends.posix import _batches, _blocking, _publishing
from pantry.backends.posix._root import Root, require_absolute
from pantry.backends.progress import Progress
from pantry.backends.share import Share
from pantry.errors import ConfigError, PantryError

PAGE_SIZE = 1000
"""Objects listed in one visit to a thread."""

_OPTIONS = frozenset({"create"})


class PosixBackend:
    """Objects are the regular files below one directory.

    Parameters
    ----------
    path : str
        The root directory, absolute. Opened on first use, by its descriptor from then on.
    admission : Admission
        Lets the blocking calls into threads.
    create : bool
        Make the root if it does not exist.
    """

    def __init__(self, path: str, admission: Admission, *, create: bool = False) -> None:
        mounted = mounted_at(require_absolute(path))
        self._root = Root(require_absolute(path), create=create, mounted=mounted)
        self._admission: Admission | Share = admission
        if mounted.is_shared:
            # A local disk does not hang; a server may, and its threads with it.
            self._admission = Share(self.location, admission)

    def __repr__(self) -> str:
        return f"PosixBackend({self._root.path!r})"

    @property
    def capabilities(self) -> Capabilities:
        """What this backend can do."""
        return Capabilities(conditional_write=True, local_files=True)

    @property
    def location(self) -> str:
        """The root as a ``file:`` URI."""
        return "file://" + quote(self._root.path)

    async def stat(self, key: str) -> ObjectStat:
        """Describe one file."""
        return await self._admission.call(partial(_blocking.stat_object, self._root, _checked(key)))

    async def read_into(
        self,
        key: str,
        span: ByteRange,
        fd: int,
        *,
        if_version: str | None = None,
        on_progress: Progress | None = None,
    ) -> None:
        """Copy ``span`` into ``fd`` at the same offsets, in the kernel where it can."""
        _checked(key)
        check_span(span)
        await self._admission.call(
            partial(
                _blocking.read_object,
                self._root,
                key,
                span,
                fd,
                if_version,
                trio.from_thread.check_cancelled,
                on_progress,
            )
        )

    async def list_keys(self, prefix: str) -> AsyncIterator[ObjectStat]:
        """Iterate over the files whose key begins with ``prefix``."""
        found = _blocking.walk(self._root, check_prefix(prefix), trio.from_thread.check_cancelled)
        try:
            while page := await self._admission.call(partial(_page, found)):
                for status in page:
                    yield status
        finally:
            found.close()

    async def write_from(self, key: str, fd: int, size_bytes: int, *, token: str) -> ObjectStat:
        """Store a new file: written aside, synced, then linked to its name."""
        _checked(key, token)
        return await self._admission.call(
            partial(
                _publishing.write_object,
                self._root,
                key,
                fd,
                size_bytes,
                token,
                trio.from_thread.check_cancelled,
            )
        )

    async def place(self, key: str, source_path: str, *, how: str, token: str) -> ObjectStat:
        """Make a local file an object; see `pantry.backends.contract.LocalPlacement`."""
        _checked(key, token)
        return await self._admission.call(
            partial(
                _publishing.place_object,
                self._root,
                key,
                source_path,
                how,
                token,
                trio.from_thread.check_cancelled,
            )
        )

    def write_batch(self, writes: Sequence[ObjectWrite]) -> list[PantryError | None]:
        """Store several small files; see `pantry.backends.contract.BatchWriting`."""
        for one in writes:
            _checked(one.key, one.token)
        return _batches.write_objects(self._root, writes)

    def settle_batch(self, written: Sequence[tuple[str, str]]) -> list[PantryError | None]:
        """Remove the proofs of several writes; see `pantry.backends.contract.BatchWriting`."""
        for key, token in written:
            _checked(key, token)
        return _batches.settle_objects(self._root, written)

    async def undo_write(self, key: str, *, token: str) -> bool:
        """Remove what a write with ``token`` left."""
        _checked(key, token)
        return await self._admission.call(partial(_publishing.undo_object, self._root, key, token))

    async def settle_write(self, key: str, *, token: str) -> None:
        """Remove the proof that `undo_write` needs, and the source of a move."""
        _checked(key, token)
        await self._admission.call(partial(_publishing.settle_object, self._root, key, token))

    async def delete(self, key: str) -> None:
        """Unlink one file and the directories that this leaves empty."""
        await self._admission.call(partial(_blocking.delete_object, self._root, _checked(key)))

    def open_each(self, keys: Iterable[str]) -> Iterator[tuple[int, os.stat_result]]:
        """Open one file after the other; see `pantry.backends.contract.LocalPlacement`."""
        return _blocking.open_each(self._root, keys)

    async def aclose(self) -> None:
        """Close the root."""
        self._root.close()
        await trio.lowlevel.checkpoint()


def make_posix_backend(root: str, options: Mapping[str, object], admission: Admission) -> PosixBackend:
    """Make a `PosixBackend` of ``/path`` or ``file:///path``; the one option is ``create``.

    Raises
    ------
    ConfigError
        For a bad root or option.
    """
    unknown = options.keys() - _OPTIONS
    if unknown:
        raise ConfigError(f"posix storage: unknown options {sorted(unknown)}; known are {sorted(_OPTIONS)}")
    create = options.get("create", False)
    if not isinstance(create, bool):
        raise ConfigError(f"posix storage: option 'create' must be true or false, not {create!r}")
    return PosixBackend(_local_path(root), admission, create=create)


PosixBackendFactory: BackendFactory = make_posix_backend
"""What the entry point names."""


def _local_path(root: str) -> str:
    if not root.startswith("file:"):
        return root
    parts = urlsplit(root)
    if parts.netloc not in ("", "localhost") or parts.query or parts.fragment:
        raise ConfigError(f"storage root {root!r} is not a local file URI; write file:///path")
    return unquote(parts.path)


def _checked(key: str, token: str | None = None) -> str:
    check_key(key)
    if token is not None:
        check_token(token)
    return key


def _page(found: Iterator[ObjectStat]) -> list[ObjectStat]:
    return list(itertools.islice(found, PAGE_SIZE))
