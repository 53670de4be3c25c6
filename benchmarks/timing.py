"""Repetition in turns, and the state of the page cache."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

from benchmarks.rows import Series

READ_BYTES = 1 << 20


def in_turns(rounds: int, sides: Mapping[str, Callable[[], float]]) -> dict[str, Series]:
    """Measure all sides ``rounds`` times, in turns that begin with another side each round."""
    names = list(sides)
    found: dict[str, list[float]] = {name: [] for name in names}
    for number in range(rounds):
        first = number % len(names)
        for name in names[first:] + names[:first]:
            found[name].append(sides[name]())
    return {name: Series(tuple(values)) for name, values in found.items()}


def timed(func: Callable[[], object]) -> float:
    """Return how long a call takes, in seconds."""
    begun = time.perf_counter()
    func()
    return time.perf_counter() - begun


def drop_page_cache() -> None:
    """Make the kernel forget all clean pages, directory entries and inodes; needs root, nothing without."""
    os.sync()
    with contextlib.suppress(OSError):
        Path("/proc/sys/vm/drop_caches").write_text("3\n")


def forget(paths: Iterable[str | Path]) -> None:
    """Make the kernel forget the pages of these files."""
    for path in paths:
        fd = os.open(path, os.O_RDONLY)
        try:
            os.fdatasync(fd)
            os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
        finally:
            os.close(fd)


def read_through(path: str | Path) -> int:
    """Read a file from begin to end by plain system calls, and return its length in bytes."""
    fd = os.open(path, os.O_RDONLY)
    try:
        return read_descriptor(fd)
    finally:
        os.close(fd)


def read_descriptor(fd: int) -> int:
    """Read on to the end of an open file into one buffer, and return how many bytes that were."""
    buffer = bytearray(READ_BYTES)
    total = 0
    while count := os.readv(fd, [buffer]):
        total += count
    return total
