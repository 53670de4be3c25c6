"""A backend of ours and plain requests at the same objects, in one process, by turns."""

from __future__ import annotations

import os
import time
from collections.abc import Awaitable, Callable, Mapping
from urllib.parse import quote

import requests
import trio

from benchmarks.channel import serve
from pantry.backends.admission import Admission
from pantry.backends.contract import ByteRange, ObjectBackend
from pantry.backends.http import HttpBackendFactory
from pantry.backends.vospace import VOSpaceBackendFactory

_PIECE_BYTES = 1 << 20
_FACTORIES = {"http": HttpBackendFactory, "vospace": VOSpaceBackendFactory}

_backend: ObjectBackend
_session: requests.Session
_url: str


def connect(
    kind: str, root: str, options: Mapping[str, object], url: str, headers: Mapping[str, str], authority_file: str
) -> None:
    """Make the backend of ``root``, and the session for what lies below ``url``."""
    global _backend, _session, _url
    _backend = _FACTORIES[kind](root, options, Admission(user_limit=16, node_limit=16))
    _session = requests.Session()
    _session.trust_env = False
    _session.headers.update(headers)
    _session.verify = authority_file or True
    _url = url


def ours(keys: list[str], path: str) -> dict[str, float]:
    """Read whole objects, one after the other, into one file: each is described, and read in this version."""

    async def read(fd: int) -> int:
        total = 0
        for key in keys:
            status = await _backend.stat(key)
            span = ByteRange(0, status.size_bytes)
            await _backend.read_into(key, span, fd, if_version=status.version)
            total += status.size_bytes
        return total

    return _timed_inside(read, path)


def bare(keys: list[str], path: str) -> dict[str, float]:
    """Do the same by GET."""

    def read(fd: int) -> int:
        total = 0
        for key in keys:
            with _session.get(_url + quote(key), stream=True, timeout=60) as answer:
                answer.raise_for_status()
                offset = 0
                for piece in answer.iter_content(_PIECE_BYTES):
                    offset += os.pwrite(fd, piece, offset)
                total += offset
        return total

    return _timed(read, path)


def our_first_byte(key: str, path: str) -> float:
    """Read one byte."""

    async def read(fd: int) -> int:
        await _backend.read_into(key, ByteRange(0, 1), fd)
        return 1

    return _timed_inside(read, path)["s"]


def bare_first_byte(key: str, path: str) -> float:
    """Do the same by GET of this range."""

    def read(fd: int) -> int:
        answer = _session.get(_url + quote(key), headers={"Range": "bytes=0-0"}, timeout=60)
        answer.raise_for_status()
        return os.pwrite(fd, answer.content, 0)

    return _timed(read, path)["s"]


def _timed(read: Callable[[int], int], path: str) -> dict[str, float]:
    with open(path, "wb") as file:
        begun = time.perf_counter()
        total = read(file.fileno())
        return {"s": time.perf_counter() - begun, "bytes": total}


def _timed_inside(read: Callable[[int], Awaitable[int]], path: str) -> dict[str, float]:
    """Time it without the beginning of the loop, which runs all the time in a daemon."""

    async def timed(fd: int) -> dict[str, float]:
        await trio.to_thread.run_sync(os.getpid)  # a thread is there, as it is in a daemon
        begun = time.perf_counter()
        total = await read(fd)
        return {"s": time.perf_counter() - begun, "bytes": total}

    with open(path, "wb") as file:
        return trio.run(timed, file.fileno())


if __name__ == "__main__":
    serve(
        {
            "connect": connect,
            "ours": ours,
            "bare": bare,
            "our_first_byte": our_first_byte,
            "bare_first_byte": bare_first_byte,
        }
    )
