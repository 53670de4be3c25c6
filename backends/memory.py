"""Objects in a dictionary: a backend for tests and examples, held to the same contract."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Mapping

import msgspec
import trio
import xxhash

from pantry.backends.contract import (
    ByteRange,
    Capabilities,
    ObjectStat,
    SinkError,
    check_key,
    check_prefix,
    check_span,
    check_token,
    check_version,
)
from pantry.backends.progress import PROGRESS_BYTES, Progress, reporting
from pantry.errors import (
    InvalidRequestError,
    ObjectExistsError,
    ObjectNotFoundError,
    TransientBackendError,
)

_FIRST_MODIFIED_NS = 1_700_000_000_000_000_000


class StoredObject(msgspec.Struct, frozen=True):
    """One object of a `MemoryBackend`.

    Attributes
    ----------
    content : bytes
        All of it.
    modified_ns : int
        Counts up from a fixed time, so that tests are deterministic.
    token : str or None
        Of the write that made it, until settled.
    """

    content: bytes
    modified_ns: int
    token: str | None = None


class MemoryBackend:
    """Objects in memory; what is done between two checkpoints is atomic.

    Parameters
    ----------
    contents : Mapping[str, bytes], optional
        Objects to begin with.

    Attributes
    ----------
    objects : dict[str, StoredObject]
        The objects; tests may look and meddle.
    """

    def __init__(self, contents: Mapping[str, bytes] | None = None) -> None:
        self.objects: dict[str, StoredObject] = {}
        self._writes = 0
        for key, content in (contents or {}).items():
            self.put(key, content)

    def put(self, key: str, content: bytes, *, token: str | None = None) -> None:
        """Set an object at once, replacing what is there."""
        self._writes += 1
        self.objects[check_key(key)] = StoredObject(content, _FIRST_MODIFIED_NS + self._writes, token)

    @property
    def capabilities(self) -> Capabilities:
        """What this backend can do."""
        return Capabilities(conditional_write=True)

    @property
    def location(self) -> str:
        """A URI for messages."""
        return f"memory:{id(self):x}"

    async def stat(self, key: str) -> ObjectStat:
        """Describe one object."""
        check_key(key)
        await trio.lowlevel.checkpoint()
        return _described(key, self._found(key))

    async def read_into(
        self,
        key: str,
        span: ByteRange,
        fd: int,
        *,
        if_version: str | None = None,
        on_progress: Progress | None = None,
    ) -> None:
        """Write ``span`` into ``fd``."""
        check_key(key)
        check_span(span)
        await trio.lowlevel.checkpoint()
        found = self._found(key)
        check_version(key, _described(key, found).version, if_version)
        data = memoryview(found.content)[span.start : span.stop]
        if len(data) != span.size_bytes:
            raise TransientBackendError(f"{key!r} gave {len(data)} of {span.size_bytes} bytes", key=key)
        offset = span.start
        with reporting(on_progress) as report:
            while data:
                try:
                    written = os.pwrite(fd, data[:PROGRESS_BYTES], offset)
                except OSError as exc:
                    raise SinkError(exc.errno, exc.strerror) from exc
                data = data[written:]
                offset += written
                report(offset)

    async def list_keys(self, prefix: str) -> AsyncIterator[ObjectStat]:
        """Iterate over the objects whose key begins with ``prefix``."""
        check_prefix(prefix)
        await trio.lowlevel.checkpoint()
        for key, found in sorted(self.objects.items()):
            if key.startswith(prefix):
                yield _described(key, found)

    async def write_from(self, key: str, fd: int, size_bytes: int, *, token: str) -> ObjectStat:
        """Store a new object."""
        check_key(key)
        check_token(token)
        await trio.lowlevel.checkpoint()
        if key in self.objects:
            raise ObjectExistsError(f"{key!r} exists already", key=key)
        content = os.pread(fd, size_bytes, 0) if size_bytes else b""
        if len(content) != size_bytes:
            raise InvalidRequestError(f"the data of {key!r} has {len(content)} bytes, not {size_bytes}")
        self.put(key, content, token=token)
        return _described(key, self.objects[key])

    async def undo_write(self, key: str, *, token: str) -> bool:
        """Remove the object if ``token`` made it."""
        check_key(key)
        check_token(token)
        await trio.lowlevel.checkpoint()
        found = self.objects.get(key)
        if found is None or found.token != token:
            return False
        del self.objects[key]
        return True

    async def settle_write(self, key: str, *, token: str) -> None:
        """Forget ``token``."""
        check_key(key)
        check_token(token)
        await trio.lowlevel.checkpoint()
        found = self.objects.get(key)
        if found is not None and found.token == token:
            self.objects[key] = msgspec.structs.replace(found, token=None)

    async def delete(self, key: str) -> None:
        """Delete one object."""
        check_key(key)
        await trio.lowlevel.checkpoint()
        self.objects.pop(key, None)

    async def aclose(self) -> None:
        """Do nothing: the objects stay for whoever looks."""
        await trio.lowlevel.checkpoint()

    def _found(self, key: str) -> StoredObject:
        try:
            return self.objects[key]
        except KeyError:
            raise ObjectNotFoundError(f"no object {key!r}", key=key) from None


def _described(key: str, found: StoredObject) -> ObjectStat:
    return ObjectStat(
        key=key,
        size_bytes=len(found.content),
        version=f"{xxhash.xxh3_128_hexdigest(found.content)}-{found.modified_ns:x}",
        modified_ns=found.modified_ns,
    )
