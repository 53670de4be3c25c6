"""Reads of one dataset in every way there is, measured at the daemon."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO

import msgspec
import xxhash
from astropy.io import fits

from pantry.client import Butler, DatasetRef
from pantry.model.datasets import StoredFile
from pantry.wire.operations import CacheStatus, EvictObjects, GetCacheStatus, GetDataset
from scripts.demo.failures import DemoError
from scripts.demo.site import BUCKET, REPOSITORY, Site

_BLOCK_BYTES = 1 << 22


class Measured(msgspec.Struct, frozen=True):
    """One read.

    Attributes
    ----------
    seconds : float
        How long it took.
    fetched_bytes, requests : int
        What went over the network for it.
    result : object
        What was read.
    """

    seconds: float
    fetched_bytes: int
    requests: int
    result: Any


def cache_status(butler: Butler) -> CacheStatus:
    """Ask the daemon what its cache holds and did."""
    return butler.connection.call(GetCacheStatus())


def empty_cache(butler: Butler) -> None:
    """Evict everything, so that the next read is a cold one."""
    butler.connection.call(EvictObjects(everything=True))


def measure(butler: Butler, read: Callable[[], Any]) -> Measured:
    """Time a read and count what the daemon fetched for it."""
    before = cache_status(butler)
    begin = time.perf_counter()
    result = read()
    seconds = time.perf_counter() - begin
    after = cache_status(butler)
    return Measured(seconds, after.fetched_bytes - before.fetched_bytes, after.fetches - before.fetches, result)


def stored_file(butler: Butler, ref: DatasetRef) -> StoredFile:
    """Return what the registry recorded of a dataset's file."""
    found = butler.connection.call(GetDataset(repository=butler.repository, id=ref.id))
    if found.file is None:
        raise DemoError(f"the registry knows of no file of {ref}", hint="this is a defect in Pantry")
    return found.file


def mounted_path(site: Site, file: StoredFile) -> Path:
    """Return where a dataset's file is in the mount: by the same path as in the bucket."""
    return site.mount_point / REPOSITORY / file.path


def hashes(site: Site, butler: Butler, ref: DatasetRef) -> dict[str, str]:
    """Hash a dataset's file by xxh3-128, as got in every way; the first is straight from the bucket."""
    stored = stored_file(butler, ref)
    client = site.server.client()
    try:
        answer = client.get_object(Bucket=BUCKET, Key=f"{REPOSITORY}/{stored.path}")
        with answer["Body"] as body:
            seen = {"the bucket itself, by boto3": _hash(body)}
    finally:
        client.close()
    if not site.no_mount:
        with mounted_path(site, stored).open("rb") as file:
            seen["the mount, by open and read"] = _hash(file)
    destination = site.directory / "staged"
    (path,) = butler.stage([ref], destination).paths
    with path.open("rb") as file:
        seen["a copy made by pantry stage"] = _hash(file)
    shutil.rmtree(destination)
    with butler.open(ref) as file:
        seen["Python, by butler.open"] = _hash(file)
    return seen


def _hash(file: Any) -> str:
    digest = xxhash.xxh3_128()
    while block := file.read(_BLOCK_BYTES):
        digest.update(block)
    return digest.hexdigest()


def cold_and_warm(site: Site, butler: Butler, ref: DatasetRef) -> dict[str, Measured]:
    """Read a whole file when the cache is empty and when it is not."""

    def by_python() -> int:
        with butler.open(ref) as file:
            return _read_to_end(file)

    empty_cache(butler)
    rows = {"Python, cold": measure(butler, by_python), "Python, warm": measure(butler, by_python)}
    if not site.no_mount:
        path = mounted_path(site, stored_file(butler, ref))

        def by_mount() -> int:
            with path.open("rb", buffering=0) as file:
                return _read_to_end(file)

        rows["the mount, warm"] = measure(butler, by_mount)
    return rows


def _read_to_end(file: BinaryIO | Any) -> int:
    block = bytearray(_BLOCK_BYTES)
    total = 0
    while count := file.readinto(block):
        total += count
    return total


def cut_out_of_segment(butler: Butler, ref: DatasetRef, segment: str, box: tuple[int, int, int, int]) -> Measured:
    """Read a box of one amplifier of a raw file, by astropy on a file of which only what is read gets fetched."""
    x0, y0, x1, y1 = box

    def read() -> Any:
        with butler.open(ref, partial=True) as file, fits.open(file, memmap=False) as hdus:
            return hdus[segment].section[y0:y1, x0:x1]

    empty_cache(butler)
    return measure(butler, read)


def cut_out_of_image(butler: Butler, ref: DatasetRef, box: tuple[int, int, int, int]) -> Measured:
    """Read a box of an assembled image, with its WCS."""
    empty_cache(butler)
    return measure(butler, lambda: butler.get(ref, parameters={"bbox": box}))
