"""What the backend does in threads: the only module that knows requests.

Its errors become `BackendError` here, in `translate_http_errors`, and nowhere else. requests is imported on
the first request.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, NamedTuple
from urllib.parse import quote, urlsplit

from pantry.backends.contract import ObjectStat, SinkError, check_version
from pantry.backends.http import _answers
from pantry.backends.http._answers import OK, PARTIAL, Body, PreconditionError
from pantry.backends.http._autoindex import MAX_INDEX_BYTES, Index, cannot_list, parse_index
from pantry.backends.http._digests import digest_check
from pantry.backends.http.options import HttpOptions, Root
from pantry.backends.progress import Progress, reporting
from pantry.backends.pumping import PIECE_BYTES, BodyCutError, Pace, Reading, pump, read_whole
from pantry.backends.redirects import REDIRECTS, redirected, server_of
from pantry.backends.web_sessions import make_session
from pantry.errors import (
    BackendAccessError,
    BackendError,
    ObjectNotFoundError,
    TransientBackendError,
)

MAX_REDIRECTS = 5
MAX_INDEX_S = 300.0
"""Longest time that the index of one directory may take to come, in seconds."""

log = logging.getLogger(__name__)


class _Target(NamedTuple):
    """Where a request goes, and whether the credential may go with it."""

    url: str
    is_ours: bool


@contextmanager
def translate_http_errors(key: str) -> Iterator[None]:
    """Turn failures of requests and of the connection into `BackendError`; nothing above sees requests."""
    import requests
    import urllib3.exceptions

    try:
        yield
    except SinkError:
        raise
    except requests.exceptions.SSLError as exc:
        raise BackendError(
            f"no trusted TLS connection to the server of {key!r}",
            hint="Check the root's host, and ca_file if the server's certificate is of an authority of your own.",
            key=key,
        ) from exc
    except (requests.exceptions.InvalidURL, requests.exceptions.MissingSchema, UnicodeError) as exc:
        raise BackendError(f"the request for {key!r} could not be sent: {type(exc).__name__}", key=key) from exc
    except (requests.exceptions.RequestException, urllib3.exceptions.HTTPError, OSError) as exc:
        # Only the class: the text may hold a URL with somebody's signature.
        raise TransientBackendError(f"the server failed at {key!r}: {type(exc).__name__}", key=key) from exc


class HttpStore:
    """Blocking requests for what lies below one URL; safe for use by many threads.

    Parameters
    ----------
    root : Root
        The URL.
    options : HttpOptions
        How to reach the server.
    """

    def __init__(self, root: Root, options: HttpOptions) -> None:
        self._root = root
        self._options = options
        self._lock = threading.Lock()
        # Two sessions, so that no credential, and no connection opened with one, ever serves another host.
        self._ours: Any = None
        self._strange: Any = None
        self._send_conditions = True

    def head(self, key: str) -> ObjectStat:
        """Describe an object by HEAD, or by its first byte where the server has no HEAD."""
        with translate_http_errors(key), self._answer("HEAD", key, {}) as answer:
            status, headers = answer.status_code, answer.headers
        if status == OK and (size_bytes := _answers.length_of(headers)) is not None:
            return _answers.described(key, headers, size_bytes)
        if status != OK and status not in _answers.NO_HEAD:
            raise self._refused(status, headers, key)
        with translate_http_errors(key), self._answer("GET", key, {"Range": "bytes=0-0"}) as answer:
            if answer.status_code == _answers.RANGE_NOT_SATISFIABLE:  # an empty file has no first byte
                return _answers.described(key, answer.headers, 0)
            if answer.status_code not in (OK, PARTIAL):
                raise self._refused(answer.status_code, answer.headers, key)
            body = _answers.check_body(key, answer.status_code, answer.headers, 0, 0, None)
            return _answers.described(key, answer.headers, body.size_bytes)

    def read_span(self, reading: Reading) -> None:
        """Stream the wanted bytes of the object into the descriptor; `BodyCutError` if the body ends early."""
        try:
            self._read_span(reading)
        except PreconditionError:
            check_version(reading.key, self.head(reading.key).version, reading.if_version)
            # A server that misunderstands conditions; the version in its answers is checked in any case.
            self._send_conditions = False
            self._read_span(reading)

    def _read_span(self, reading: Reading) -> None:
        key, start, stop = reading.key, reading.start, reading.stop
        fields = {"Range": f"bytes={start}-{stop - 1}"}
        if self._send_conditions:
            fields |= _answers.conditions(reading.if_version)
        with (
            reporting(reading.on_progress) as report,
            translate_http_errors(key),
            self._answer("GET", key, fields) as answer,
        ):
            if answer.status_code not in (OK, PARTIAL):
                raise self._refused(answer.status_code, answer.headers, key)
            body = _answers.check_body(key, answer.status_code, answer.headers, start, stop, reading.if_version)
            self._take(answer, body, reading, report)

    def _take(self, answer: Any, body: Body, reading: Reading, report: Progress) -> None:
        """Take the wanted bytes out of a body that may begin before them and go on after them."""
        import urllib3.exceptions

        cut_by = (urllib3.exceptions.HTTPError, OSError)
        pace = Pace(self._options.min_bytes_per_s, self._options.read_timeout_s)
        take = getattr(answer.raw, "read1", answer.raw.read)  # urllib3 1.26 has no read1
        skipped = body.start
        while skipped < reading.start:
            reading.checkpoint()
            try:
                piece = take(min(PIECE_BYTES, reading.start - skipped))
            except cut_by:
                piece = b""
            if not piece:
                raise BodyCutError(reading, "the connection was cut", position=reading.start, version=body.version)
            skipped += len(piece)
        is_all = (reading.start, reading.stop) == (body.start, body.stop)
        check = digest_check(answer.headers, whole=body.is_whole) if is_all else None
        seen = check.update if check is not None else None
        pump(answer.raw, reading, version=body.version, report=report, pace=pace, seen=seen)
        if check is not None and not check.holds():
            raise TransientBackendError(
                f"{reading.key!r} was damaged on its way: {check.field} does not fit it", key=reading.key
            )

    def list_directory(self, directory: str, checkpoint: Callable[[], None]) -> Index:
        """Read the index of one directory: empty, or a key with a slash at its end."""
        if self._options.listing == "none":
            raise cannot_list(directory)
        with translate_http_errors(directory), self._answer("GET", directory, {}) as answer:
            if answer.status_code in (404, 410):
                return Index([], [])
            if answer.status_code != OK:
                error = self._refused(answer.status_code, answer.headers, directory)
                # nginx answers 403 where there is no index, too.
                raise cannot_list(directory) if isinstance(error, BackendAccessError) else error
            text = read_whole(
                answer.raw, directory, most_bytes=MAX_INDEX_BYTES, within_s=MAX_INDEX_S, checkpoint=checkpoint
            )
        return parse_index(text, directory)

    def close(self) -> None:
        """Close all connections."""
        with self._lock:
            for session in (self._ours, self._strange):
                if session is not None:
                    session.close()
            self._ours = self._strange = None

    # -- requests ---------------------------------------------------------------------------------

    @contextmanager
    def _answer(self, method: str, key: str, fields: Mapping[str, str]) -> Iterator[Any]:
        """Send a request, follow redirects, and give the answer with its body unread; then close it."""
        target = _Target(self._root.origin + self._root.path + quote(key, safe="/"), True)
        for _ in range(MAX_REDIRECTS + 1):
            answer = self._session(ours=target.is_ours).request(
                method,
                target.url,
                headers=fields,
                allow_redirects=False,
                stream=True,
                timeout=(self._options.connect_timeout_s, self._options.read_timeout_s),
            )
            try:
                if answer.status_code not in REDIRECTS:
                    yield answer
                    return
                target = self._redirected(target, answer.headers.get("Location", ""), key)
            finally:
                _finish(answer)
        raise BackendError(f"the server redirects {key!r} more than {MAX_REDIRECTS} times", key=key)

    def _redirected(self, target: _Target, location: str, key: str) -> _Target:
        url = redirected(target.url, location, key)
        before, after = urlsplit(target.url), urlsplit(url)
        same = server_of(url) == server_of(target.url)
        if after.username is not None or after.password is not None:
            raise BackendError(f"the server redirects {key!r} to a URL with a password: refused", key=key)
        if after.path == before.path + "/":
            raise ObjectNotFoundError(f"no object {key!r}: there is a directory", key=key)
        if not same:
            log.debug("%s redirects to %s://%s", self._root.origin, after.scheme, after.hostname)
        # Once away, never back: another host could send us, with our credential, where it likes.
        return _Target(url, target.is_ours and same)

    def _session(self, *, ours: bool) -> Any:
        with self._lock:
            if self._ours is None:
                options = self._options
                self._ours, self._strange = (
                    make_session(credential, ca_file=options.ca_file, max_connections=options.max_connections)
                    for credential in (options.credential, None)
                )
            return self._ours if ours else self._strange

    def _refused(self, status: int, headers: Mapping[str, str], key: str) -> BackendError:
        return _answers.refused(status, headers, key, self._root.origin)


def _finish(answer: Any) -> None:
    """Give the connection back if nothing of the body is left, else close it."""
    raw = answer.raw
    if answer.request.method != "HEAD" and getattr(raw, "length_remaining", None) != 0:
        raw.close()
    answer.close()
