"""The EFD backend: one kind of query over both kinds of services."""

from __future__ import annotations

import os
import random
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import TypeVar

import pyarrow as pa
import trio

from pantry.backends.admission import Admission
from pantry.backends.columnar import write_tables
from pantry.backends.efd._blocking import make_source
from pantry.backends.efd.bins import averaged, means
from pantry.backends.efd.descriptions import described, load_descriptions
from pantry.backends.efd.samples import Chosen, Samples, last_sample, samples_between
from pantry.backends.efd.source import ARROW, Checkpoint
from pantry.backends.efd.tables import TIME, Column, schema_of
from pantry.backends.efd.topics import Field, Topic, chosen_fields, missing_topic
from pantry.backends.querying import NamesQuery, Query, QueryBackendFactory, QueryOutcome, TopicQuery
from pantry.errors import InvalidQueryError, TransientBackendError
from pantry.model.timespan import BEGIN_NS, END_NS

T = TypeVar("T")
_BACKOFF_S = 0.1
_NAME_COLUMNS = ("type", "unit", "description")
_SHORTER = "ask for a shorter span, or resample it"


class EfdBackend:
    """A base or a transformed EFD; a `pantry.backends.querying.QueryBackend`.

    Parameters
    ----------
    root : str
        ``efd+https://host:8086/database``, or ``efd+postgresql://host/database``.
    options : Mapping[str, object]
        As of `pantry.backends.efd.options`, and a credential.
    admission : Admission
        Lets the blocking requests into threads.
    """

    def __init__(self, root: str, options: Mapping[str, object], admission: Admission) -> None:
        self._source, self._options = make_source(root, options)
        self._descriptions = load_descriptions(self._options.descriptions)
        self._admission = admission
        self._known = _Known(self._options.schema_ttl_s)

    def __repr__(self) -> str:
        return f"EfdBackend({self.location!r})"

    @property
    def location(self) -> str:
        """The root as a URI."""
        return self._source.location

    @property
    def kinds(self) -> tuple[type[Query], ...]:
        """Samples of topics, and names of topics and fields."""
        return (TopicQuery, NamesQuery)

    async def run_into(self, query: Query, fd: int) -> QueryOutcome:
        """Write the answer as one Parquet file; what failed in a way that may pass is asked again."""
        run = partial(self._run, query, fd, trio.from_thread.check_cancelled)
        for attempt in range(1, self._options.max_attempts + 1):
            try:
                return await self._admission.call(run)
            except TransientBackendError:
                if attempt == self._options.max_attempts:
                    raise
            os.ftruncate(fd, 0)
            os.lseek(fd, 0, os.SEEK_SET)
            await trio.sleep(_BACKOFF_S * 2**attempt * random.uniform(0.5, 1.0))  # noqa: S311 - jitter
        raise AssertionError

    async def aclose(self) -> None:
        """Close all connections."""
        await self._admission.call(self._source.close)

    # -- in a thread ---------------------------------------------------------------------------

    def _run(self, query: Query, fd: int, checkpoint: Checkpoint) -> QueryOutcome:
        if isinstance(query, NamesQuery):
            return self._names(query, fd)
        if isinstance(query, TopicQuery):
            return self._samples(query, fd, checkpoint)
        raise InvalidQueryError(
            f"{self.location} is an EFD, which answers no statements", hint="ask for a topic and a time span"
        )

    def _topic(self, name: str) -> Topic:
        topics = self._known.get("", self._source.topics)
        if name not in topics:
            raise missing_topic(name, topics, self.location)
        return self._known.get(name, lambda: described(self._source.topic(name), self._descriptions.get(name)))

    def _samples(self, query: TopicQuery, fd: int, checkpoint: Checkpoint) -> QueryOutcome:
        start, stop = _checked(query)
        topic = self._topic(query.topic)
        fields = tuple(chosen_fields(topic, query.fields))
        if query.resample_ns:
            fields = averaged(fields, named=bool(query.fields))
        if query.index is not None and not (
            topic.field(self._options.index_field) or self._options.index_field in topic.tags
        ):
            raise InvalidQueryError(f"the topic {topic.name!r} has no {self._options.index_field}", topic=topic.name)
        chosen = Chosen(topic, fields, query.index, self._options)
        schema = _schema(topic, fields, query)
        answer: Iterator[Samples]
        if query.nearest_before:
            last = last_sample(self._source, chosen, start, stop, checkpoint)
            answer = iter(() if last is None else (last,))
        else:
            answer = samples_between(self._source, chosen, start, stop, checkpoint) if start < stop else iter(())
            if query.resample_ns:
                answer = means(answer, fields, start, query.resample_ns)
        return write_tables((_table(one, schema) for one in answer), schema, fd, query.max_rows, hint=_SHORTER)

    def _names(self, query: NamesQuery, fd: int) -> QueryOutcome:
        if query.topic:
            topic = self._topic(query.topic)
            rows: list[tuple[str, ...]] = [(one.name, one.type, one.unit, one.description) for one in topic.fields]
            columns = [Column(name, pa.string()) for name in ("field", *_NAME_COLUMNS)]
        else:
            topics = self._known.get("", self._source.topics)
            more = {name: one.description for name, one in self._descriptions.items()}
            rows = [(name, found or more.get(name, "")) for name, found in sorted(topics.items())]
            columns = [Column(name, pa.string()) for name in ("topic", "description")]
        schema = schema_of(columns, {})
        arrays = [pa.array([row[number] for row in rows], pa.string()) for number in range(len(columns))]
        return write_tables([pa.Table.from_arrays(arrays, schema=schema)], schema, fd, query.max_rows, hint=_SHORTER)


def _checked(query: TopicQuery) -> tuple[int, int]:
    """Return the span of a query, within the years that the services can count; see the errors for what cannot be."""
    if query.stop_tai_ns < query.start_tai_ns:
        raise InvalidQueryError("the span ends before it begins")
    if query.resample_ns < 0:
        raise InvalidQueryError("bins have a positive length")
    if query.resample_ns and query.nearest_before:
        raise InvalidQueryError("the nearest sample before an instant is one sample, and has no bins")
    if query.index is not None and not -(2**31) <= query.index < 2**31:
        raise InvalidQueryError("an index has 32 bits")
    return min(max(query.start_tai_ns, BEGIN_NS), END_NS), max(min(query.stop_tai_ns, END_NS), BEGIN_NS)


def _schema(topic: Topic, fields: tuple[Field, ...], query: TopicQuery) -> pa.Schema:
    resampled = bool(query.resample_ns)
    columns = [Column(TIME, pa.timestamp("ns"), description="beginning of the bin, TAI" if resampled else "TAI")]
    columns += [
        Column(one.name, pa.float64() if resampled else ARROW[one.type], one.unit, one.description) for one in fields
    ]
    meta: dict[str, str | int | float] = {"topic": topic.name}
    meta |= {"description": topic.description} if topic.description else {}
    meta |= {"salIndex": query.index} if query.index is not None else {}
    meta |= {"resample_s": query.resample_ns / 1e9} if resampled else {}
    return schema_of(columns, meta)


def _table(one: Samples, schema: pa.Schema) -> pa.Table:
    return pa.Table.from_arrays([pa.array(one.ns).cast(pa.timestamp("ns")), *one.table.columns], names=schema.names)


class _Known:
    """What was learned of a service's names, for a while; a thread that is late may ask once more."""

    def __init__(self, ttl_s: float) -> None:
        self._ttl_s = ttl_s
        self._lock = threading.Lock()
        self._found: dict[str, tuple[float, object]] = {}

    def get(self, name: str, ask: Callable[[], T]) -> T:
        """Return what is known by a name, or ask."""
        now = time.monotonic()
        with self._lock:
            known = self._found.get(name)
        if known is not None and now - known[0] < self._ttl_s:
            return known[1]  # type: ignore[return-value]
        found = ask()
        with self._lock:
            self._found[name] = (now, found)
        return found


def make_efd_backend(root: str, options: Mapping[str, object], admission: Admission) -> EfdBackend:
    """Make an `EfdBackend`.

    Raises
    ------
    ConfigError
        For a bad root or option.
    """
    return EfdBackend(root, options, admission)


EfdBackendFactory: QueryBackendFactory = make_efd_backend
"""What the entry point names."""
