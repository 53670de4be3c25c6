"""The bytes of nodes: fetched from and sent to the endpoints that a service negotiates."""

from __future__ import annotations

import base64
import binascii
import hashlib
import threading
import time
from collections.abc import Mapping
from typing import Any

from pantry.backends.contract import check_version
from pantry.backends.progress import reporting
from pantry.backends.pumping import PIECE_BYTES, BodyCutError, Pace, Reading, pump
from pantry.backends.redirects import REDIRECTS
from pantry.backends.sending import PositionedReader
from pantry.backends.vospace import _documents as documents
from pantry.backends.vospace._blocking import MAX_REDIRECTS, Checkpoint, UntrustedServerError, Web
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


class EndpointsFailedError(TransientBackendError):
    """None of the endpoints of a node gave anything; they can be asked again."""


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

    def fetch(self, reading: Reading) -> bool:
        """Stream the wanted bytes of a node into the descriptor.

        Parameters
        ----------
        reading : Reading
            Its ``key`` is the node's own, its ``if_version`` an MD5, if that is known.

        Returns
        -------
        bool
            Whether the answer said that it is of this MD5.

        Raises
        ------
        BodyCutError
            If the body ended early.
        EndpointsFailedError
            If no endpoint gave anything, which may pass.
        """
        if url := self._service.files_url(reading.key, reading.checkpoint):
            return self._fetch_from_any([url], reading)
        refused = False
        if urls := self._kept(reading.key):
            try:
                return self._fetch_from_any(urls, reading)
            except (ObjectNotFoundError, BackendAccessError):
                refused = True
            except (EndpointsFailedError, UntrustedServerError):
                pass
            self._forget(reading.key)
        urls = [one.url for one in self._service.negotiate(reading.key, documents.PULL, reading.checkpoint)]
        sure = self._fetch_from_any(urls, reading)
        if refused:
            # The object is there: it was the URL, which is good for one use only.
            self._keeps = False
            self._forget(reading.key)
        return sure

    def _fetch_from_any(self, urls: list[str], reading: Reading) -> bool:
        told: BackendError | None = None
        for url in urls:
            try:
                sure = self._fetch_from(url, reading)
            except (BodyCutError, ShortObjectError, ObjectChangedError):
                raise
            except (ObjectNotFoundError, BackendAccessError) as exc:
                told = exc
            except (TransientBackendError, UntrustedServerError) as exc:
                told = told or exc
            else:
                self._keep(reading.key, url, urls)
                return sure
        assert told is not None  # noqa: S101 - there is at least one endpoint
        if isinstance(told, TransientBackendError):
            failed = EndpointsFailedError(told.message)
            failed.fields |= told.fields
            raise failed from told
        raise told

    def _kept(self, key: str) -> list[str]:
        with self._lock:
            until_s, urls = self._known.get(key, (0.0, []))
            if until_s <= time.monotonic():
                # Else it would be kept as long as before: not at all.
                self._known.pop(key, None)
                return []
        return urls

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

    def _fetch_from(self, url: str, reading: Reading) -> bool:
        key, start, stop, md5 = reading.key, reading.start, reading.stop, reading.if_version
        headers = {"Range": f"bytes={start}-{stop - 1}"}
        with reporting(reading.on_progress) as report:
            for _ in range(MAX_REDIRECTS):
                with self._web.open("GET", url, key, headers=headers) as reply:
                    if reply.status_code in REDIRECTS:
                        url = self._web.redirected(url, reply.headers, key)
                        continue
                    if reply.status_code not in (200, 206, 416):
                        raise self._web.refused(reply, key, reading.checkpoint)
                    skipped = _check_range(reply, key, start, stop)
                    said = digest_of(reply.headers)
                    if said:
                        check_version(key, said, md5)
                    self._skip(reply.raw, skipped, key, reading.checkpoint)
                    pace = Pace(self._options.min_bytes_per_s, self._options.read_timeout_s)
                    pump(reply.raw, reading, version=said, report=report, pace=pace)
                    return bool(md5 and said)
        raise BackendError(f"the VOSpace service redirects without end at {key!r}", key=key)

    def _skip(self, raw: Any, size_bytes: int, key: str, checkpoint: Checkpoint) -> None:
        """Pass over the beginning that a service without ranges sends."""
        left = size_bytes
        take = getattr(raw, "read1", raw.read)  # urllib3 1.26 has no read1
        pace = Pace(self._options.min_bytes_per_s, self._options.read_timeout_s)
        while left:
            checkpoint()
            piece = take(min(PIECE_BYTES, left))
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
        for _ in range(MAX_REDIRECTS):
            digest = hashlib.md5(usedforsecurity=False)
            body = PositionedReader(fd, 0, size_bytes, checkpoint, seen=digest.update) if size_bytes else b""
            headers = {"Content-Type": "application/octet-stream", "Content-Length": str(size_bytes)}
            with self._web.open("PUT", url, key, data=body, headers=headers) as reply:
                if reply.status_code in (307, 308):
                    url = self._web.redirected(url, reply.headers, key)
                    continue
                if not 200 <= reply.status_code < 300:
                    raise self._web.refused(reply, key, checkpoint)
                return digest.hexdigest()
        raise BackendError(f"the VOSpace service redirects without end at {key!r}", key=key)


def _check_range(reply: Any, key: str, start: int, stop: int) -> int:
    """Check that the answer has what was asked for; give how many bytes come before it."""
    length = reply.headers.get("content-length", "")
    if reply.status_code == 416:
        raise ShortObjectError(f"{key!r} ends before offset {stop}", key=key)
    if reply.status_code == 206:
        if not reply.headers.get("content-range", "").startswith(f"bytes {start}-"):
            raise BackendError(f"the VOSpace service answered another range of {key!r} than {start}:{stop}", key=key)
        if length.isdigit() and int(length) != stop - start:
            raise ShortObjectError(f"{key!r} gave {length} bytes of {stop - start} from {start}", key=key)
        return 0
    if length.isdigit() and int(length) < stop:
        raise ShortObjectError(f"{key!r} has {length} bytes, not the {stop} that were to come", key=key)
    return start


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
