"""A Gen3 registry's tables, in the shape that the registry's queries take.

Each is a subquery over Gen3's own tables with our names for the columns; both databases look through
such a subquery to the indexes below it. Dataset ids and regions, which Gen3 stores as text, become
the bytes that they are. Nothing is ever written, but for temporary tables.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import sqlalchemy as sa

from pantry.daemon.registry.members import Members
from pantry.daemon.registry.schema import Schema, column_type
from pantry.model.dimensions import Column, DimensionElement, DimensionGroup, DimensionUniverse

_NO_COMPONENT = "__NULL_STRING__"
_TAI_MINUS_UTC_NS = 37_000_000_000
"""Since 2017; registries with dates of ingest in TAI were first made in 2023."""


class Gen3Schema(Schema):
    """The tables of a Gen3 registry.

    Parameters
    ----------
    universe : DimensionUniverse
        The registry's.
    is_sqlite : bool
        Which database it is in.
    nanoseconds : bool
        Whether dates of ingest are TAI nanoseconds.
    records : str
        Table of the datastore's records.

    Attributes
    ----------
    associations : dict of int to tuple of str
        For each dataset type its table of tags, and that of validity ranges if it has one.
    """

    has_data_ids = False

    def __init__(self, universe: DimensionUniverse, *, is_sqlite: bool, nanoseconds: bool, records: str) -> None:
        super().__init__(universe)
        self._is_sqlite = is_sqlite
        self.associations: dict[int, tuple[str, str | None]] = {}
        # What the queries take are selectables; that ours are tables matters to nobody who only reads.
        self.elements = cast("dict[str, sa.Table]", {name: self._element(universe[name]) for name in self.elements})
        self.sky_overlaps = cast("dict[str, sa.Table]", {name: self._overlap(name) for name in self.sky_overlaps})
        self.raw_dataset = sa.table("dataset", *map(sa.column, ("id", "dataset_type_id", "run_id", "ingest_date")))
        self.dataset = cast("sa.Table", self._datasets(records, nanoseconds))
        number, name = sa.column("collection_id", sa.BigInteger()).label("id"), sa.column("name", sa.String())
        named = sa.select(number, name).select_from(sa.table("collection"))
        self.collection = cast("sa.Table", named.subquery("collection"))

    # -- values ------------------------------------------------------------------------------------

    def _uuid(self, column: sa.ColumnElement[Any]) -> sa.ColumnElement[Any]:
        function = sa.func.pantry_unhex if self._is_sqlite else sa.func.uuid_send
        return function(column, type_=sa.LargeBinary())

    def _bytes(self, column: sa.ColumnElement[Any]) -> sa.ColumnElement[Any]:
        if self._is_sqlite:
            return sa.func.pantry_unbase64(column, type_=sa.LargeBinary())
        return sa.func.decode(column, "base64", type_=sa.LargeBinary())

    def _hex(self, column: sa.ColumnElement[Any]) -> sa.ColumnElement[Any]:
        if self._is_sqlite:
            return sa.func.pantry_base64_to_hex(column, type_=sa.String())
        return sa.func.encode(sa.func.decode(column, "base64"), "hex", type_=sa.String())

    def _ends(self, prefix: str = "timespan") -> tuple[sa.ColumnElement[Any], sa.ColumnElement[Any]]:
        if self._is_sqlite:
            begin, end = (sa.column(f"{prefix}_{which}", sa.BigInteger()) for which in ("begin", "end"))
            return begin, end
        span: sa.ColumnClause[Any] = sa.column(prefix)
        # An open end of the range is that of all time.
        return (
            sa.case((span.is_(None), sa.null()), else_=sa.func.coalesce(sa.func.lower(span), 0)).cast(sa.BigInteger),
            sa.case((span.is_(None), sa.null()), else_=sa.func.coalesce(sa.func.upper(span), FOREVER_NS)).cast(
                sa.BigInteger
            ),
        )

    @property
    def dataset_id_column(self) -> sa.ColumnElement[Any]:
        """The column itself, whose index a condition on bytes made of it could not use."""
        return self.dataset.c.id

    def dataset_id(self, raw: bytes) -> Any:
        """Give a dataset's id as the tables have it."""
        if self._is_sqlite:
            return raw.hex()
        from uuid import UUID

        return UUID(bytes=raw)

    # -- dimension records -------------------------------------------------------------------------

    def _element(self, element: DimensionElement) -> sa.Subquery:
        name = element.name
        if element.implied_union_target is not None:
            # Bands have no table: there are those of the filters.
            value = sa.column(name, column_type(element.keys[0]))
            return (
                sa.select(value)
                .select_from(sa.table(element.implied_union_target))
                .where(value.is_not(None))
                .distinct()
                .subquery(name)
            )
        columns: list[sa.ColumnElement[Any]] = []
        for required in self.element_key(name):
            kind = column_type(self.universe[required].keys[0])
            own = element.keys[0].name if required == name else required
            columns.append(sa.column(own, kind).label(required))
        columns += [self._value(key) for key in element.keys[1:]]
        columns += [sa.column(other, column_type(self.universe[other].keys[0])) for other in element.implies]
        columns += [self._value(column) for column in element.metadata]
        if element.temporal:
            begin, end = self._ends()
            columns += [begin.label("timespan_begin"), end.label("timespan_end")]
        if element.spatial:
            columns.append(self._bytes(sa.column("region")).label("region"))
        return sa.select(*columns).select_from(sa.table(name)).subquery(f"dimension_{name}")

    def _value(self, column: Column) -> sa.ColumnElement[Any]:
        value: sa.ColumnClause[Any] = sa.column(column.name, column_type(column))
        return self._hex(value).label(column.name) if column.type == "hash" else value

    def _overlap(self, name: str) -> sa.Subquery:
        table = sa.table(f"{name}_skypix_overlap")
        system = sa.column("skypix_system", sa.String())
        level, pixel = sa.column("skypix_level", sa.Integer()), sa.column("skypix_index", sa.BigInteger())
        common = self.universe.common_skypix
        kind = common.rstrip("0123456789")
        keys = [sa.column(other, column_type(self.universe[other].keys[0])) for other in self.element_key(name)]
        return (
            sa.select(pixel.label("pixel"), *keys)
            .select_from(table)
            .where(system == sa.literal(kind), level == sa.literal(int(common.removeprefix(kind))))
            .subquery(f"sky_overlap_{name}")
        )

    # -- datasets ----------------------------------------------------------------------------------

    def _datasets(self, records: str, nanoseconds: bool) -> sa.Subquery:
        dataset = self.raw_dataset.alias("d")
        file = sa.table(
            records, *map(sa.column, ("dataset_id", "path", "formatter", "component", "file_size", "storage_class"))
        ).alias("f")
        stored = sa.and_(file.c.dataset_id == dataset.c.id, file.c.component == sa.literal(_NO_COMPONENT))
        return (
            sa.select(
                dataset.c.id,
                self._uuid(dataset.c.id).label("uuid"),
                dataset.c.dataset_type_id,
                dataset.c.run_id,
                sa.func.coalesce(file.c.file_size, 0).label("size_bytes"),
                sa.null().label("hash"),
                sa.func.coalesce(file.c.formatter, "").label("formatter"),
                sa.func.coalesce(file.c.path, "").label("path"),
                self._ingest_ns(dataset.c.ingest_date, nanoseconds).label("ingest_ns"),
            )
            .select_from(dataset.join(file, stored, isouter=True))
            .subquery("dataset")
        )

    def _ingest_ns(self, date: sa.ColumnElement[Any], nanoseconds: bool) -> sa.ColumnElement[Any]:
        if nanoseconds:
            return date - sa.literal(_TAI_MINUS_UTC_NS, sa.BigInteger())
        second = sa.literal(1_000_000_000, sa.BigInteger())
        if self._is_sqlite:
            return sa.cast(sa.func.strftime("%s", date), sa.BigInteger) * second
        return sa.cast(sa.func.floor(sa.extract("epoch", date)), sa.BigInteger) * second

    def members(
        self, type_id: int, group_id: int, group: DimensionGroup, plain: Sequence[int], timed: Sequence[int]
    ) -> Members:
        """Members of collections, of one dataset type; see `Schema.members`."""
        tags, calibrations = self.associations[type_id]
        parts: list[sa.Select[Any]] = []
        for table, ids in ((tags, plain), (calibrations, timed)):
            if table is None or (not ids and (timed or table is not tags)):
                continue
            holder = sa.column("collection_id", sa.BigInteger())
            columns: list[sa.ColumnElement[Any]] = [holder, sa.column("dataset_id")]
            columns += [sa.column(name, column_type(self.universe[name].keys[0])) for name in group.required]
            if timed:
                absent = sa.null().cast(sa.BigInteger)
                ends = (absent, absent) if table is tags else self._ends()
                columns += [end.label(name) for end, name in zip(ends, ("begin_ns", "end_ns"), strict=True)]
            statement = sa.select(*columns).select_from(sa.table(table))
            parts.append(statement.where(sa.column("dataset_type_id") == type_id, holder.in_(ids)))
        members = (parts[0] if len(parts) == 1 else sa.union_all(*parts)).subquery("members")
        values: dict[str, sa.ColumnElement[Any]] = {name: members.c[name] for name in group.required}
        return Members(
            source=members,
            collection=members.c.collection_id,
            dataset=members.c.dataset_id,
            values=values,
            identity=list(values.values()) or [sa.literal(1)],
            span=(members.c.begin_ns, members.c.end_ns) if timed else None,
        )


FOREVER_NS = 4_102_444_800_000_000_000
"""2100-01-01T00:00:00 TAI, where Gen3's unbounded time spans end; they begin at 0."""
