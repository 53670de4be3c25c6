"""Operations on plain objects: files of a storage that no registry knows, which may change."""

from __future__ import annotations

import msgspec

from pantry.wire.operations.base import Operation, StreamOperation


class PrefixInfo(msgspec.Struct, frozen=True, kw_only=True):
    """A storage root whose objects are read by their keys.

    Attributes
    ----------
    name : str
        By which it is asked for.
    location : str
        Its URI, without secrets.
    ttl_s, stale_if_error_s : float
        How long an answer of the origin is believed, and for how long after that if it cannot be asked, in seconds.
    """

    name: str
    location: str
    ttl_s: float
    stale_if_error_s: float


class PrefixList(msgspec.Struct, frozen=True):
    """Prefixes that the asking user may read."""

    prefixes: tuple[PrefixInfo, ...]


class ListPrefixes(Operation[PrefixList], frozen=True, kw_only=True, tag="object.prefixes"):
    """List the prefixes that the user may read."""

    result_type = PrefixList


class ObjectInfo(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What is known of a plain object.

    Attributes
    ----------
    key : str
        Below the prefix's root.
    size_bytes : int
        Its length.
    version : str
        Changes with its content: an ETag, or time of change and size.
    modified_ns : int
        Time of its last change, nanoseconds since 1970-01-01 UTC; 0 if it is not known.
    checked_ns : int
        When the origin last said so; the same.
    stale : bool
        The origin could not be asked, and the answer is older than the prefix's ``ttl_s``.
    """

    key: str
    size_bytes: int
    version: str
    modified_ns: int = 0
    checked_ns: int = 0
    stale: bool = False


class ObjectBatch(msgspec.Struct, frozen=True):
    """Some of the objects."""

    objects: list[ObjectInfo]


class ListObjects(StreamOperation[ObjectBatch], frozen=True, kw_only=True, omit_defaults=True, tag="object.list"):
    """List the objects whose keys begin with ``begins``; the origin is asked each time."""

    result_type = ObjectBatch
    prefix: str
    begins: str = ""


class StatObject(Operation[ObjectInfo], frozen=True, kw_only=True, tag="object.stat"):
    """Describe one object, as of at most ``ttl_s`` ago."""

    result_type = ObjectInfo
    prefix: str
    key: str


MAX_LOCATED = 500
"""Most URLs of one `LocateObjects`."""


class LocatedObject(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What is known of a file by its URL.

    Attributes
    ----------
    url : str
        In the form in which it is registered; empty if there is no such file.
    size_bytes : int
        Its length.
    problem : str
        Why it cannot be read; empty if it can.
    """

    url: str = ""
    size_bytes: int = 0
    problem: str = ""


class LocatedObjects(msgspec.Struct, frozen=True):
    """One for each URL, in their order."""

    objects: tuple[LocatedObject, ...]


class LocateObjects(Operation[LocatedObjects], frozen=True, kw_only=True, tag="object.locate"):
    """Describe up to `MAX_LOCATED` files by their URLs, as the servers have them now.

    They lie below roots of prefixes that the asking user may read; nothing is asked of any other server. A server that
    cannot be asked at present is an error; what it says of a single file is told with that file.
    """

    result_type = LocatedObjects
    urls: tuple[str, ...]


class OpenedObject(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """An opened object; the read-only descriptor of its cached file comes with it.

    Attributes
    ----------
    info : ObjectInfo
        Which version it is. The descriptor stays at it, whatever happens at the origin.
    complete, handle, was_cached, origin
        As of `Opened`.
    """

    info: ObjectInfo
    complete: bool
    handle: int = 0
    was_cached: bool = False
    origin: str = ""

    @property
    def name(self) -> str:
        """Its key."""
        return self.info.key

    @property
    def size_bytes(self) -> int:
        """Its length."""
        return self.info.size_bytes


class OpenObject(Operation[OpenedObject], frozen=True, kw_only=True, omit_defaults=True, tag="object.open"):
    """Open one object, in a version of at most ``ttl_s`` ago.

    Attributes
    ----------
    prefix, key : str
        Which.
    version : str
        Only this one; else `ObjectChangedError`. Empty for the present one.
    partial, uncached
        As of `OpenDataset`.
    """

    result_type = OpenedObject
    prefix: str
    key: str
    version: str = ""
    partial: bool = False
    uncached: bool = False
