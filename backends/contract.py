"""The contract of an object backend (DESIGN section 7).

Keys are relative POSIX-style paths below the backend's root ("run/raw/file.fits"): never empty,
never absolute, no empty, ``.`` or ``..`` component, and none that begins with ``.pantry-``.
`check_key` enforces it in every backend.
"""

from __future__ import annotations

import os
import re
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple, Protocol, runtime_checkable

import msgspec

from pantry.backends.admission import Admission
from pantry.backends.progress import Progress
from pantry.errors import InvalidRequestError, ObjectChangedError, PantryError

MAX_KEY_BYTES = 1024
"""Longest key, in bytes of UTF-8; the limit of S3."""

RESERVED_PREFIX = ".pantry-"
"""Names that begin so belong to writes under way: never objects, never listed."""

_TOKEN = re.compile(r"[A-Za-z0-9-]{1,64}")


class ByteRange(NamedTuple):
    """A half-open range of bytes, ``start <= offset < stop``."""

    start: int
    stop: int

    @property
    def size_bytes(self) -> int:
        """Length of the range in bytes."""
        return self.stop - self.start


class ObjectStat(msgspec.Struct, frozen=True, kw_only=True):
    """What a backend knows of one object without reading it.

    Attributes
    ----------
    key : str
        Relative to the backend's root.
    size_bytes : int
        Length of the object.
    version : str
        Changes whenever the content may have changed: an ETag, or modification time and size.
    modified_ns : int
        Time of the last change, nanoseconds since 1970-01-01 UTC.
    """

    key: str
    size_bytes: int
    version: str
    modified_ns: int


class Capabilities(msgspec.Struct, frozen=True, kw_only=True):
    """What a backend can do; tests and callers ask this, never the backend's name.

    Attributes
    ----------
    conditional_write : bool
        A write that must not replace is one atomic step of the service itself.
    local_files : bool
        Objects are local files, so `LocalPlacement` is offered.
    writable : bool
        Objects can be written at all; else `write_from` and `delete` raise `BackendAccessError`, and
        `undo_write` and `settle_write` do nothing.
    lists_dot_names : bool
        `list_keys` gives keys of which a component begins with a dot.
    """

    conditional_write: bool = True
    local_files: bool = False
    writable: bool = True
    lists_dot_names: bool = True


class ObjectBackend(Protocol):
    """A store of immutable objects; safe for concurrent use by many trio tasks.

    All methods raise `pantry.errors.BackendError` or a subclass, and nothing of the SDK below.
    """

    @property
    def capabilities(self) -> Capabilities:
        """What this backend can do."""
        ...

    @property
    def location(self) -> str:
        """A URI for messages and provenance, without any secret."""
        ...

    async def stat(self, key: str) -> ObjectStat:
        """Describe one object; `ObjectNotFoundError` if there is none."""
        ...

    async def read_into(
        self,
        key: str,
        span: ByteRange,
        fd: int,
        *,
        if_version: str | None = None,
        on_progress: Progress | None = None,
    ) -> None:
        """Write the bytes of ``span`` into ``fd`` at the same offsets.

        Exactly ``span`` is transferred or an error raised: a short answer is a
        `TransientBackendError`. With ``if_version``, `ObjectChangedError` if the object is another
        version. The caller keeps ``fd`` open until this returns or raises, on cancellation too.
        If ``fd`` itself cannot be written (a full disk), that is the caller's: a `SinkError`.

        ``on_progress`` is called from any thread, in order, at least once for every `PROGRESS_BYTES`
        or so, with the offset up to which the bytes from ``span.start`` on are in ``fd``, and are of
        ``if_version`` as far as can be known by then. The last call, before this returns, has
        ``span.stop``; an empty span has none. It must not block. If it raises, the read fails with
        that error.
        """
        ...

    def list_keys(self, prefix: str) -> AsyncIterator[ObjectStat]:
        """Iterate over all objects whose key begins with ``prefix``, in any order, page by page."""
        ...

    async def write_from(self, key: str, fd: int, size_bytes: int, *, token: str) -> ObjectStat:
        """Store the first ``size_bytes`` of ``fd`` as a new object, all or nothing.

        Never replaces: `ObjectExistsError` if the key is taken. ``token`` (letters, digits and
        dashes) marks the object as written by this call, so that `undo_write` can tell it from
        anybody else's. When this returns, the object is durable in the service. The offset of
        ``fd`` is not moved.
        """
        ...

    async def undo_write(self, key: str, *, token: str) -> bool:
        """Remove whatever a `write_from` with this ``key`` and ``token`` left, complete or not.

        Idempotent; an object written by anybody else is left alone. True if something was removed.
        """
        ...

    async def settle_write(self, key: str, *, token: str) -> None:
        """Forget ``token`` once the write is committed: free what `undo_write` would have needed."""
        ...

    async def delete(self, key: str) -> None:
        """Delete one object; no error if there is none."""
        ...

    async def aclose(self) -> None:
        """Release connections and threads; the backend is not used afterwards."""
        ...


@runtime_checkable
class LocalPlacement(Protocol):
    """Backends whose objects are local files can take a file over without copying it."""

    async def place(self, key: str, source_path: str, *, how: str, token: str) -> ObjectStat:
        """Make the local file ``source_path`` the object ``key``; ``how`` is ``hardlink``, ``symlink`` or ``move``.

        Never replaces. ``move`` leaves the source in place until `settle_write`.
        """
        ...

    def open_each(self, keys: Iterable[str]) -> Iterator[tuple[int, os.stat_result]]:
        """Open one object after the other read-only, below the root only; the caller closes each.

        Blocks, for a worker thread.
        """
        ...


class ObjectWrite(NamedTuple):
    """One new object of a batch; what is said of the arguments of `ObjectBackend.write_from` holds for these.

    Attributes
    ----------
    key, size_bytes, token
        As there.
    source : int or bytes
        A descriptor, or the content itself.
    """

    key: str
    source: int | bytes
    size_bytes: int
    token: str


@runtime_checkable
class BatchWriting(Protocol):
    """Backends to whose storage the daemon writes directly: many small objects in one visit to a thread.

    The methods block, for a worker thread. What happens to one object of a batch leaves the others alone.
    """

    def write_batch(self, writes: Sequence[ObjectWrite]) -> list[PantryError | None]:
        """Do what `ObjectBackend.write_from` does for each, with its guarantees; give the error of each that failed."""
        ...

    def settle_batch(self, written: Sequence[tuple[str, str]]) -> list[PantryError | None]:
        """Do what `ObjectBackend.settle_write` does for each key and token; give the error of each that failed."""
        ...


class BackendFactory(Protocol):
    """What the entry point of a backend names: makes backends from configuration."""

    def __call__(self, root: str, options: Mapping[str, object], admission: Admission) -> ObjectBackend:
        """Make the backend for ``root`` (a URI of its scheme) with checked ``options``."""
        ...


class SinkError(OSError):
    """Writing to the descriptor that the caller gave failed; the backend is not at fault."""


def check_key(key: str) -> str:
    """Return ``key`` if it is a safe relative key, else raise `InvalidRequestError`."""
    if not key or _encoded_length(key) > MAX_KEY_BYTES or "\0" in key:
        raise InvalidRequestError(f"bad object key {key[:80]!r}: empty, too long or with a NUL byte")
    for part in key.split("/"):
        if part in ("", ".", ".."):
            raise InvalidRequestError(f"bad object key {key[:80]!r}: it must be a relative path without '.' or '..'")
        if part.startswith(RESERVED_PREFIX):
            raise InvalidRequestError(f"bad object key {key[:80]!r}: names with {RESERVED_PREFIX!r} are reserved")
    return key


def is_key(text: str) -> bool:
    """Whether ``text`` is a safe relative key; names that other programs made may be none."""
    try:
        check_key(text)
    except InvalidRequestError:
        return False
    return True


def check_prefix(prefix: str) -> str:
    """Return ``prefix`` if some key may begin with it, else raise `InvalidRequestError`.

    The prefix may be empty or end in a slash or within a component: ``""``, ``"run/"``, ``"run/ra"``.
    """
    *whole, _partial = prefix.split("/")
    if _encoded_length(prefix) > MAX_KEY_BYTES or "\0" in prefix or any(part in ("", ".", "..") for part in whole):
        raise InvalidRequestError(f"bad key prefix {prefix[:80]!r}: no key can begin with it")
    return prefix


def check_span(span: ByteRange) -> ByteRange:
    """Return ``span`` if ``0 <= start <= stop``, else raise `InvalidRequestError`."""
    if not 0 <= span.start <= span.stop:
        raise InvalidRequestError(f"bad byte range {span.start}:{span.stop}")
    return span


def check_token(token: str) -> str:
    """Return ``token`` if it is 1 to 64 letters, digits and dashes, else raise `InvalidRequestError`."""
    if not _TOKEN.fullmatch(token):
        raise InvalidRequestError("a write token must be 1 to 64 letters, digits and dashes")
    return token


def check_version(key: str, now: str, wanted: str | None) -> None:
    """Raise `ObjectChangedError` if a version is ``wanted`` and another one is there."""
    if wanted is not None and now != wanted:
        raise ObjectChangedError(f"{key!r} is now version {now or 'unknown'}, not {wanted}", key=key)


def _encoded_length(text: str) -> int:
    try:
        return len(text.encode("utf-8"))
    except UnicodeEncodeError:
        raise InvalidRequestError(f"bad object key {text[:80]!r}: not valid Unicode") from None
