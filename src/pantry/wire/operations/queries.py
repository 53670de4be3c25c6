"""Operations on services that answer queries."""

from __future__ import annotations

import msgspec

from pantry.model.queries import Parameter, ParameterValue, Query
from pantry.wire.operations.base import Operation

MAX_TABLES = 16
"""Most tables that come with one query."""

MAX_TABLE_BYTES = 64 * 1024 * 1024
"""Longest file of one of them, in bytes."""


class QueryInfo(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A configured query.

    Attributes
    ----------
    name, service : str
        By which it is called, and whom it is asked of.
    parameters : dict
        What it needs.
    fixed : bool
        Its answer never changes.
    ttl_s : float
        Otherwise, how long its answer is kept, in seconds.
    doc : str
        For people.
    """

    name: str
    service: str
    parameters: dict[str, Parameter] = {}
    fixed: bool = False
    ttl_s: float = 0.0
    doc: str = ""


class ServiceInfo(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A service that the asking user may ask.

    Attributes
    ----------
    name : str
        By which it is called.
    location : str
        Its URI, without secrets.
    statements : bool
        Whether the user may send statements of his own.
    """

    name: str
    location: str
    statements: bool = False


class QueryList(msgspec.Struct, frozen=True):
    """What the asking user may ask."""

    services: tuple[ServiceInfo, ...]
    queries: tuple[QueryInfo, ...]


class ListQueries(Operation[QueryList], frozen=True, kw_only=True, tag="query.list"):
    """List services and configured queries that the user may ask."""

    result_type = QueryList


class QueryAnswer(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """An answer; the read-only descriptor of its Parquet file comes with it.

    Attributes
    ----------
    name : str
        Service, and query if it is a configured one, for people.
    size_bytes : int
        Length of the file.
    answered_ns : int
        When the service gave it, nanoseconds since 1970-01-01 UTC.
    was_cached : bool
        Whether it was in the cache.
    origin : str
        URI of the service, without secrets.
    """

    name: str
    size_bytes: int
    answered_ns: int
    was_cached: bool = False
    origin: str = ""


class RunQuery(Operation[QueryAnswer], frozen=True, kw_only=True, omit_defaults=True, tag="query.run"):
    """Run a configured query, or a question of the user's own.

    Attributes
    ----------
    query : str
        Name of a configured query or selection. Otherwise:
    service : str
        Whom to ask.
    question : Query or None
        What; a statement's ``tables`` stay empty.
    parameters : dict
        Values for a configured query.
    tables : tuple of str
        Parameters that are tables; descriptors of Parquet files come with the request in this order.
    cached_only : bool
        Ask nobody: `NotCachedError` if the answer is not in the cache.
    """

    result_type = QueryAnswer
    query: str = ""
    service: str = ""
    question: Query | None = None
    parameters: dict[str, ParameterValue] = {}
    tables: tuple[str, ...] = ()
    cached_only: bool = False
