"""Data ids: from what users write to the values of required dimensions, checked against the records."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import sqlalchemy as sa

from pantry.daemon.registry.definitions import KnownType
from pantry.daemon.registry.engine import Database, Session, parameter
from pantry.daemon.registry.joins import ColumnLike, RecordJoin
from pantry.daemon.registry.schema import Schema, column_type
from pantry.errors import DataIdValueError, DimensionNameError
from pantry.model.data_id import DataCoordinate
from pantry.model.dimensions import DimensionGroup
from pantry.model.interpretation import Given, Interpretation, refuse_contradiction, show


class DataIds(Interpretation):
    """Resolves data ids.

    Parameters
    ----------
    database, schema
        Where the records are.
    """

    def __init__(self, database: Database, schema: Schema) -> None:
        self._database = database
        self._schema = schema
        super().__init__(schema.universe)

    # -- resolving one -----------------------------------------------------------------------------

    def search_values(self, session: Session, group: DimensionGroup, data_id: Mapping[str, object]) -> Given:
        """Complete a data id for a search: no query if all required dimensions are given."""
        given = self.interpret(group, data_id)
        if given.fields or any(name not in given.dimensions for name in group.required):
            found = self._resolve(session, group, given)
            return Given({**found.mapping, **given.dimensions}, {})  # type: ignore[dict-item]
        return given

    def expand(self, session: Session, group: DimensionGroup, data_id: Mapping[str, object]) -> DataCoordinate:
        """Complete a data id and give it with all implied values; every value must have its record."""
        return self._resolve(session, group, self.interpret(group, data_id))

    def _resolve(self, session: Session, group: DimensionGroup, given: Given) -> DataCoordinate:
        if all(name in given.dimensions for name in group.required):
            return self._verify(session, group, given)
        fields = tuple(given.fields)
        missing = [name for name in group.required if name not in given.dimensions]
        unknown = [name for name in missing if name not in self._schema.elements]
        if unknown or not (given.fields or given.dimensions):
            raise DimensionNameError(
                f"the data id lacks {', '.join(unknown or missing)}", hint=f"needed: {', '.join(group.required)}"
            )
        statement = self._database.prepare(
            ("resolve", group, tuple(sorted(given.dimensions)), fields),
            lambda: self._build_search(group, given),
        )
        values: dict[str, object] = {f"d_{name}": value for name, value in given.dimensions.items()}
        values |= {f"f_{element}_{column}": value for (element, column), value in given.fields.items()}
        rows = session.rows(statement, values)
        if len(rows) != 1:
            said = {**given.dimensions, **{f"{a}.{b}": value for (a, b), value in given.fields.items()}}
            if rows or not given.fields:
                raise DimensionNameError(
                    f"the data id {show(said)} lacks {', '.join(missing)}"
                    + ("" if not given.fields else ": several records have these values"),
                    hint=f"needed: {', '.join(group.required)}",
                )
            raise DataIdValueError(f"no dimension records have {show(said)}")
        count = len(group.required)
        return DataCoordinate(group.required, rows[0][:count], group.implied, rows[0][count:])

    def _build_search(self, group: DimensionGroup, given: Given) -> sa.Select[Any]:
        join = RecordJoin(self._schema, group)
        join.join_records()
        columns = [join.column(name) for name in group.names]
        tests = [join.column(name) == self.dimension_parameter(name) for name in given.dimensions]
        tests += [join.element(a).c[b] == self._field_parameter(a, b) for a, b in given.fields]
        return sa.select(*columns).select_from(join.source).where(*tests).limit(2)

    def _verify(self, session: Session, group: DimensionGroup, given: Given) -> DataCoordinate:
        fields = tuple(given.fields)
        checked = [name for name in group.required if name in self._schema.elements]
        statement = self._database.prepare(("verify", group, fields), lambda: self._build_check(group, fields))
        required = tuple(given.dimensions[name] for name in group.required)
        row = session.row(statement, {f"d_{name}": given.dimensions[name] for name in group.required})
        assert row is not None  # noqa: S101 - outer joins to one row
        self.refuse_missing(checked, row, dict(zip(group.required, required, strict=True)))
        middle, end = len(checked) + len(group.implied), len(checked) + len(group.implied) + len(fields)
        implied = row[len(checked) : middle]
        known: dict[str, object] = dict(zip(group.implied, implied, strict=True))
        known.update(zip([f"{a}.{b}" for a, b in fields], row[middle:end], strict=True))
        said: dict[str, object] = {name: given.dimensions[name] for name in group.implied if name in given.dimensions}
        said.update({f"{a}.{b}": value for (a, b), value in given.fields.items()})
        refuse_contradiction(group, required, known, said)
        return DataCoordinate(group.required, required, group.implied, implied)

    def refuse_missing(self, names: Sequence[str], row: Sequence[object], values: Mapping[str, object]) -> None:
        """Raise `DataIdValueError` for the first dimension whose record a row of an outer join lacks."""
        for name, found in zip(names, row, strict=False):
            if found is None:
                key = {part: values[part] for part in self._schema.element_key(name)}
                raise DataIdValueError(
                    f"there is no {name} record for {show(key)}",
                    hint="insert its dimension record first, or check the value",
                    dimension=name,
                )

    def _build_check(self, group: DimensionGroup, fields: Sequence[tuple[str, str]]) -> sa.Select[Any]:
        nothing = sa.select(sa.literal(1).label("one")).subquery("one_row")
        parameters = {name: self.dimension_parameter(name) for name in group.required}
        join = RecordJoin(self._schema, group, nothing, parameters, must_exist=False)
        found: list[ColumnLike] = [
            join.element(name).c[name] for name in group.required if name in self._schema.elements
        ]
        found += [join.column(name) for name in group.implied]
        found += [join.element(a).c[b] for a, b in fields]
        return sa.select(*(found or [sa.literal(1)])).select_from(join.source)

    def dimension_parameter(self, name: str) -> sa.BindParameter[Any]:
        """Parameter ``d_<name>`` for a dimension's value."""
        return parameter(f"d_{name}", column_type(self._universe[name].keys[0]))

    def _field_parameter(self, element: str, name: str) -> sa.BindParameter[Any]:
        return parameter(f"f_{element}_{name}", column_type(self.column(element, name)))

    # -- many at once ------------------------------------------------------------------------------

    def staged(self, known: KnownType) -> sa.Table:
        """Temporary table for values of a type's required dimensions."""
        return self._schema.staged_data_ids(known.group_id, known.group)

    def stage(self, session: Session, known: KnownType, rows: Sequence[Sequence[Any]]) -> sa.Table:
        """Write values of required dimensions into the temporary table; ``position`` is their index."""
        table = self.staged(known)
        session.create_temporary(table)
        session.run_many(self._database.prepare_insert(table), [(position, *row) for position, row in enumerate(rows)])
        return table

    def check_staged(self, session: Session, known: KnownType, names: Sequence[str] = ()) -> list[tuple[Any, ...]]:
        """Check that staged values have records; give the values of implied dimensions in their order.

        With ``names``, only the values of these dimensions.
        """
        statement = self._database.prepare(("missing", self.staged(known)), lambda: self._build_missing(known))
        row = session.row(statement)
        if row is not None:
            count = len(known.group.required)
            checked = [name for name in known.group.required if name in self._schema.elements]
            self.refuse_missing(checked, row[count:], dict(zip(known.group.required, row[:count], strict=True)))
        if not names:
            return []
        return session.rows(
            self._database.prepare(
                ("implied", self.staged(known), tuple(names)), lambda: self._build_implied(known, names)
            )
        )

    def _build_missing(self, known: KnownType) -> sa.Select[Any]:
        staged, group = self.staged(known), known.group
        join = RecordJoin(
            self._schema, group, staged, {name: staged.c[name] for name in group.required}, must_exist=False
        )
        found = [join.element(name).c[name] for name in group.required if name in self._schema.elements]
        values: list[ColumnLike] = [staged.c[name] for name in group.required]
        lacking = sa.or_(sa.false(), *[column.is_(None) for column in found])
        return sa.select(*(values or [sa.literal(1)]), *found).select_from(join.source).where(lacking).limit(1)

    def _build_implied(self, known: KnownType, names: Sequence[str]) -> sa.Select[Any]:
        staged, group = self.staged(known), known.group
        join = RecordJoin(self._schema, group, staged, {name: staged.c[name] for name in group.required})
        columns = [join.column(name) for name in names]
        return sa.select(*columns).select_from(join.source).order_by(staged.c.position)
