"""The contract of a query backend (DESIGN section 7): rows of a service become one columnar file.

TAP services, engineering facility databases and SQL databases are query backends. What they are asked is a
value, never a text that was pasted together: a statement has named parameters, and the backend
gives each value to its service by type, bound where the service can bind, else checked and quoted.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

import msgspec

from pantry.backends.admission import Admission

ParameterValue = bool | int | float | str | bytes | None
"""What a parameter may be. Times are given as ISO 8601 texts in the scale that the statement's declaration says."""


class Statement(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """A statement in the service's own language, such as ADQL or SQL.

    Attributes
    ----------
    text : str
        As an administrator wrote it, with ``:name`` where a parameter stands.
    parameters : Mapping[str, ParameterValue]
        A value for each name, no more and no fewer.
    max_rows : int
        Most rows that the answer may have; one more is an error (`LimitExceededError`), not a cut.
    """

    text: str
    parameters: Mapping[str, ParameterValue] = {}
    max_rows: int = 1_000_000


class TopicQuery(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """Samples of one topic of an engineering facility database (EFD), MWBT-0041 to 0044.

    Attributes
    ----------
    topic : str
        Such as ``lsst.sal.ESS.temperature``.
    fields : tuple of str
        Names of fields; all if empty. A name may end in ``*`` for the elements of an array.
    start_tai_ns, stop_tai_ns : int
        Half-open span, nanoseconds since 1970-01-01 in TAI.
    index : int or None
        The ``salIndex`` to choose, if the topic has several.
    nearest_before : bool
        Only the last sample at or before ``stop_tai_ns`` and not before ``start_tai_ns``.
    resample_ns : int
        Length of the bins whose means are wanted, nanoseconds, from ``start_tai_ns`` on; 0 for the samples themselves.
    max_rows : int
        Most rows that the answer may have; one more is an error (`LimitExceededError`), not a cut.
    """

    topic: str
    fields: tuple[str, ...] = ()
    start_tai_ns: int
    stop_tai_ns: int
    index: int | None = None
    nearest_before: bool = False
    resample_ns: int = 0
    max_rows: int = 100_000_000


class NamesQuery(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """Which topics an engineering facility database has, or which fields one of them.

    The answer has a row for each topic (columns ``topic``, ``description``) or field (``field``, ``type``, ``unit``,
    ``description``), all texts.

    Attributes
    ----------
    topic : str
        Whose fields; empty for the topics.
    max_rows : int
        Most rows that the answer may have; one more is an error (`LimitExceededError`), not a cut.
    """

    topic: str = ""
    max_rows: int = 1_000_000


Query = Statement | TopicQuery | NamesQuery


class QueryOutcome(msgspec.Struct, frozen=True, kw_only=True):
    """What was written.

    Attributes
    ----------
    rows, size_bytes : int
        Of the file.
    """

    rows: int
    size_bytes: int


class QueryBackend(Protocol):
    """A service that answers queries; safe for concurrent use by many trio tasks.

    All methods raise `pantry.errors.BackendError` or a subclass, `InvalidQueryError` if the service refuses
    the query itself, and nothing of the SDK below.
    """

    @property
    def location(self) -> str:
        """A URI for messages and provenance, without any secret."""
        ...

    @property
    def kinds(self) -> tuple[type[Query], ...]:
        """The kinds of queries that it answers."""
        ...

    async def run_into(self, query: Query, fd: int) -> QueryOutcome:
        """Write the rows of ``query`` as one Parquet file into ``fd``, which is empty; all or an error.

        Memory is bounded, however many rows come. Units, descriptions and UCDs are in the schema as Pantry's
        Parquet formatter reads them. On cancellation the service is told to stop, where it can be told.
        """
        ...

    async def aclose(self) -> None:
        """Release connections and threads; the backend is not used afterwards."""
        ...


class QueryBackendFactory(Protocol):
    """What an entry point in the group ``pantry.query_backends`` names."""

    def __call__(self, root: str, options: Mapping[str, object], admission: Admission) -> QueryBackend:
        """Make the backend for ``root`` (a URI of its scheme) with checked ``options``."""
        ...
