"""The durable map of a file in the making: which chunks came, and the hash of each.

A file beside the sparse one. Its first 4 KiB describe the object; then come 8 bytes for each chunk,
the xxh3-64 of its content, or zeros while it is not there. A chunk is noted after its bytes were
written, so that a killed daemon leaves only notes that are true; after a crash of the machine, when
that order does not hold, the hash tells. So every noted chunk is hashed again before it is handed out.
"""

from __future__ import annotations

import contextlib
import os
import struct

import msgspec
import xxhash

from pantry.backends.contract import SinkError

_HEAD_BYTES = 4096
_HEAD = struct.Struct("!8sIQ")
_MAGIC = b"pantry1\0"
_HASH = struct.Struct("!Q")


class Description(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What a record is of.

    Attributes
    ----------
    realm, hash : str
        The object.
    size_bytes, chunk_bytes : int
        Length of the whole, and of each chunk but the last.
    version : str
        Of the object at the origin that all chunks are of.
    name : str
        A path by which it is read, for people.
    repository, key : str
        Where it can be fetched from; empty if not known.
    """

    realm: str
    hash: str
    size_bytes: int
    chunk_bytes: int
    version: str = ""
    name: str = ""
    repository: str = ""
    key: str = ""


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(Description)


def hash_chunk(data: bytes) -> int:
    """Hash a chunk; never 0, which stands for one that is not there."""
    return xxhash.xxh3_64_intdigest(data) or 1


class ChunkRecord:
    """The record file of one object; worker threads note chunks, each its own.

    Parameters
    ----------
    path : str
        Of the file.
    description : Description
        What it is of.
    """

    def __init__(self, path: str, description: Description) -> None:
        self.path = path
        self.description = description
        self._fd = -1

    @classmethod
    def create(cls, path: str, description: Description) -> ChunkRecord:
        """Make the file, with no chunk noted."""
        record = cls(path, description)
        record._fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        record.describe(description)
        return record

    @classmethod
    def load(cls, path: str) -> tuple[ChunkRecord, list[int]] | None:
        """Read a file that an earlier run left, and the hashes in it; None if it is damaged."""
        with open(path, "rb") as file:
            block, rest = file.read(_HEAD_BYTES), file.read()
        try:
            magic, length, digest = _HEAD.unpack_from(block)
            body = block[_HEAD.size : _HEAD.size + length]
            if magic != _MAGIC or xxhash.xxh3_64_intdigest(body) != digest:
                return None
            description = _decoder.decode(body)
        except (struct.error, msgspec.MsgspecError):
            return None
        if description.size_bytes < 0 or description.chunk_bytes <= 0:
            return None
        count = -(-description.size_bytes // description.chunk_bytes)
        rest = rest[: count * _HASH.size].ljust(count * _HASH.size, b"\0")
        return cls(path, description), [digest for (digest,) in _HASH.iter_unpack(rest)]

    def open(self) -> None:
        """Open the file if it is not open."""
        if self._fd < 0:
            self._fd = os.open(self.path, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)

    def describe(self, description: Description) -> None:
        """Write the description anew, in one block."""
        body = _encoder.encode(description)
        if len(body) > _HEAD_BYTES - _HEAD.size:
            body = _encoder.encode(msgspec.structs.replace(description, name="", repository="", key=""))
        head = _HEAD.pack(_MAGIC, len(body), xxhash.xxh3_64_intdigest(body)) + body
        os.pwrite(self._fd, head.ljust(_HEAD_BYTES, b"\0"), 0)
        self.description = description

    def note(self, number: int, digest: int) -> None:
        """Note that a chunk is there, or with 0 that it is not; for any thread.

        Raises
        ------
        SinkError
            The disk does not take it.
        """
        try:
            os.pwrite(self._fd, _HASH.pack(digest), _HEAD_BYTES + number * _HASH.size)
        except OSError as exc:
            raise SinkError(exc.errno, exc.strerror) from exc

    def noted(self, number: int) -> int:
        """Return the hash that is noted for a chunk, 0 for none."""
        found = os.pread(self._fd, _HASH.size, _HEAD_BYTES + number * _HASH.size)
        return _HASH.unpack(found)[0] if len(found) == _HASH.size else 0

    def close(self) -> None:
        """Close the file; `open` opens it again."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def remove(self) -> None:
        """Close and remove the file."""
        self.close()
        with contextlib.suppress(OSError):
            os.unlink(self.path)
