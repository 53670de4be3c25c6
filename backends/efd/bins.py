"""Means of samples in bins of time, taken here and not by the services.

Services would take them by their own time, whose bins break at leap seconds, and add in orders of their own. Here
values are added one after the other in the order of their instants, so that both kinds of EFD give the same digits.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from pantry.backends.efd.samples import Samples
from pantry.backends.efd.topics import Field
from pantry.errors import InvalidQueryError


def averaged(fields: Iterable[Field], *, named: bool) -> tuple[Field, ...]:
    """Return the fields that have means, which are floats.

    Parameters
    ----------
    fields : iterable of Field
        What was asked for.
    named : bool
        Whether they were asked for by name: then a field without means is an error, else it is left out.

    Raises
    ------
    InvalidQueryError
        A text or a boolean was named, or nothing is left.
    """
    fields = list(fields)
    numbers = tuple(one for one in fields if one.type in ("float", "int"))
    if (named and len(numbers) < len(fields)) or not numbers:
        without = [one.name for one in fields if one not in numbers]
        raise InvalidQueryError(
            f"there are no means of {', '.join(without[:5])}", hint="leave it out, or ask for the samples themselves"
        )
    return numbers


class _Open:
    """The bin that is not full yet: its number, and by field how many values and their sum."""

    def __init__(self, size: int) -> None:
        self.number: int | None = None
        self.counts = np.zeros(size, dtype=np.int64)
        self.sums = np.zeros(size)


def means(
    samples: Iterable[Samples], fields: tuple[Field, ...], start_tai_ns: int, length_ns: int
) -> Iterator[Samples]:
    """Iterate over means per bin; bins without any value are absent, and a mean without values is null.

    Parameters
    ----------
    samples : iterable of Samples
        In ascending order, none before ``start_tai_ns``.
    fields : tuple of Field
        Of the samples' tables, all numbers. NaN is no value.
    start_tai_ns, length_ns : int
        Where the first bin begins, and how long each is.

    Yields
    ------
    Samples
        With the beginning of each bin as its instant.
    """
    open_bin = _Open(len(fields))
    for one in samples:
        numbers = (one.ns - start_tai_ns) // length_ns
        bins, where = np.unique(numbers, return_inverse=True)
        carried = open_bin.number is not None and open_bin.number == int(bins[0])
        if open_bin.number is not None and not carried:
            bins, where = np.concatenate([[open_bin.number], bins]), where + 1
        counts = np.zeros((len(fields), len(bins)), dtype=np.int64)
        sums = np.zeros((len(fields), len(bins)))
        for row, column in enumerate(one.table.columns):
            values, known = _numbers(column)
            place = where[known]
            counts[row] = np.bincount(place, minlength=len(bins))
            # The sum so far goes first: so the result does not depend on where a batch ended.
            sums[row] = np.bincount(
                np.concatenate([[0], place]), np.concatenate([[open_bin.sums[row]], values[known]]), len(bins)
            )
        counts[:, 0] += open_bin.counts
        yield from _made(fields, bins[:-1], counts[:, :-1], sums[:, :-1], start_tai_ns, length_ns)
        open_bin.number, open_bin.counts, open_bin.sums = int(bins[-1]), counts[:, -1], sums[:, -1]
    if open_bin.number is not None:
        last = np.array([open_bin.number])
        yield from _made(fields, last, open_bin.counts[:, None], open_bin.sums[:, None], start_tai_ns, length_ns)


def _numbers(column: pa.ChunkedArray) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    values = column.cast(pa.float64(), safe=False).to_numpy()
    return values, ~np.isnan(values)


def _made(
    fields: tuple[Field, ...],
    bins: NDArray[np.int64],
    counts: NDArray[np.int64],
    sums: NDArray[np.float64],
    start_tai_ns: int,
    length_ns: int,
) -> Iterator[Samples]:
    kept = counts.any(axis=0)
    if not kept.any():
        return
    counts, sums = counts[:, kept], sums[:, kept]
    with np.errstate(invalid="ignore"):
        values = sums / np.maximum(counts, 1)
    columns = [pa.array(one, mask=count == 0) for one, count in zip(values, counts, strict=True)]
    schema = pa.schema([pa.field(one.name, pa.float64()) for one in fields])
    yield Samples(start_tai_ns + bins[kept] * length_ns, pa.Table.from_arrays(columns, schema=schema))
