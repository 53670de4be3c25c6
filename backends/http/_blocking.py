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
from urllib.parse import quote, urljoin, urlsplit

from pantry.backends.contract import ObjectStat, SinkError
from pantry.backends.http import _answers
from pantry.backends.http._answers import OK, PARTIAL, Body, PreconditionError
from pantry.backends.http._autoindex import MAX_INDEX_BYTES, Index, cannot_list, parse_index
from pantry.backends.http._digests import digest_check
from pantry.backends.http._sessions import make_session
from pantry.backends.http.options import HttpOptions, Root
from pantry.backends.progress import Progress, reporting
from pantry.backends.pumping import PIECE_BYTES, Ended, Pace, pump
from pantry.errors import (
    BackendAccessError,
    BackendError,
    ObjectChangedError,
    ObjectNotFoundError,
    TransientBackendError,
)

MAX_REDIRECTS = 5
_DEFAULT_PORTS = {"http": 80, "https": 443}

log = logging.getLogger(__name__)


class BodyCutError(TransientBackendError):
    """The answer's body ended early; what came before is written, and the rest can be asked for."""

    def __init__(self, key: str, reason: str, *, position: int, stop: int, version: str) -> None:
        super().__init__(f"{reason} with {stop - position} bytes of {key!r} still to come", key=key)
        self.position = position
        self.version = version


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

    def read_span(
        self,
        key: str,
        start: int,
        stop: int,
        fd: int,
        if_version: str | None,
        checkpoint: Callable[[], None],
        on_progress: Progress | None = None,
    ) -> None:
        """Stream ``start <= offset < stop`` of the object into ``fd``.

        Raises
        ------
        BodyCutError
            If the body ended early; it tells from where to go on, and the version to ask for.
        """
        try:
            self._read_span(key, start, stop, fd, if_version, checkpoint, on_progress)
        except PreconditionError as exc:
            now = self.head(key).version
            if now != if_version:
                raise ObjectChangedError(f"{key!r} is now version {now}, not {if_version}", key=key) from exc
            # A server that misunderstands conditions; the version in its answers is checked in any case.
            self._send_conditions = False
            self._read_span(key, start, stop, fd, if_version, checkpoint, on_progress)

    def _read_span(
        self,
        key: str,
        start: int,
        stop: int,
        fd: int,
        if_version: str | None,
        checkpoint: Callable[[], None],
        on_progress: Progress | None,
    ) -> None:
        fields = {"Range": f"bytes={start}-{stop - 1}"}
        if self._send_conditions:
            fields |= _answers.conditions(if_version)
        with (
            reporting(on_progress) as report,
            translate_http_errors(key),
            self._answer("GET", key, fields) as answer,
        ):
            if answer.status_code not in (OK, PARTIAL):
                raise self._refused(answer.status_code, answer.headers, key)
            body = _answers.check_body(key, answer.status_code, answer.headers, start, stop, if_version)
            ended = self._take(answer, key, body, start, stop, fd, checkpoint, report)
        if ended.position != stop:
            raise BodyCutError(key, ended.reason, position=ended.position, stop=stop, version=body.version)

    def _take(
        self,
        answer: Any,
        key: str,
        body: Body,
        start: int,
        stop: int,
        fd: int,
        checkpoint: Callable[[], None],
        report: Progress,
    ) -> Ended:
        """Take the wanted bytes out of a body that may begin before them and go on after them."""
        import urllib3.exceptions

        cut_by = (urllib3.exceptions.HTTPError, OSError)
        pace = Pace(self._options.min_bytes_per_s, self._options.read_timeout_s)
        take = getattr(answer.raw, "read1", answer.raw.read)  # urllib3 1.26 has no read1
        skipped = body.start
        while skipped < start:
            checkpoint()
            try:
                piece = take(min(PIECE_BYTES, start - skipped))
            except cut_by:
                piece = b""
            if not piece:
                return Ended(start, "the connection was cut")
            skipped += len(piece)
        is_all = (start, stop) == (body.start, body.stop)
        check = digest_check(answer.headers, whole=body.is_whole) if is_all else None
        seen = check.update if check is not None else None
        ended = pump(answer.raw, start, stop, fd, checkpoint=checkpoint, report=report, pace=pace, seen=seen)
        if check is not None and ended.position == stop and not check.holds():
            raise TransientBackendError(f"{key!r} was damaged on its way: {check.field} does not fit it", key=key)
        return ended

    def list_directory(self, directory: str) -> Index:
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
            text = bytearray()
            while piece := answer.raw.read(PIECE_BYTES):
                text += piece
                if len(text) > MAX_INDEX_BYTES:
                    raise BackendError(f"the index of {directory!r} is longer than {MAX_INDEX_BYTES} bytes")
        return parse_index(bytes(text), directory)

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
                headers={"Accept-Encoding": "identity", **fields},
                allow_redirects=False,
                stream=True,
                timeout=(self._options.connect_timeout_s, self._options.read_timeout_s),
            )
            try:
                if answer.status_code not in _answers.REDIRECTS:
                    yield answer
                    return
                target = self._redirected(target, answer.headers.get("Location", ""), key)
            finally:
                _finish(answer)
        raise BackendError(f"the server redirects {key!r} more than {MAX_REDIRECTS} times", key=key)

    def _redirected(self, target: _Target, location: str, key: str) -> _Target:
        try:
            url = urljoin(target.url, location)
            before, after = urlsplit(target.url), urlsplit(url)
            same = _where(url) == _where(target.url)
        except ValueError:
            raise BackendError(f"the server redirects {key!r} to no URL", key=key) from None
        if not location or after.scheme not in _DEFAULT_PORTS or not after.hostname:
            raise BackendError(f"the server redirects {key!r} to what is no HTTP: refused", key=key)
        if before.scheme == "https" and after.scheme == "http":
            raise BackendError(f"the server redirects {key!r} from https to http: refused", key=key)
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
                self._ours = make_session(self._options, self._options.credential)
                self._strange = make_session(self._options, None)
            return self._ours if ours else self._strange

    def _refused(self, status: int, headers: Mapping[str, str], key: str) -> BackendError:
        return _answers.refused(status, headers, key, self._root.origin)


def _where(url: str) -> tuple[str, str | None, int | None]:
    parts = urlsplit(url)
    return parts.scheme, parts.hostname, parts.port or _DEFAULT_PORTS.get(parts.scheme)


def _finish(answer: Any) -> None:
    """Give the connection back if nothing of the body is left, else close it."""
    raw = answer.raw
    if answer.request.method != "HEAD" and getattr(raw, "length_remaining", None) != 0:
        raw.close()
    answer.close()
