"""All that talks to services, by pyvo; for worker threads. Nothing of pyvo, requests or astropy goes out of here."""

from __future__ import annotations

import io
import logging
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import requests
from astropy.io.votable import exceptions as votable_exceptions
from astropy.io.votable import from_table
from astropy.io.votable import parse as parse_votable
from pyvo.dal import AsyncTAPJob, DALFormatError, DALQueryError, DALServiceError, TAPQuery
from pyvo.dal.query import DALResults

from pantry.backends.credentials import without_secrets
from pantry.backends.querying import QueryOutcome, Statement
from pantry.backends.tap import adql
from pantry.backends.tap._session import Check, GuardedSession, translated
from pantry.backends.tap._tables import read_upload, write_parquet
from pantry.backends.tap.options import Access
from pantry.errors import (
    BackendAccessError,
    BackendError,
    InvalidQueryError,
    LimitExceededError,
    PantryError,
    TransientBackendError,
)

log = logging.getLogger(__name__)

_MESSAGE_LENGTH = 500
_UNREADABLE = (DALFormatError, votable_exceptions.VOTableSpecError, ValueError, TypeError, KeyError, IndexError)
_RUNNING = ("PENDING", "QUEUED", "EXECUTING", "SUSPENDED", "HELD", "UNKNOWN")
_TRANSIENT = (408, 425, 429, 500, 502, 503, 504)


def run_sync(access: Access, statement: Statement, fd: int, check: Check) -> QueryOutcome:
    """Ask a TAP service at once, and write its answer into ``fd``."""
    with _session(access, check) as session, _translating(access):
        query = _query(access, statement, session, "sync")
        response = query.submit()
        _require_success(access, response)
        return _write(access, response.raw, fd, statement.max_rows)


def create_job(access: Access, statement: Statement, check: Check) -> str:
    """Make a job of a TAP service and start it; return its URL, for which the caller is responsible from now on."""
    with _session(access, check) as session, _translating(access):
        job = AsyncTAPJob.create(
            access.url.rstrip("/"),
            adql.written(statement),
            language=access.options.language,
            maxrec=statement.max_rows,
            uploads=_uploads(statement),
            session=session,
        )
        url = str(job.url)
        try:
            job.run()
        except BaseException:
            _delete(access, job)
            raise
        return url


def job_phase(access: Access, url: str, check: Check) -> str:
    """Return the phase of a job; `InvalidQueryError` with the service's message if it failed."""
    with _session(access, check) as session, _translating(access):
        job = AsyncTAPJob(url, session=session)
        phase = str(job.phase)
        if phase not in ("COMPLETED", *_RUNNING):
            job.raise_if_error()
            raise BackendError(f"a job of {access.location} ended as {phase[:40]}")
        return phase


def job_result(access: Access, url: str, fd: int, max_rows: int, check: Check) -> QueryOutcome:
    """Write the answer of a completed job into ``fd``."""
    with _session(access, check) as session, _translating(access):
        job = AsyncTAPJob(url, session=session)
        where = job.result_uri
        if where is None:
            raise BackendError(f"a job of {access.location} has no result")
        response = session.get(where)
        _require_success(access, response)
        return _write(access, response.raw, fd, max_rows)


def delete_job(access: Access, url: str) -> None:
    """Tell the service to stop and forget a job; failures are only logged, since its own destruction time remains."""
    try:
        with _session(access, never) as session, _translating(access):
            AsyncTAPJob(url, session=session).delete()
    except PantryError as exc:
        log.warning("a job of %s cannot be deleted: %s", access.location, exc.message)


def run_parameters(
    access: Access, parameters: Sequence[tuple[str, str]], max_rows: int, fd: int, check: Check
) -> QueryOutcome:
    """Ask a service that takes parameters, such as a cone search, and write its answer into ``fd``."""
    with _session(access, check) as session, _translating(access):
        response = session.get(access.url.rstrip("?&"), params=list(parameters))
        _require_success(access, response)
        return _write(access, response.raw, fd, max_rows)


def never() -> None:
    """Let it go on."""


def _delete(access: Access, job: AsyncTAPJob) -> None:
    try:
        job.delete()
    except (DALServiceError, requests.RequestException, PantryError) as exc:
        log.warning("a job of %s cannot be deleted: %s", access.location, type(exc).__name__)


@contextmanager
def _session(access: Access, check: Check) -> Iterator[GuardedSession]:
    session = GuardedSession(access, check)
    try:
        yield session
    finally:
        session.close()


@contextmanager
def _translating(access: Access) -> Iterator[None]:
    """Turn whatever pyvo, requests and astropy raise into errors of ours, in which no request stands."""
    with warnings.catch_warnings():
        # Of how well documents keep to the standard; what matters is looked at.
        warnings.simplefilter("ignore")
        try:
            yield
        except PantryError:
            raise
        except DALQueryError as exc:
            raise _refused(access, exc.reason) from None
        except DALServiceError as exc:
            code = exc.code if isinstance(exc.code, int) else None
            cause = exc.cause if isinstance(exc.cause, requests.RequestException) else None
            if code is not None:
                raise _by_status(access, code, "") from None
            raise (translated(access.location, cause) if cause is not None else _failed(access, exc)) from None
        except requests.RequestException as exc:
            raise translated(access.location, exc) from None
        except (
            DALFormatError,
            votable_exceptions.VOTableSpecError,
            ValueError,
            TypeError,
            KeyError,
            IndexError,
        ) as exc:
            raise _failed(access, exc) from exc


def _failed(access: Access, exc: BaseException) -> BackendError:
    return BackendError(
        f"{access.location} sent what cannot be read ({type(exc).__name__}: {_shortened(str(exc), access)})"
    )


def _query(access: Access, statement: Statement, session: GuardedSession, mode: str) -> TAPQuery:
    return TAPQuery(
        access.url.rstrip("/"),
        adql.written(statement),
        mode=mode,
        language=access.options.language,
        maxrec=statement.max_rows,
        uploads=_uploads(statement),
        session=session,
    )


def _uploads(statement: Statement) -> dict[str, io.BytesIO] | None:
    made = {}
    for name, fd in statement.tables.items():
        content = io.BytesIO()
        from_table(read_upload(name, fd)).to_xml(content, tabledata_format="binary2")
        content.seek(0)
        made[name] = content
    return made or None


def _require_success(access: Access, response: requests.Response) -> None:
    if response.ok:
        return
    raise _by_status(access, response.status_code, _message_in(response.raw), response.headers.get("Retry-After"))


def _by_status(access: Access, status: int, message: str, retry_after: str | None = None) -> PantryError:
    said = f": {_shortened(message, access)}" if message else ""
    if status in (401, 403):
        return BackendAccessError(f"{access.location} refused this node's credentials (HTTP {status}){said}")
    if status in _TRANSIENT and not (status == 500 and message):
        wait_s = int(retry_after) if retry_after is not None and retry_after.isdecimal() else None
        return TransientBackendError(f"{access.location} answered HTTP {status}{said}", retry_after_s=wait_s)
    if status in (400, 500):
        return _refused(access, message or f"HTTP {status}")
    return BackendError(f"{access.location} answered HTTP {status}{said}")


def _refused(access: Access, message: object) -> InvalidQueryError:
    return InvalidQueryError(f"{access.location} refused the query: {_shortened(str(message), access)}")


def _message_in(raw: Any) -> str:
    """Return what a document of an error says, if it is a VOTable (DALI 1.1, section 4.4)."""
    try:
        DALResults(parse_votable(raw.read, verify="ignore"))
    except DALQueryError as exc:
        return str(exc.reason or "")
    except Exception:
        return ""  # of any form whatever; the status says enough
    return ""


def _shortened(text: str, access: Access) -> str:
    text = without_secrets(text.encode(errors="replace"), access.credential).decode()
    plain = " ".join("".join(char if char.isprintable() else " " for char in text).split())
    return plain if len(plain) <= _MESSAGE_LENGTH else plain[:_MESSAGE_LENGTH] + "..."


def _write(access: Access, raw: Any, fd: int, max_rows: int) -> QueryOutcome:
    """Read a VOTable and write it as Parquet; what was cut by anybody is an error."""
    results = DALResults(parse_votable(raw.read, verify="ignore"))
    rows = len(results)
    if results.status[0].lower() == "overflow" or rows > max_rows:
        raise LimitExceededError(
            f"{access.location} has more rows than it may send: {rows} came, and at most {max_rows} were asked for",
            hint="ask for fewer rows, or let the administrator raise max_rows; the service may have a limit of its own",
        )
    table = results.to_table()
    del results
    return write_parquet(table, fd)
