"""xxh3-128 of files: what ``xxh128sum`` prints."""

from __future__ import annotations

import os

import xxhash

BLOCK_BYTES = 1024 * 1024


def hash_file(fd: int, size_bytes: int) -> str:
    """Hash the first ``size_bytes`` of a file without moving its offset; for a worker thread.

    Returns
    -------
    str
        32 lower-case hex digits. If the file is shorter, that of what is there.
    """
    if size_bytes <= BLOCK_BYTES:
        return xxhash.xxh3_128_hexdigest(os.pread(fd, size_bytes, 0))
    state = xxhash.xxh3_128()
    buffer = memoryview(bytearray(BLOCK_BYTES))
    offset = 0
    while offset < size_bytes:
        got = os.preadv(fd, [buffer[: min(BLOCK_BYTES, size_bytes - offset)]], offset)
        if not got:
            break
        state.update(buffer[:got])
        offset += got
    return state.hexdigest()
