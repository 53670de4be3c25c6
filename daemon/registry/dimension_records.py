"""Dimension records: checked, inserted in bulk, and given back."""

from __future__ import annotations

import functools
import math
from collections.abc import Iterable, Mapping, Sequence
from difflib import get_close_matches
from typing import Any

import sqlalchemy as sa

from pantry.daemon.registry.engine import ConstraintError, Database, Session
from pantry.daemon.registry.schema import Schema
from pantry.daemon.registry.sky import Pixels, decode_region
from pantry.errors import ConflictError, DataIdValueError, DimensionNameError, PermissionDeniedError
from pantry.model.dimensions import DimensionElement
from pantry.model.interpretation import check_column
from pantry.model.records import DimensionRecord
from pantry.model.timespan import Timespan

Row = tuple[Any, ...]


class DimensionRecords:
    """Writes and reads the records of dimension elements.

    Parameters
    ----------
    database, schema
        Where they are.
    """

    def __init__(self, database: Database, schema: Schema) -> None:
        self._database = database
        self._schema = schema
        self._universe = schema.universe
        self._pixels = Pixels(schema.universe)

    # -- checking ----------------------------------------------------------------------------------

    def check(self, records: Iterable[DimensionRecord]) -> dict[str, list[Row]]:
        """Check records against the universe and make them rows, by element in the order of the universe."""
        rows: dict[str, list[Row]] = {}
        for record in records:
            if record.element not in self._schema.elements:
                self._universe[record.element]
                raise DimensionNameError(f"{record.element!r} has no records: its values need none")
            if record.element in self._schema.foreign:
                raise PermissionDeniedError(
                    f"{record.element!r} is a table of this node's operator, which Pantry only reads",
                    hint="ask the operator to change it",
                )
            rows.setdefault(record.element, []).append(self._row(record))
        return {name: rows[name] for name in self._schema.elements if name in rows}

    def _row(self, record: DimensionRecord) -> Row:
        element = self._universe[record.element]
        values = dict(record.values)
        row: list[Any] = []
        for name in self._schema.element_key(element.name):
            # The element's own value goes by its key's name, as in Gen3, or by the dimension's.
            own = element.keys[0].name if name == element.name else name
            value = values.pop(own, None) if own in values else values.pop(name, None)
            if value is None:
                raise DataIdValueError(f"a record of {element.name} lacks {own!r}: {_show(record.values)}")
            row.append(self._universe.check_value(name, value))
        for key in element.keys[1:]:
            value = values.pop(key.name, None)
            if value is None:
                raise DataIdValueError(f"a record of {element.name} lacks {key.name!r}: {_show(record.values)}")
            row.append(check_column(key, f"{element.name}.{key.name}", value))
        for name in element.implies:
            value = values.pop(name, None)
            row.append(None if value is None else self._universe.check_value(name, value))
        for column in element.metadata:
            value = values.pop(column.name, None)
            if isinstance(value, float) and math.isnan(value):
                value = None  # SQLite has no NaN and PostgreSQL has; absent is what is meant
            if value is None and not column.nullable:
                raise DataIdValueError(f"a record of {element.name} lacks {column.name!r}: {_show(record.values)}")
            row.append(None if value is None else check_column(column, f"{element.name}.{column.name}", value))
        if values:
            self._refuse_names(element, list(values))
        return tuple(row + self._extent(element, record))

    def _refuse_names(self, element: DimensionElement, unknown: Sequence[str]) -> None:
        known = [column.name for column in self._schema.elements[element.name].c]
        known += [key.name for key in element.keys]
        close = [match for name in unknown for match in get_close_matches(name, known, n=2)]
        raise DimensionNameError(
            f"records of {element.name} have no {', '.join(map(repr, unknown))}",
            hint=f"did you mean {', '.join(close)}?" if close else f"known: {', '.join(known)}",
        )

    def _extent(self, element: DimensionElement, record: DimensionRecord) -> list[Any]:
        if record.timespan is not None and not element.temporal:
            raise DimensionNameError(f"records of {element.name} have no timespan")
        if record.region is not None and not element.spatial:
            raise DimensionNameError(f"records of {element.name} have no region")
        row: list[Any] = []
        if element.temporal:
            row += [record.timespan.begin_ns, record.timespan.end_ns] if record.timespan else [None, None]
        if element.spatial:
            if record.region is not None:
                try:
                    decode_region(record.region)
                except ValueError as exc:
                    raise DataIdValueError(
                        f"the region of a record of {element.name}: {exc}",
                        hint="give lsst.sphgeom.Region.encode()",
                    ) from None
            row.append(record.region)
        return row

    # -- inserting ---------------------------------------------------------------------------------

    def insert(
        self,
        session: Session,
        rows: Mapping[str, Sequence[Row]],
        *,
        skip_existing: bool,
        compare: bool = False,
        replace: bool = False,
    ) -> int:
        """Insert checked rows, all or none; give the number of records that were written."""
        count = 0
        for name, members in rows.items():
            self._stage(session, name, members)
            for other in self._universe[name].implies:
                if self._is_union(other, name):
                    self._insert_union(session, other, name)
            self._refuse_dangling(session, name)
            # A band record says nothing but its name, and may be there through a filter already.
            if replace:
                self._refuse_twice(name, members)
            elif not skip_existing and not any(self._is_union(name, other) for other in self._universe.elements):
                self._refuse_existing(session, name, members)
            if self._universe[name].spatial and replace:
                statement = self._database.prepare(("forget pixels", name), functools.partial(self._forget, name))
                session.run(statement)
            pixels = self._pixel_rows(session, name, members, replace) if self._universe[name].spatial else []
            statement = self._database.prepare(
                ("replace records" if replace else "insert records", name), functools.partial(self._copy, name, replace)
            )
            try:
                count += session.run(statement)
            except ConstraintError as exc:
                raise ConflictError(
                    f"a {name} record has the same {self._alternate_keys(name)} as another one", element=name
                ) from exc
            if pixels:
                session.run_many(self._database.prepare_insert(self._schema.sky_overlaps[name]), pixels)
            if compare:
                self._refuse_different(session, name)
        return count

    def _refuse_different(self, session: Session, name: str) -> None:
        """Raise for a staged record that says something else than the one in the table; absence says nothing."""
        table, key = self._schema.elements[name], self._schema.element_key(name)
        told = [column.name for column in table.c if column.name not in key]
        if not told:
            return
        row = session.row(self._database.prepare(("different", name), lambda: self._build_different(name, told)))
        if row is None:
            return
        count, pairs = len(key), len(told)
        theirs, ours = row[count : count + pairs], row[count + pairs :]
        for column, new, old in zip(told, theirs, ours, strict=True):
            if new is not None and new != old:
                shown = "" if isinstance(new, bytes | memoryview) else f": {old!r}, not {new!r}"
                raise ConflictError(
                    f"the {name} record {_show(dict(zip(key, row[:count], strict=True)))} is there and has another "
                    f"{column}{shown}",
                    hint=f"skip_dimensions={{{name!r}}} (--skip-dimensions {name}) keeps those that are there",
                    element=name,
                )

    def _build_different(self, name: str, told: Sequence[str]) -> sa.Select[Any]:
        staged, table = self._staging(name), self._schema.elements[name]
        key = self._schema.element_key(name)
        return (
            sa.select(
                *[staged.c[column] for column in key],
                *[staged.c[column].label(f"new_{column}") for column in told],
                *[table.c[column].label(f"old_{column}") for column in told],
            )
            .join_from(staged, table, sa.and_(*[staged.c[column] == table.c[column] for column in key]))
            .where(
                sa.or_(
                    *[
                        sa.and_(staged.c[column].is_not(None), staged.c[column].is_distinct_from(table.c[column]))
                        for column in told
                    ]
                )
            )
            .order_by(staged.c.position)
            .limit(1)
        )

    def _forget(self, name: str) -> Any:
        """Build the statement that takes staged records out of the sky index."""
        staged, overlaps = self._staging(name), self._schema.sky_overlaps[name]
        key = self._schema.element_key(name)
        return overlaps.delete().where(sa.exists().where(*[staged.c[part] == overlaps.c[part] for part in key]))

    def _pixel_rows(self, session: Session, name: str, members: Sequence[Row], replace: bool) -> list[Row]:
        """Give the rows of the sky index for staged records that are new, or for all if they are replaced."""
        length = len(self._schema.element_key(name))
        new: Sequence[Row] = members
        if not replace:
            statement = self._database.prepare(("new", name), lambda: self._build_new(name))
            new = [members[position] for (position,) in session.rows(statement)]
        found = []
        for key, encoded in {row[:length]: row[-1] for row in reversed(new) if row[-1] is not None}.items():
            region = decode_region(encoded)
            try:
                ranges = self._pixels.covering(region)
            except ValueError as exc:
                raise DataIdValueError(f"a record of {name}: {exc}") from None
            found += [(pixel, *key) for begin, end in ranges for pixel in range(begin, end)]
        return found

    def _build_new(self, name: str) -> sa.Select[Any]:
        staged, table = self._staging(name), self._schema.elements[name]
        there = sa.exists().where(*[staged.c[part] == table.c[part] for part in self._schema.element_key(name)])
        return sa.select(staged.c.position).where(~there).order_by(staged.c.position)

    def _alternate_keys(self, name: str) -> str:
        return " or ".join(key.name for key in self._universe[name].keys[1:]) or "key"

    def _staging(self, name: str) -> sa.Table:
        table = self._schema.elements[name]
        return self._schema.staging(f"record_{name}", [sa.Column(c.name, c.type) for c in table.c])

    def _stage(self, session: Session, name: str, rows: Sequence[Row]) -> None:
        staged = self._staging(name)
        session.create_temporary(staged)
        session.run_many(self._database.prepare_insert(staged), [(position, *row) for position, row in enumerate(rows)])

    def _copy(self, name: str, replace: bool) -> Any:
        staged, table = self._staging(name), self._schema.elements[name]
        # Without WHERE, SQLite reads the ON of ON CONFLICT as a join's.
        source = (
            sa.select(*[staged.c[column.name] for column in table.c])
            .where(staged.c.position >= 0)
            .order_by(staged.c.position)
        )
        key = self._schema.element_key(name)
        changed = [column.name for column in table.c if column.name not in key]
        if replace and changed:
            return self._database.insert_replacing(table, key, changed, source)
        return self._database.insert_ignoring(table, key, source)

    def _is_union(self, name: str, target: str) -> bool:
        """Whether a dimension's values are those that another one's records name: bands, by filters."""
        # Registries of the first Pantry do not say so in their universe.
        return self._universe[name].implied_union_target == target or (name, target) == ("band", "physical_filter")

    def _insert_union(self, session: Session, name: str, target: str) -> None:
        staged, table = self._staging(target), self._schema.elements[name]
        source = sa.select(staged.c[name]).where(staged.c[name].is_not(None)).distinct()
        session.run(
            self._database.prepare(
                ("insert union", name, target), lambda: self._database.insert_ignoring(table, [name], source)
            )
        )

    def _refuse_dangling(self, session: Session, name: str) -> None:
        element = self._universe[name]
        for other in (*element.requires, *element.implies):
            key = self._schema.element_key(other)
            build = functools.partial(self._build_dangling, name, other)
            row = session.row(self._database.prepare(("dangling", name, other), build))
            if row is not None:
                missing = _show(dict(zip(key, row, strict=True)))
                raise DataIdValueError(
                    f"there is no {other} record for {missing}, which a {name} record needs",
                    hint=f"insert the {other} record first or in the same call",
                    dimension=other,
                )

    def _build_dangling(self, name: str, other: str) -> sa.Select[Any]:
        staged, parent = self._staging(name), self._schema.elements[other]
        key = self._schema.element_key(other)
        there = sa.exists().where(*[parent.c[column] == staged.c[column] for column in key])
        return (
            sa.select(*[staged.c[column] for column in key])
            .where(staged.c[other].is_not(None), ~there)
            .order_by(staged.c.position)
            .limit(1)
        )

    def _refuse_twice(self, name: str, rows: Sequence[Row]) -> None:
        """Raise if one request says two things of one record."""
        key = self._schema.element_key(name)
        seen: set[Row] = set()
        for row in rows:
            if row[: len(key)] in seen:
                raise ConflictError(
                    f"two {name} records for {_show(dict(zip(key, row, strict=False)))} were given", element=name
                )
            seen.add(row[: len(key)])

    def _refuse_existing(self, session: Session, name: str, rows: Sequence[Row]) -> None:
        key = self._schema.element_key(name)
        row = session.row(self._database.prepare(("existing", name), lambda: self._build_existing(name)))
        if row is None:
            seen: set[Row] = set()
            for member in rows:
                if member[: len(key)] in seen:
                    row = member[: len(key)]
                    break
                seen.add(member[: len(key)])
        if row is not None:
            raise ConflictError(
                f"there is already a {name} record for {_show(dict(zip(key, row, strict=True)))}",
                hint="skip_existing leaves it as it is",
                element=name,
            )

    def _build_existing(self, name: str) -> sa.Select[Any]:
        staged, table = self._staging(name), self._schema.elements[name]
        key = self._schema.element_key(name)
        return (
            sa.select(*[staged.c[column] for column in key])
            .join_from(staged, table, sa.and_(*[staged.c[column] == table.c[column] for column in key]))
            .order_by(staged.c.position)
            .limit(1)
        )

    # -- reading -----------------------------------------------------------------------------------

    def columns(self, name: str) -> list[sa.Column[Any]]:
        """Columns of an element's table, in the order that `make` takes."""
        return list(self._schema.elements[name].c)

    def make(self, name: str, rows: Iterable[Row]) -> list[DimensionRecord]:
        """Make records of rows with all columns of an element's table."""
        element = self._universe[name]
        columns = self._schema.elements[name].c
        names = [column.name for column in columns]
        if element.is_dimension:
            names[names.index(name)] = element.keys[0].name
        extent = (2 if element.temporal else 0) + (1 if element.spatial else 0)
        count = len(names) - extent
        names = names[:count]
        # SQLite stores truth as 0 and 1.
        truths = [position for position, column in enumerate(columns) if isinstance(column.type, sa.Boolean)]
        made = []
        for row in rows:
            values = dict(zip(names, row, strict=False))
            for position in truths:
                if row[position] is not None:
                    values[names[position]] = bool(row[position])
            timespan = Timespan(row[count], row[count + 1]) if element.temporal and row[count] is not None else None
            made.append(
                DimensionRecord(
                    element=name, values=values, timespan=timespan, region=row[-1] if element.spatial else None
                )
            )
        return made


def _show(values: Mapping[str, object]) -> str:
    return "{" + ", ".join(f"{name}: {value!r}" for name, value in values.items()) + "}"
