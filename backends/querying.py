"""The contract of a query backend (DESIGN section 7): rows of a service become one columnar file.

TAP services, engineering facility databases and SQL databases are query backends. What they are asked is a
value, never a text that was pasted together: a statement has named parameters, and the backend
gives each value to its service by type, bound where the service can bind, else checked and quoted.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol, runtime_checkable

import msgspec

from pantry.backends.admission import Admission
from pantry.model.queries import (
    Circle,
    Instant,
    NamesQuery,
    ParameterValue,
    Point,
    Polygon,
    Query,
    Statement,
    TopicQuery,
)

__all__ = [
    "Circle",
    "Instant",
    "NamesQuery",
    "ParameterValue",
    "Point",
    "Polygon",
    "Query",
    "QueryBackend",
    "QueryBackendFactory",
    "QueryOutcome",
    "Statement",
    "TopicQuery",
    "ViewDefinition",
]


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

        One more row than ``query.max_rows`` is a `LimitExceededError`. Memory is bounded, however many rows come. What
        is written counts as it comes: the daemon ends a query whose file its cache has no room for. Each value is of
        the type that its parameter's declaration says; times are ISO 8601 texts. Units, descriptions and UCDs are in
        the schema as Pantry's Parquet formatter reads them. On cancellation the service is told to stop, where it can
        be told. If ``fd`` itself cannot be written, that is the caller's: a `pantry.backends.contract.SinkError`.
        """
        ...

    async def aclose(self) -> None:
        """Release connections and threads; the backend is not used afterwards."""
        ...


@runtime_checkable
class ViewDefinition(Protocol):
    """Backends whose database keeps selections as views (MWBT-0056)."""

    async def define_view(self, name: str, text: str) -> None:
        """Make the view ``name`` of the configured query ``text``, which has no parameters.

        No error if the view is there and says the same; one of our making that says otherwise is replaced, and
        what is none of ours is a `ConflictError`.
        """
        ...


class QueryBackendFactory(Protocol):
    """What an entry point in the group ``pantry.query_backends`` names."""

    def __call__(self, root: str, options: Mapping[str, object], admission: Admission) -> QueryBackend:
        """Make the backend for ``root`` (a URI of its scheme) with checked ``options``."""
        ...
