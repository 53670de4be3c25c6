"""Operations that keep datasets in the cache: pins, and fetching ahead of their use."""

from __future__ import annotations

import msgspec

from pantry.model.data_id import DataIdValue
from pantry.wire.operations.base import Operation, StreamOperation
from pantry.wire.operations.registry import CountDone


class Pinned(msgspec.Struct, frozen=True, kw_only=True):
    """A new pin, and what it holds now.

    Attributes
    ----------
    id : str
        For `UnpinDatasets`.
    objects, bytes : int
        Distinct contents that it keeps, and their sizes.
    cached_objects, cached_bytes : int
        Those of them that are complete in the cache.
    """

    id: str
    objects: int
    bytes: int
    cached_objects: int
    cached_bytes: int


class PinDatasets(Operation[Pinned], frozen=True, kw_only=True, omit_defaults=True, tag="cache.pin"):
    """Keep what a query finds, now and later, from being evicted.

    Nothing is fetched. The query is run again from time to time with the owner's rights, so that a growing
    collection is kept.

    Attributes
    ----------
    repository, dataset_types, collections, where, data_id
        As of `QueryDatasets`.
    note : str
        For people, at most 1,000 characters.
    expires_ns : int
        When it lapses, nanoseconds since 1970-01-01 UTC; 0 for never.
    """

    result_type = Pinned
    repository: str
    dataset_types: tuple[str, ...]
    collections: tuple[str, ...]
    where: str = ""
    data_id: dict[str, DataIdValue] = {}
    note: str = ""
    expires_ns: int = 0


class UnpinDatasets(Operation[CountDone], frozen=True, kw_only=True, omit_defaults=True, tag="cache.unpin"):
    """Remove pins: one's own, administrators any.

    Attributes
    ----------
    ids : tuple of str
        Which; all or none of them.
    everything : bool
        All of one's own.
    """

    result_type = CountDone
    ids: tuple[str, ...] = ()
    everything: bool = False


class Pin(msgspec.Struct, frozen=True, kw_only=True):
    """A pin.

    Attributes
    ----------
    id, owner : str
        Its id and its owner's user name.
    repository, dataset_types, collections, where, data_id, note, expires_ns
        As it was asked for.
    created_ns : int
        When, nanoseconds since 1970-01-01 UTC.
    objects, bytes, cached_objects, cached_bytes : int
        As of `Pinned`.
    problem : str
        Why it does not hold all that it should; empty if it does.
    """

    id: str
    owner: str
    repository: str
    dataset_types: tuple[str, ...]
    collections: tuple[str, ...]
    where: str
    data_id: dict[str, DataIdValue]
    note: str
    created_ns: int
    expires_ns: int
    objects: int
    bytes: int
    cached_objects: int
    cached_bytes: int
    problem: str = ""


class PinList(msgspec.Struct, frozen=True):
    """Pins, oldest first."""

    pins: tuple[Pin, ...]


class ListPins(Operation[PinList], frozen=True, kw_only=True, tag="cache.pins"):
    """List one's own pins; for administrators those of all users."""

    result_type = PinList


class PrefetchFailure(msgspec.Struct, frozen=True, array_like=True):
    """A file that could not be fetched: its name, and the error's code and message."""

    name: str
    code: str
    message: str


class PrefetchProgress(msgspec.Struct, frozen=True, kw_only=True):
    """How far a prefetch is; all numbers are since its beginning and of distinct contents.

    Attributes
    ----------
    files_done, files_total, bytes_done, bytes_total : int
        Files that are complete in the cache or have failed, and all of them.
    fetched_files, fetched_bytes : int
        Those that were not in the cache before.
    left_out_files, left_out_bytes : int
        Those for which there is no room (`Prefetch.partial`).
    failed_files : int
        How many failed.
    failures : tuple of PrefetchFailure
        Those that failed since the batch before; of all batches together at most 100.
    """

    files_done: int
    files_total: int
    bytes_done: int
    bytes_total: int
    fetched_files: int
    fetched_bytes: int
    left_out_files: int
    left_out_bytes: int
    failed_files: int
    failures: tuple[PrefetchFailure, ...] = ()


class Prefetch(StreamOperation[PrefetchProgress], frozen=True, kw_only=True, omit_defaults=True, tag="cache.prefetch"):
    """Fetch the files of what a query finds into the cache.

    Attributes
    ----------
    repository, dataset_types, collections, where, data_id
        As of `QueryDatasets`.
    partial : bool
        Fetch as many as there is room for, in place of refusing when there is not enough for all.
    """

    result_type = PrefetchProgress
    repository: str
    dataset_types: tuple[str, ...]
    collections: tuple[str, ...]
    where: str = ""
    data_id: dict[str, DataIdValue] = {}
    partial: bool = False
