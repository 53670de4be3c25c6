"""Where values for headers of raws come from: tables and records of the repository, and the EFD."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, cast
from uuid import UUID

from pantry.errors import (
    BackendError,
    DatasetNotFoundError,
    FormatterError,
    InvalidQueryError,
    MissingCollectionError,
    MissingDatasetTypeError,
    NotFoundError,
    PermissionDeniedError,
)

if TYPE_CHECKING:
    from pantry.client.butler.butler import Butler
    from pantry.client.butler.raws import Raws
    from pantry.client.instruments.amending import MergedValue, Subject
    from pantry.client.instruments.merging import Samples
    from pantry.model.datasets import DatasetRef
    from pantry.model.raw_headers import Merge

_MOST_TABLES = 16
Kept = dict[tuple[UUID, tuple[str, ...]], "Samples"]
"""Samples by the dataset and the columns; datasets never change."""


class TableSource:
    """Samples of a table that is a dataset; a `SampleSource`."""

    def __init__(self, butler: Raws, rule: Merge, kept: Kept) -> None:
        self._butler = butler
        self._rule = rule
        self._kept = kept

    @property
    def name(self) -> str:
        """What messages call it."""
        return f"{self._rule.table} in {', '.join(self._rule.collections)}"

    def samples(self, subject: Subject, columns: Sequence[str], begin_ns: int, end_ns: int) -> Samples | None:
        """Return the samples of a whole table; see `SampleSource`."""
        try:
            dimensions = self._butler.get_dataset_type(self._rule.table).dimensions
            values = {name: value for name, value in subject.data_id().items() if name in dimensions}
            # By the time of the exposure too: engineering data may be certified for a time, as calibrations are.
            ref = self._butler.find_dataset(
                self._rule.table,
                values,
                collections=self._rule.collections,
                timespan=(begin_ns, end_ns),
            )
        except (MissingDatasetTypeError, MissingCollectionError, DatasetNotFoundError):
            return None
        return None if ref is None else self._read(ref, tuple(columns))

    def _read(self, ref: DatasetRef, columns: tuple[str, ...]) -> Samples:
        key = (ref.id, columns)
        found = self._kept.get(key)
        if found is None:
            wanted = list(dict.fromkeys([self._rule.time, *columns]))
            table = self._butler.get_deferred(ref).get(parameters={"columns": wanted}, storage_class="ArrowAstropy")
            if len(self._kept) >= _MOST_TABLES:
                self._kept.clear()
            found = self._kept[key] = _samples(table, self._rule, columns, f"{ref.dataset_type.name} of {ref.run}")
        return found


class TopicSource:
    """Samples of the engineering facility database; a `SampleSource` (DMS-MWBT-REQ-0041, 0044).

    That it cannot be asked is a warning, unless the values are required: raws read on while it is down.
    """

    def __init__(self, butler: Raws, rule: Merge) -> None:
        self._butler = butler
        self._rule = rule

    @property
    def name(self) -> str:
        """What messages call it."""
        return f"the EFD's {self._rule.topic}"

    def samples(self, subject: Subject, columns: Sequence[str], begin_ns: int, end_ns: int) -> Samples | None:
        """Return the samples between two instants; see `SampleSource`."""
        rule = self._rule
        topic = cast("Butler", self._butler).efd.topic(rule.topic, index=rule.index, service=rule.service)
        try:
            table = topic.query(list(columns), timespan=(begin_ns, end_ns + 1), form="arrow")
        except InvalidQueryError as exc:
            raise FormatterError(exc.message, hint=exc.hint) from exc
        except (BackendError, NotFoundError, PermissionDeniedError) as exc:
            if rule.required:
                raise
            warnings.warn(f"{self.name} is left out of the header: {exc.message}", stacklevel=2)
            return None
        return _of_arrow(table, columns, self.name) if table.num_rows else None


def _of_arrow(table: Any, columns: Sequence[str], name: str) -> Samples:
    import numpy as np

    from pantry.client.efd.results import TIME
    from pantry.client.formatters.arrow import to_column
    from pantry.client.instruments.merging import Samples

    units = {one.name: one.metadata[b"unit"].decode() for one in table.schema if b"unit" in (one.metadata or {})}
    return Samples(
        times_ns=np.asarray(table[TIME].cast("int64")),
        columns={column: np.ma.asarray(to_column(column, table[column])) for column in columns},
        units={column: unit for column, unit in units.items() if column in columns},
        name=name,
    )


def _samples(table: Any, rule: Merge, columns: Sequence[str], name: str) -> Samples:
    import numpy as np

    from pantry.client.instruments.merging import Samples

    times = _times_ns(table[rule.time], rule, name)
    order = np.argsort(times, kind="stable")
    units = {column: str(unit) for column in columns if (unit := getattr(table[column], "unit", None)) is not None}
    values = {column: np.ma.asarray(table[column])[order] for column in columns}
    return Samples(times_ns=times[order], columns=values, units=units, name=name)


def _times_ns(column: Any, rule: Merge, name: str) -> Any:
    import numpy as np
    from astropy.time import Time

    try:
        if not isinstance(column, Time):
            data = np.asarray(column)
            if data.dtype.kind in "iuf" and not rule.time_format:
                raise FormatterError(
                    f"{name}: the times in {rule.time!r} are numbers", hint="say time_format: unix, unix_ns or mjd"
                )
            if data.dtype.kind in "iu" and rule.time_format == "unix_ns":
                seconds, rest = np.divmod(data.astype("int64"), 1_000_000_000)
                column = Time(seconds, rest / 1e9, format="unix" if rule.time_scale == "utc" else "unix_tai")
            elif data.dtype.kind in "iuf" and rule.time_format != "mjd":
                scale = 1e-9 if rule.time_format == "unix_ns" else 1.0
                column = Time(data * scale, format="unix" if rule.time_scale == "utc" else "unix_tai")
            elif data.dtype.kind in "iuf":
                column = Time(data, format="mjd", scale=rule.time_scale)
            elif data.dtype.kind == "M":
                column = Time(data, format="datetime64", scale=rule.time_scale)
            else:
                column = Time(data.astype("U"), scale=rule.time_scale)
        tai = column.tai
        days = np.rint((tai.jd1 - 2_440_587.5) * 2).astype("int64") * 43_200_000_000_000
        return days + np.rint(tai.jd2 * 86_400e9).astype("int64")
    except (ValueError, TypeError) as exc:
        raise FormatterError(f"{name}: the times in {rule.time!r} cannot be understood: {exc}") from None


class RecordMerge:
    """Fields of the dimension record of an exposure; a `Merge`."""

    def __init__(self, butler: Raws, rule: Merge) -> None:
        self._butler = butler
        self._rule = rule

    def values(self, subject: Subject, keywords: Mapping[str, Any]) -> Mapping[str, MergedValue]:
        """Return values by keyword; see `Merge`."""
        from pantry.client.instruments.amending import MergedValue
        from pantry.client.instruments.merging import wanted_columns

        wanted = wanted_columns(self._rule, keywords)
        if not wanted:
            return {}
        names = cast("Butler", self._butler).dimensions.element_group(self._rule.record).names
        values = {name: value for name, value in subject.data_id().items() if name in names}
        records = self._butler.query_dimension_records(self._rule.record, data_id=values, limit=2)
        if len(records) != 1:
            if self._rule.required or records:
                raise FormatterError(
                    f"{'several records' if records else 'no record'} of {self._rule.record} for {values}"
                )
            return {}
        record = records[0].values
        unknown = sorted({column for column, _ in wanted.values()} - record.keys())
        if unknown:
            raise FormatterError(
                f"{self._rule.record} has no {', '.join(unknown)}", hint=f"it has {', '.join(sorted(record))}"
            )
        return {
            keyword: MergedValue(value=record[column], source=f"{column} of the record of {self._rule.record}")
            for keyword, (column, _) in wanted.items()
            if record[column] is not None
        }
