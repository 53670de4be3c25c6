"""What a service of either kind must give: names, and rows as they are."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple, Protocol

import pyarrow as pa

from pantry.backends.efd.topics import Field, FieldType, Topic
from pantry.errors import BackendError

Checkpoint = Callable[[], None]
"""Called often; raises if nobody waits for the answer any more."""

ARROW: dict[FieldType, pa.DataType] = {
    "float": pa.float64(),
    "int": pa.int64(),
    "string": pa.string(),
    "bool": pa.bool_(),
}
"""Types of columns, in both kinds of EFD and whatever part of a span has the field."""

CELLS_PER_BATCH = 200_000
"""Values that one batch of a service may have, so that memory is bounded also for topics of hundreds of fields."""


class Rows(NamedTuple):
    """Which rows, and which fields of them.

    Attributes
    ----------
    topic : Topic
        Of the service.
    fields : tuple of Field
        Of the topic.
    begin, end : int
        Half-open bounds in the service's own time, nanoseconds since 1970.
    instance : int or None
        The instance of the component, if not all of them.
    descending : bool
        The last first.
    """

    topic: Topic
    fields: tuple[Field, ...]
    begin: int
    end: int
    instance: int | None
    descending: bool = False

    @property
    def batch_rows(self) -> int:
        """Rows for one batch."""
        return max(100, min(10_000, CELLS_PER_BATCH // (len(self.fields) + 1)))


class Batch(NamedTuple):
    """Rows in the order of the service's own time.

    Attributes
    ----------
    index_ns : pa.Array of int64
        The service's own time, nanoseconds since 1970, not null.
    columns : list of pa.Array
        For each field, null where a row has no value.
    """

    index_ns: pa.Array
    columns: list[pa.Array]


class Source(Protocol):
    """A service; blocking, and safe for use by many threads."""

    @property
    def location(self) -> str:
        """A URI without secrets."""
        ...

    def topics(self) -> dict[str, str]:
        """Return descriptions by topic, empty where there is none."""
        ...

    def topic(self, name: str) -> Topic:
        """Return the fields of one of `topics`."""
        ...

    def batches(self, rows: Rows, checkpoint: Checkpoint) -> Iterator[Batch]:
        """Iterate over rows; a generator that is closed early tells the service to stop."""
        ...

    def close(self) -> None:
        """Release connections."""
        ...


def column(values: tuple[Any, ...], field: Field, location: str) -> pa.Array:
    """Make a column of the values that came for a field.

    Raises
    ------
    BackendError
        If one of them is not of the field's type.
    """
    kind = ARROW[field.type]
    try:
        if field.type == "float":
            try:
                return pa.array(values, type=kind, from_pandas=False)
            except pa.ArrowInvalid:
                # Whole numbers beyond 2**53 come as int, and numeric as Decimal.
                return pa.array([None if one is None else float(one) for one in values], type=kind)
        return pa.array(values, type=kind)
    except (pa.ArrowInvalid, pa.ArrowTypeError, TypeError, ValueError, OverflowError):
        raise BackendError(f"{location} sent for the field {field.name!r} what is no {field.type}") from None
