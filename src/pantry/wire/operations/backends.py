"""Operations on how storage and services are."""

from __future__ import annotations

import msgspec

from pantry.wire.operations.base import Operation


class BackendInfo(msgspec.Struct, frozen=True, kw_only=True):
    """A storage root, a copy of one, or a service, as the daemon has found it since its start.

    Attributes
    ----------
    location : str
        Its URI, without any secret.
    kind, name : str
        What uses it: ``repository``, ``prefix`` or ``service``, and by which name.
    user : str
        Of a user's own view: whose; else empty.
    circuit : str
        ``closed``: requests pass. ``open``: none does, for `retry_in_s`. ``half-open``: one does, as a probe.
    retry_in_s : float
        Time until the next probe, in seconds.
    under_way, waiting, max_concurrent : int
        Requests at present; those that wait for its limit; the limit, 0 for none. Roots may share one.
    hanging : int
        Threads that hang in it.
    requests : int
        Since the start.
    errors : dict of str to int
        Failures by their codes (docs/reference/errors.md).
    median_s, p99_s : float or None
        Latency of the last 1,000 requests, in seconds: to the first piece of a read. None before the first.
    last_error, last_error_ns : str, int
        The last failure, and when, nanoseconds since 1970-01-01 UTC. Its message for administrators, else its code.
    """

    location: str
    kind: str
    name: str
    user: str = ""
    circuit: str = "closed"
    retry_in_s: float = 0.0
    under_way: int = 0
    waiting: int = 0
    max_concurrent: int = 0
    hanging: int = 0
    requests: int = 0
    errors: dict[str, int] = {}
    median_s: float | None = None
    p99_s: float | None = None
    last_error: str = ""
    last_error_ns: int = 0


class BackendList(msgspec.Struct, frozen=True):
    """Storage and services."""

    backends: tuple[BackendInfo, ...]


class GetBackends(Operation[BackendList], frozen=True, tag="backends"):
    """Ask how those are that the user may read and that were used since the start; for administrators all."""

    result_type = BackendList
