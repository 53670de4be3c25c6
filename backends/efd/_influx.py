"""A base EFD: InfluxDB 1, asked in InfluxQL over HTTP. Blocking; imported by `_blocking` only.

Names are taken from the service's own lists and quoted; bounds are integers that are written here. Answers come in
chunks of JSON, one a line, which say whether more is to come: so an answer that breaks off is known as one.
"""

from __future__ import annotations

import itertools
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import msgspec
import requests

from pantry.backends.credentials import BasicAuth, BearerToken, Credential, without_secrets
from pantry.backends.efd.options import InfluxOptions, Root
from pantry.backends.efd.source import Batch, Checkpoint, Rows, column
from pantry.backends.efd.topics import Field, FieldType, Topic, natural
from pantry.errors import BackendAccessError, BackendError, InvalidQueryError, TransientBackendError

_MAX_LINE_BYTES = 64 << 20
_READ_BYTES = 1 << 18
_MAX_ERROR = 300
_TYPES: dict[str, FieldType] = {"float": "float", "integer": "int", "string": "string", "boolean": "bool"}
_TRUNCATED = "the answer of {} ended early"

Value = bool | int | float | str | None


class _Series(msgspec.Struct):
    name: str = ""
    columns: list[str] = []
    values: list[tuple[Value, ...]] = []
    partial: bool = False


class _Result(msgspec.Struct):
    series: list[_Series] = []
    error: str = ""
    partial: bool = False


class _Answer(msgspec.Struct):
    results: list[_Result] = []
    error: str = ""


_decoder = msgspec.json.Decoder(_Answer)


class InfluxSource:
    """One database of one InfluxDB; a `Source`."""

    def __init__(self, root: Root, options: InfluxOptions, credential: Credential | None) -> None:
        host = f"[{root.host}]" if ":" in root.host else root.host
        self._url = f"{root.scheme}://{host}:{root.port}/query"
        self._root = root
        self._options = options
        self._credential = credential
        self._lock = threading.Lock()
        self._idle: list[requests.Session] = []

    @property
    def location(self) -> str:
        """The root as a URI."""
        return self._root.location

    def topics(self) -> dict[str, str]:
        """List the measurements."""
        return {str(row[0]): "" for series in self._rows("SHOW MEASUREMENTS") for row in series.values}

    def topic(self, name: str) -> Topic:
        """List the fields of a measurement, and its tags."""
        found: dict[str, set[str]] = {}
        for series in self._rows(f"SHOW FIELD KEYS FROM {self._from(name)}"):
            for row in series.values:
                found.setdefault(str(row[0]), set()).add(str(row[1]))
        tags = [str(row[0]) for one in self._rows(f"SHOW TAG KEYS FROM {self._from(name)}") for row in one.values]
        fields = [Field(name=one, type=self._type(one, kinds)) for one, kinds in found.items()]
        return Topic(
            name=name, fields=tuple(sorted(fields, key=lambda one: natural(one.name))), tags=tuple(sorted(tags))
        )

    def _type(self, name: str, kinds: set[str]) -> FieldType:
        # A field may be float in one shard and integer in another; InfluxDB itself takes them in this order.
        known = [kind for kind in _TYPES if kind in kinds]
        if not known:
            raise BackendError(f"{self.location} has a field {name!r} of the unknown type {', '.join(sorted(kinds))}")
        return _TYPES[known[0]]

    def batches(self, rows: Rows, checkpoint: Checkpoint) -> Iterator[Batch]:
        """Iterate over chunks of points."""
        names = [one.name for one in rows.fields]
        for series in self._chunks(self._select(rows), rows.batch_rows, checkpoint):
            if series.columns != ["time", *names]:
                raise BackendError(f"{self.location} sent other columns than were asked for")
            try:
                times, *columns = zip(*series.values, strict=True)
            except ValueError:
                raise BackendError(f"{self.location} sent rows of different lengths") from None
            index = column(times, Field(name="time", type="int"), self.location)
            if index.null_count:
                raise BackendError(f"{self.location} sent rows without a time")
            yield Batch(
                index, [column(one, field, self.location) for one, field in zip(columns, rows.fields, strict=True)]
            )

    def _select(self, rows: Rows) -> str:
        # The cast lets values of all shards come where the type of a field changed.
        chosen = ", ".join(_quoted(one.name) + ("::float" if one.type == "float" else "") for one in rows.fields)
        conditions = [f"time >= {int(rows.begin)}", f"time < {int(rows.end)}"]
        if rows.instance is not None:
            number = int(rows.instance)
            tag = self._options.index_field in rows.topic.tags
            conditions.append(f"{_quoted(self._options.index_field)} = " + (f"'{number}'" if tag else f"{number}"))
        order = " ORDER BY time DESC" if rows.descending else ""
        return f"SELECT {chosen} FROM {self._from(rows.topic.name)} WHERE {' AND '.join(conditions)}{order}"  # noqa: S608 - quoted names of the service, integers

    def _from(self, name: str) -> str:
        policy = self._options.retention_policy
        return f"{_quoted(policy)}.{_quoted(name)}" if policy else _quoted(name)

    def _rows(self, statement: str) -> list[_Series]:
        return list(self._chunks(statement, 10_000, lambda: None))

    def _chunks(self, statement: str, rows: int, checkpoint: Checkpoint) -> Iterator[_Series]:
        """Send a statement and iterate over the non-empty pieces of its answer."""
        more = True
        with self._answer(statement, rows) as response:
            for line in self._lines(response, checkpoint):
                answer = self._decoded(line)
                if answer.error:
                    raise self._failed(answer.error)
                for result in answer.results:
                    if result.error:
                        raise self._failed(result.error)
                    more = result.partial or any(one.partial for one in result.series)
                    yield from (one for one in result.series if one.values)
        if more:
            raise TransientBackendError(_TRUNCATED.format(self.location))

    @contextmanager
    def _answer(self, statement: str, rows: int) -> Iterator[requests.Response]:
        data = {"q": statement, "db": self._root.database, "epoch": "ns", "chunked": "true", "chunk_size": str(rows)}
        timeout = (self._options.connect_timeout_s, self._options.read_timeout_s)
        session = self._session()
        whole = False
        try:
            with (
                self._translated(),
                session.post(self._url, data=data, timeout=timeout, stream=True, allow_redirects=False) as response,
            ):
                if response.status_code != 200:
                    raise self._refused(response)
                yield response
                whole = True
        finally:
            if whole:
                with self._lock:
                    self._idle.append(session)
            else:
                session.close()  # which tells the service to stop

    def _session(self) -> requests.Session:
        with self._lock:
            if self._idle:
                return self._idle.pop()
        session = requests.Session()
        session.trust_env = False  # no proxies, and no passwords of a .netrc
        session.headers["Accept"] = "application/json"
        session.headers["Accept-Encoding"] = "gzip" if self._options.compression else "identity"
        if self._options.ca_file:
            session.verify = self._options.ca_file
        match self._credential:
            case BasicAuth(username=user, password=password):
                session.auth = (user.encode(), password.reveal().encode())  # type: ignore[assignment]
            case BearerToken(token=token):
                session.headers["Authorization"] = f"Bearer {token.reveal()}"
        return session

    @contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except requests.exceptions.SSLError as exc:
            raise BackendError(
                f"no trusted TLS connection to {self.location}", hint="Check the address, and ca_file."
            ) from exc
        except (requests.exceptions.ChunkedEncodingError, requests.exceptions.ContentDecodingError) as exc:
            raise TransientBackendError(_TRUNCATED.format(self.location)) from exc
        except requests.exceptions.ConnectionError as exc:
            raise TransientBackendError(f"{self.location} cannot be reached: {type(exc).__name__}") from exc
        except requests.exceptions.Timeout as exc:
            raise TransientBackendError(f"{self.location} does not answer in time") from exc
        except requests.exceptions.RequestException as exc:
            # Only the class: the text may hold what was sent.
            raise BackendError(f"{self.location} cannot be asked: {type(exc).__name__}") from exc

    def _lines(self, response: requests.Response, checkpoint: Checkpoint) -> Iterator[bytes]:
        pending: list[bytes] = []
        size = 0
        for part in response.iter_content(_READ_BYTES):
            checkpoint()
            *lines, rest = part.split(b"\n")
            for line in lines:
                whole = b"".join([*pending, line])
                pending, size = [], 0
                if whole:
                    yield whole
            pending.append(rest)
            size += len(rest)
            if size > _MAX_LINE_BYTES:
                raise BackendError(f"{self.location} sent a line of more than {_MAX_LINE_BYTES >> 20} MiB")
        if last := b"".join(pending).strip():
            yield last

    def _decoded(self, line: bytes) -> _Answer:
        try:
            return _decoder.decode(line)
        except msgspec.ValidationError:
            raise BackendError(
                f"{self.location} does not answer as InfluxDB 1 does", hint="Check host, port and scheme."
            ) from None
        except msgspec.DecodeError:
            raise TransientBackendError(_TRUNCATED.format(self.location)) from None

    def _refused(self, response: requests.Response) -> BackendError | InvalidQueryError:
        content = b"".join(itertools.islice(response.iter_content(4096), 4))
        try:
            reason = self._said(_decoder.decode(content).error)
        except msgspec.DecodeError:
            reason = ""
        status = response.status_code
        told = f"{self.location} answered {status}" + (f": {reason}" if reason else "")
        if status in (401, 403):
            return BackendAccessError(told, hint="Check username and password, and the user's rights on the database.")
        if status in (408, 429) or status >= 500:
            return TransientBackendError(told)
        if status == 400:
            return InvalidQueryError(told)
        if 300 <= status < 400:
            return BackendError(told, hint="Redirects are not followed: give the address that it leads to.")
        return BackendError(told, hint="Check host, port and scheme.")

    def _said(self, reason: str) -> str:
        return without_secrets(reason.encode(errors="replace"), self._credential).decode()[:_MAX_ERROR]

    def _failed(self, reason: str) -> BackendError | InvalidQueryError:
        """Make the error for one that came with HTTP 200, in which the service writes most of them."""
        told = f"{self.location}: {self._said(reason)}"
        lower = reason.lower()
        if lower.startswith("database not found"):
            return BackendError(told, hint="Check the name of the database in the address of this service.")
        if lower.startswith("retention policy not found"):
            return BackendError(told, hint="Check the option retention_policy.")
        if "not authorized" in lower or "authorization" in lower:
            return BackendAccessError(told, hint="Check the user's rights on the database.")
        if any(word in lower for word in ("timeout", "interrupted", "shutting down", "killed")):
            return TransientBackendError(told)
        if lower.startswith(("max-select", "max select")):
            return InvalidQueryError(told, hint="Ask for less at once; this limit is the service's.")
        return BackendError(told)

    def close(self) -> None:
        """Close idle connections."""
        with self._lock:
            idle, self._idle = self._idle, []
        for session in idle:
            session.close()


def _quoted(name: str) -> str:
    """Quote an identifier of InfluxQL."""
    for char, written in (("\\", "\\\\"), ('"', '\\"'), ("\n", "\\n")):
        name = name.replace(char, written)
    return f'"{name}"'
