"""Services of the Virtual Observatory as query backends: threads, jobs, cancellation."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from functools import partial
from types import ModuleType
from typing import cast

import trio

from pantry.backends.admission import Admission
from pantry.backends.querying import Query, QueryBackend, QueryOutcome, Statement
from pantry.backends.tap.options import Access, parse_access
from pantry.backends.tap.parameters import parameters_of
from pantry.errors import ConfigError, InvalidQueryError

log = logging.getLogger(__name__)

FIRST_POLL_S = 0.2
DELETE_S = 10.0
"""How long a service may take to delete the job of somebody who went, in seconds."""


class _Service:
    """What the backends have in common."""

    def __init__(self, access: Access, admission: Admission) -> None:
        self._access = access
        self._admission = admission

    @property
    def location(self) -> str:
        """A URI for messages and provenance, without any secret."""
        return self._access.location

    @property
    def kinds(self) -> tuple[type[Query], ...]:
        """Statements, each service's in its own language."""
        return (Statement,)

    def _statement(self, query: Query) -> Statement:
        if not isinstance(query, Statement):
            raise InvalidQueryError(f"{self.location} answers statements only")
        return query

    async def aclose(self) -> None:
        """Nothing is kept between queries."""


class TapBackend(_Service):
    """A TAP service (IVOA TAP 1.1)."""

    async def run_into(self, query: Query, fd: int) -> QueryOutcome:
        """Ask in ADQL; see `QueryBackend`. Of a job that is given up, the service is told."""
        # astropy and pyvo are loaded for the first query only, and not in the trio thread.
        blocking = await self._admission.call(_load)
        statement, access, check = self._statement(query), self._access, trio.from_thread.check_cancelled
        if access.options.mode == "sync":
            return await self._admission.call(partial(blocking.run_sync, access, statement, fd, check))
        url = await self._create(statement)
        try:
            await self._wait(url)
            result = partial(blocking.job_result, access, url, fd, statement.max_rows, check)
            return cast(QueryOutcome, await self._admission.call(result))
        finally:
            await self._delete(url)

    async def _delete(self, url: str) -> None:
        with trio.CancelScope(shield=True), trio.move_on_after(DELETE_S):
            await self._admission.call(partial(_load().delete_job, self._access, url))

    async def _create(self, statement: Statement) -> str:
        # Not interrupted: a job whose address nobody learnt could not be deleted.
        blocking = _load()
        with trio.CancelScope(shield=True):
            url = await self._admission.call(partial(blocking.create_job, self._access, statement, blocking.never))
        return str(url)

    async def _wait(self, url: str) -> None:
        blocking, wait_s, before = _load(), FIRST_POLL_S, ""
        while True:
            phase = await self._admission.call(
                partial(blocking.job_phase, self._access, url, trio.from_thread.check_cancelled)
            )
            if phase != before:
                log.info("a job of %s is %s", self.location, phase)
                before = phase
            if phase == "COMPLETED":
                return
            await trio.sleep(wait_s)
            wait_s = min(wait_s * 1.5, self._access.options.poll_s)


class ParameterBackend(_Service):
    """A service that is asked by parameters: a cone search (SCS 1.03) or an image search (SIA 2.0)."""

    async def run_into(self, query: Query, fd: int) -> QueryOutcome:
        """Ask by the statement's parameters; see `QueryBackend`."""
        blocking = await self._admission.call(_load)
        statement = self._statement(query)
        asked = parameters_of(statement)
        if not any(name.upper() == "MAXREC" for name, _ in asked):
            asked.append(("MAXREC", str(statement.max_rows)))
        return await self._admission.call(
            partial(
                blocking.run_parameters, self._access, asked, statement.max_rows, fd, trio.from_thread.check_cancelled
            )
        )


def _load() -> ModuleType:
    from pantry.backends.tap import _blocking

    return _blocking


def TapBackendFactory(root: str, options: Mapping[str, object], admission: Admission) -> QueryBackend:  # noqa: N802 - as other factories
    """Make the backend of ``tap+https`` or ``tap+http``."""
    return TapBackend(parse_access(root, options, "tap"), admission)


def ParameterBackendFactory(root: str, options: Mapping[str, object], admission: Admission) -> QueryBackend:  # noqa: N802
    """Make the backend of ``scs+https`` or ``sia2+https``, or of their forms without encryption."""
    kind = root.partition(":")[0].partition("+")[0].lower()
    access = parse_access(root, options, kind)
    if access.options.mode != "sync":
        raise ConfigError(f"{access.location}: only TAP has jobs")
    return ParameterBackend(access, admission)
