"""The URLs that negotiated transfers give out: each for one node, one method, and a time."""

from __future__ import annotations

import secrets
import threading
import time
from dataclasses import dataclass

from tests.servers.vospace.config import Account
from tests.servers.vospace.faults import Fault
from tests.servers.vospace.jobs import Job

_LIFETIME_S = 3600.0


@dataclass(frozen=True, kw_only=True)
class Ticket:
    """What one endpoint is good for.

    Attributes
    ----------
    account : Account or None
        In whose name, if it is pre-authorised.
    security : str or None
        The security method that its bearer must use; None for none.
    job : Job or None
        Completed by the transfer.
    """

    key: str
    path: tuple[str, ...]
    method: str
    account: Account | None
    security: str | None
    job: Job | None
    view: str | None
    expires: float


class Tickets:
    """All that are valid; they end with the process."""

    def __init__(self) -> None:
        self._tickets: dict[str, Ticket] = {}
        self._lock = threading.Lock()

    def issue(
        self,
        path: tuple[str, ...],
        method: str,
        account: Account | None,
        *,
        security: str | None = None,
        job: Job | None = None,
        view: str | None = None,
    ) -> Ticket:
        ticket = Ticket(
            key=secrets.token_urlsafe(18),
            path=path,
            method=method,
            account=account,
            security=security,
            job=job,
            view=view,
            expires=time.time() + _LIFETIME_S,
        )
        with self._lock:
            self._tickets[ticket.key] = ticket
        return ticket

    def use(self, key: str, method: str, *, once: bool) -> Ticket:
        """The ticket of a URL that is used with this method; PermissionDenied if it is good for nothing."""
        with self._lock:
            ticket = self._tickets.get(key)
            if ticket is None or ticket.expires < time.time():
                raise Fault("PermissionDenied", "this URL is not valid, or not any more")
            if ticket.job is not None and ticket.job.phase == "ABORTED":
                raise Fault("PermissionDenied", "the transfer was aborted")
            if method != ticket.method and not (method == "HEAD" and ticket.method == "GET"):
                raise Fault("PermissionDenied", f"this URL is for {ticket.method} only")
            if once and method != "HEAD":
                del self._tickets[key]
            return ticket
