"""The bytes of nodes: fetched from and sent to the endpoints that a service negotiates."""

from __future__ import annotations

import base64
import binascii
import hashlib
import os
import threading
import time
from collections.abc import Mapping
from typing import Any
from urllib.parse import urljoin

from pantry.backends.progress import Progress, reporting
from pantry.backends.pumping import PIECE_BYTES, Pace, pump
from pantry.backends.vospace import _documents as documents
from pantry.backends.vospace._blocking import Checkpoint, UntrustedServerError, Web
from pantry.backends.vospace._faults import answered
from pantry.backends.vospace._service import Service
from pantry.backends.vospace.options import VOSpaceOptions
from pantry.errors import (
    BackendAccessError,
    BackendError,
    ObjectChangedError,
    ObjectNotFoundError,
    TransientBackendError,
)

_KEPT_S = 60.0
_MOST_KEPT = 4096
_MAX_REDIRECTS = 8
_ERROR_BYTES = 1 << 16


class BodyCutError(TransientBackendError):
    """The body ended early; what came before is written, and the rest can be asked for."""

    def __init__(self, key: str, reason: str, *, position: int, stop: int) -> None:
        super().__init__(f"{reason} with {stop - position} bytes of {key!r} still to come", key=key)
        self.position = position


class ShortObjectError(TransientBackendError):
    """The object ends before what was asked for; no other endpoint has more."""


class Data:
    """Fetches and sends bytes; safe for use by many threads.

    Parameters
    ----------
    web : Web
        Sends requests.
    service : Service
        Negotiates.
    options : VOSpaceOptions
        Time-outs and pace.
    """

    def __init__(self, web: Web, service: Service, options: VOSpaceOptions) -> None:
        self._web = web
        self._service = service
        self._options = options
        self._lock = threading.Lock()
        # Where a node's bytes can be had, and until when that is believed: many ranges are read of one file.
        self._known: dict[str, tuple[float, list[str]]] = {}
        self._keeps = True

    # -- fetching -------------------------------------------------------------------------------------

    def fetch(
        self,
        key: str,
        start: int,
        stop: int,
        fd: int,
        md5: str,
        checkpoint: Checkpoint,
        on_progress: Progress | None,
        attempt: int = 1,
    ) -> bool:
        """Stream ``start <= offset < stop`` of a node into ``fd``.

        Parameters
        ----------
        key, start, stop, fd
            What goes where.
        md5 : str
            Hex digest of the content that is wanted; empty if it is not known.
        checkpoint, on_progress
            As of `ObjectBackend.read_into`.
        attempt : int
            Which this is, from 1.

        Returns
        -------
        bool
            Whether the answer said that it is of this content.

        Raises
        ------
        BodyCutError
            If the body ended early.
        """
        urls, fresh = self._urls(key, checkpoint)
        told: BackendError | None = None
        for url in urls:
            try:
                sure = self._fetch_from(url, key, start, stop, fd, md5, checkpoint, on_progress)
            except (BodyCutError, ShortObjectError, ObjectChangedError):
                raise
            except (ObjectNotFoundError, BackendAccessError) as exc:
                told = exc
            except (TransientBackendError, UntrustedServerError) as exc:
                told = told or exc
            else:
                self._keep(key, url, urls)
                return sure
        self._forget(key)
        if fresh:
            assert told is not None  # noqa: S101 - there is at least one endpoint
            if not isinstance(told, TransientBackendError) or attempt == self._options.max_attempts:
                raise told
            checkpoint()
            time.sleep(0.05 * 2**attempt)
        # What was kept has expired, or was good for one use only.
        if isinstance(told, (ObjectNotFoundError, BackendAccessError)):
            self._keeps = False
        return self.fetch(key, start, stop, fd, md5, checkpoint, on_progress, attempt + 1)

    def _urls(self, key: str, checkpoint: Checkpoint) -> tuple[list[str], bool]:
        if url := self._service.files_url(key, checkpoint):
            return [url], True
        with self._lock:
            until_s, urls = self._known.get(key, (0.0, []))
        if until_s > time.monotonic():
            return urls, False
        return [one.url for one in self._service.negotiate(key, documents.PULL, checkpoint)], True

    def _keep(self, key: str, good: str, urls: list[str]) -> None:
        if self._keeps and not self._service.files_url(key, lambda: None):
            with self._lock:
                if len(self._known) >= _MOST_KEPT:
                    self._known.clear()
                until_s = self._known.get(key, (time.monotonic() + _KEPT_S, urls))[0]
                self._known[key] = (until_s, [good, *(url for url in urls if url != good)])

    def _forget(self, key: str) -> None:
        with self._lock:
            self._known.pop(key, None)

    def _fetch_from(
        self,
        url: str,
        key: str,
        start: int,
        stop: int,
        fd: int,
        md5: str,
        checkpoint: Checkpoint,
        on_progress: Progress | None,
    ) -> bool:
        headers = {"Range": f"bytes={start}-{stop - 1}"}
        with reporting(on_progress) as report:
            for _ in range(_MAX_REDIRECTS):
                with self._web.open("GET", url, key, headers=headers) as reply:
                    if reply.status_code in (301, 302, 303, 307, 308):
                        url = urljoin(url, reply.headers.get("location", ""))
                        continue
                    skipped = self._check(reply, key, start, stop)
                    said = digest_of(reply.headers)
                    if md5 and said and said != md5:
                        raise ObjectChangedError(f"{key!r} is now version {said}, not {md5}", key=key)
                    self._skip(reply.raw, skipped, key, checkpoint)
                    pace = Pace(self._options.min_bytes_per_s, self._options.read_timeout_s)
                    ended = pump(reply.raw, start, stop, fd, checkpoint=checkpoint, report=report, pace=pace)
                    if ended.position != stop:
                        raise BodyCutError(key, ended.reason, position=ended.position, stop=stop)
                    return bool(md5 and said)
        raise BackendError(f"the VOSpace service redirects without end at {key!r}", key=key)

    def _check(self, reply: Any, key: str, start: int, stop: int) -> int:
        """Check that the answer has what was asked for; give how many bytes come before it."""
        if reply.status_code == 416:
            raise ShortObjectError(f"{key!r} ends before offset {stop}", key=key)
        if reply.status_code not in (200, 206):
            body = self._web.read_said(reply.raw.read(_ERROR_BYTES))
            raise answered(reply.status_code, {k.lower(): v for k, v in reply.headers.items()}, body, key)
        length = reply.headers.get("content-length", "")
        if reply.status_code == 206:
            given = reply.headers.get("content-range", "")
            if not given.startswith(f"bytes {start}-"):
                raise BackendError(
                    f"the VOSpace service answered another range of {key!r} than {start}:{stop}", key=key
                )
            if length.isdigit() and int(length) != stop - start:
                raise ShortObjectError(f"{key!r} gave {length} bytes of {stop - start} from {start}", key=key)
            return 0
        if length.isdigit() and int(length) < stop:
            raise ShortObjectError(f"{key!r} has {length} bytes, not the {stop} that were to come", key=key)
        return start

    def _skip(self, raw: Any, size_bytes: int, key: str, checkpoint: Checkpoint) -> None:
        """Pass over the beginning that a service without ranges sends."""
        left = size_bytes
        pace = Pace(self._options.min_bytes_per_s, self._options.read_timeout_s)
        while left:
            checkpoint()
            piece = raw.read(min(PIECE_BYTES, left))
            if not piece or pace.too_slow(len(piece), time.monotonic()):
                raise TransientBackendError(f"the beginning of {key!r}, which is not wanted, did not come", key=key)
            left -= len(piece)

    # -- sending -------------------------------------------------------------------------------------

    def send(self, key: str, fd: int, size_bytes: int, checkpoint: Checkpoint) -> str:
        """Send the first bytes of ``fd`` as the content of a node, made if need be; give their MD5, hexadecimal."""
        last: BackendError | None = None
        for attempt in range(self._options.max_attempts):
            if attempt:
                checkpoint()
                time.sleep(0.05)
            for endpoint in self._service.negotiate(key, documents.PUSH, checkpoint, size_bytes=size_bytes):
                try:
                    return self._send_to(endpoint.url, key, fd, size_bytes, checkpoint)
                except (TransientBackendError, UntrustedServerError, BackendAccessError) as exc:
                    last = exc
        assert last is not None  # noqa: S101 - at least one endpoint was tried
        raise last

    def _send_to(self, url: str, key: str, fd: int, size_bytes: int, checkpoint: Checkpoint) -> str:
        for _ in range(_MAX_REDIRECTS):
            body = _Body(fd, size_bytes, checkpoint)
            headers = {"Content-Type": "application/octet-stream", "Content-Length": str(size_bytes)}
            with self._web.open("PUT", url, key, data=body if size_bytes else b"", headers=headers) as reply:
                if reply.status_code in (307, 308):
                    url = urljoin(url, reply.headers.get("location", ""))
                    continue
                if not 200 <= reply.status_code < 300:
                    said = self._web.read_said(reply.raw.read(_ERROR_BYTES))
                    raise answered(reply.status_code, {k.lower(): v for k, v in reply.headers.items()}, said, key)
                return body.md5() if size_bytes else hashlib.md5(b"", usedforsecurity=False).hexdigest()
        raise BackendError(f"the VOSpace service redirects without end at {key!r}", key=key)


class _Body:
    """The first bytes of a file as the library sends them; the descriptor's own offset stays."""

    def __init__(self, fd: int, size_bytes: int, checkpoint: Checkpoint) -> None:
        self._fd = fd
        self._size_bytes = size_bytes
        self._position = 0
        self._checkpoint = checkpoint
        self._digest = hashlib.md5(usedforsecurity=False)

    def __len__(self) -> int:
        return self._size_bytes

    def read(self, size: int = -1) -> bytes:
        """Read up to ``size`` bytes, or all."""
        self._checkpoint()
        left = self._size_bytes - self._position
        data = os.pread(self._fd, left if size < 0 else min(size, left), self._position)
        self._position += len(data)
        self._digest.update(data)
        return data

    def md5(self) -> str:
        """Digest of what was sent, hexadecimal."""
        return self._digest.hexdigest()


def digest_of(headers: Mapping[str, str]) -> str:
    """MD5 of the whole content that an answer tells, hexadecimal; empty if it tells none.

    ``Digest: md5=`` (RFC 3230, as the services of the CADC family write it). Content-MD5 is of the part that is sent.
    """
    for part in headers.get("digest", "").split(","):
        name, _, value = part.strip().partition("=")
        if name.lower() == "md5":
            try:
                plain = base64.b64decode(value, validate=True)
            except (binascii.Error, ValueError):
                return ""
            # Some write the digest in hexadecimal before the base 64.
            return plain.hex() if len(plain) == 16 else plain.decode("ascii", "replace").lower()
    return ""
