"""All files of a bundle, compared with their hashes."""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import msgspec

from pantry.client.bundles.index import BundleIndex
from pantry.client.bundles.lookup import COLUMNS, Row
from pantry.client.staging.placing import has_hash

_THREADS = 4


class VerifiedBundle(msgspec.Struct, frozen=True, kw_only=True):
    """What `verify_bundle` found.

    Attributes
    ----------
    inputs, outputs : int
        Datasets that the bundle was made with, and that were put into it.
    size_bytes : int
        Of all of them.
    missing, damaged : list of str
        Paths, below the bundle, of files that are not there, or have another size or hash.
    """

    inputs: int
    outputs: int
    size_bytes: int
    missing: list[str]
    damaged: list[str]


def verify_bundle(
    directory: str | os.PathLike[str], *, progress: Callable[[int, int], None] | None = None
) -> VerifiedBundle:
    """Read all files of a bundle.

    Parameters
    ----------
    directory : str or path
        The bundle's.
    progress : callable, optional
        Called with the bytes that are done, and all.
    """
    index = BundleIndex(os.path.expanduser(os.fspath(directory)))
    try:
        rows = [
            Row._make(row)
            for row in index.rows(f"SELECT {COLUMNS} FROM dataset AS d ORDER BY d.number")  # noqa: S608 - constant
        ]
    finally:
        index.close()
    total = sum(row.size_bytes for row in rows)

    def check(row: Row) -> str:
        path = index.path(row.path)
        if not os.path.lexists(path):
            return "missing"
        return "" if has_hash(path, row.file) else "damaged"

    missing: list[str] = []
    damaged: list[str] = []
    done = 0
    with ThreadPoolExecutor(_THREADS, thread_name_prefix="pantry-verify") as threads:
        for row, problem in zip(rows, threads.map(check, rows), strict=True):
            if problem:
                (missing if problem == "missing" else damaged).append(row.path)
            done += row.size_bytes
            if progress is not None:
                progress(done, total)
    outputs = sum(row.output for row in rows)
    return VerifiedBundle(
        inputs=len(rows) - outputs, outputs=outputs, size_bytes=total, missing=missing, damaged=damaged
    )
