"""Questions to a bundle about many datasets: the same answers as of a repository, for what a bundle can answer."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any
from uuid import UUID

from pantry.client.bundles.contents import Contents, KnownType
from pantry.client.bundles.data_ids import BundleDataIds
from pantry.client.bundles.index import BundleIndex
from pantry.client.bundles.lookup import COLUMNS, Row
from pantry.errors import (
    CollectionTypeError,
    DatasetNotFoundError,
    DimensionNameError,
    InvalidQueryError,
    InvalidRequestError,
)
from pantry.model.collections import CollectionInfo, CollectionType
from pantry.model.data_id import DataCoordinate, RecordElements
from pantry.model.dimensions import DimensionGroup
from pantry.model.patterns import is_glob
from pantry.model.records import DimensionRecord
from pantry.wire.operations import (
    DataIdBatch,
    MetadataBatch,
    QueryDataIds,
    QueryDatasets,
    QueryDimensionRecords,
    QueryMetadata,
    RecordBatch,
    RefBatch,
)
from pantry.wire.operations.registry import RecordTable

_BATCH = 5_000
_VARIABLES = 900
"""Values in one statement; SQLite may have been built to take no more than 999."""
Test = Callable[[Row], bool]


class Queries:
    """Finds datasets, data ids and records of a bundle.

    Parameters
    ----------
    index : BundleIndex
        Where they are.
    contents : Contents
        What is known besides.
    data_ids : BundleDataIds
        Resolves data ids.
    """

    def __init__(self, index: BundleIndex, contents: Contents, data_ids: BundleDataIds) -> None:
        self._index = index
        self._contents = contents
        self._data_ids = data_ids

    # -- many --------------------------------------------------------------------------------------

    def select(self, query: QueryDatasets) -> Iterator[tuple[KnownType, list[Row]]]:
        """Find datasets, by type."""
        _refuse_expression(query.where, query.bind)
        if query.limit is not None and query.limit < 0:
            raise InvalidRequestError(f"a limit is not negative: {query.limit}")
        definitions = self._contents.definitions()
        collections = definitions.search(query.collections)
        if not query.collections:
            raise InvalidRequestError("no collections to search", hint="name them: collections=...")
        excluded = self._excluded(query)
        for known in definitions.match_types(query.dataset_types):
            named = known.definition.name in query.dataset_types
            try:
                test = self._test(known, query.data_id)
            except DimensionNameError:
                if named:
                    raise
                continue  # a type that only a pattern matches
            rows = [row for row in self._members(known, collections, query, named) if test(row) and not excluded(row)]
            if query.order_by:
                rows = self._sorted(known, rows, query.order_by)
            yield known, rows if query.limit is None else rows[: query.limit]

    def by_ids(self, dataset_type: str, packed: bytes) -> Iterator[Row]:
        """Give datasets of a type by their ids, in their order."""
        ids = [packed[begin : begin + 16] for begin in range(0, len(packed), 16)]
        found: dict[bytes, Row] = {}
        for begin in range(0, len(ids), _VARIABLES):
            some = ids[begin : begin + _VARIABLES]
            places = ", ".join("?" * len(some))
            rows = self._index.rows(
                f"SELECT {COLUMNS} FROM dataset AS d WHERE d.dataset_type = ? AND d.id IN ({places})",  # noqa: S608
                (dataset_type, *some),
            )
            found.update((row[0], Row._make(row)) for row in rows)
        for id_ in ids:
            if id_ not in found:
                raise DatasetNotFoundError(f"the bundle has no {dataset_type} with the id {UUID(bytes=id_)}")
            yield found[id_]

    def _members(
        self, known: KnownType, collections: Sequence[CollectionInfo], query: QueryDatasets, named: bool
    ) -> list[Row]:
        first: dict[str, Row] = {}
        every: dict[bytes, Row] = {}
        for collection in collections:
            if collection.type is CollectionType.CALIBRATION and query.find_first:
                if not known.definition.is_calibration:
                    continue
                if named and collection.name in query.collections:
                    raise CollectionTypeError(
                        f"which {known.definition.name} in a CALIBRATION collection comes first depends on the time",
                        hint="ask with find_first=False, or `get` it with the exposure",
                    )
                continue
            source = "dataset AS d WHERE d.run = ?"
            if collection.type is not CollectionType.RUN:
                source = "member AS m JOIN dataset AS d USING (number) WHERE m.collection = ?"
            rows = self._index.rows(
                f"SELECT {COLUMNS} FROM {source} AND d.dataset_type = ? ORDER BY d.number",  # noqa: S608 - constants
                (collection.name, known.definition.name),
            )
            for row in map(Row._make, rows):
                if query.find_first:
                    first.setdefault(row.data_id, row)
                else:
                    every.setdefault(row.id, row)
        return list(first.values()) if query.find_first else list(every.values())

    def _test(self, known: KnownType, data_id: Mapping[str, object]) -> Test:
        """Make the condition that datasets agree with a data id, also in what their records say."""
        if not data_id:
            return lambda row: True
        group = known.group
        strange = [
            name
            for name in data_id
            if name.partition(".")[0] in self._contents.universe and name.partition(".")[0] not in group.names
        ]
        if strange:
            raise DimensionNameError(
                f"{known.definition.name} has no dimension {', '.join(strange)}, and a bundle relates no others",
                hint=f"its dimensions: {', '.join(group.names)}",
            )
        given = self._data_ids.interpret(group, data_id)
        place = {name: number for number, name in enumerate(group.required)}
        direct = [(place[name], value) for name, value in given.dimensions.items() if name in place]
        implied = {name: value for name, value in given.dimensions.items() if name not in place}

        def test(row: Row) -> bool:
            required = json.loads(row.data_id)
            if any(required[number] != value for number, value in direct):
                return False
            if not implied and not given.fields:
                return True
            values = self._contents.implied(group, required).mapping
            if any(values.get(name) != value for name, value in implied.items()):
                return False
            for (element, column), value in given.fields.items():
                record = self._contents.record(element, values)
                if record is None or record.values.get(column) != value:
                    return False
            return True

        return test

    def _excluded(self, query: QueryDatasets) -> Test:
        given = query.exclude
        if given is None:
            return lambda row: False
        ids = {given.ids[begin : begin + 16] for begin in range(0, len(given.ids), 16)}
        tests = []
        for group in given.data_ids:
            known = self._contents.definitions().dataset_type(group.dataset_type)
            places = [known.group.required.index(name) for name in group.dimensions if name in known.group.required]
            if len(places) < len(group.dimensions):
                raise DimensionNameError(
                    f"exclude: {group.dataset_type!r} has no required dimension "
                    f"{', '.join(set(group.dimensions) - set(known.group.required))}",
                    hint=f"its required dimensions: {', '.join(known.group.required)}",
                )
            columns = [
                [self._data_ids.check_value(name, value) for value in column]
                for name, column in zip(group.dimensions, group.columns, strict=True)
            ]
            runs = [group.runs[number] for number in group.run_index] if group.runs else None
            values = set(zip(*columns, *([runs] if runs else []), strict=True))
            tests.append((known.definition.name, places, bool(runs), values))

        def test(row: Row) -> bool:
            if row.id in ids:
                return True
            required = json.loads(row.data_id) if tests else []
            return any(
                row.dataset_type == name
                and (*(required[place] for place in places), *([row.run] if with_run else [])) in values
                for name, places, with_run, values in tests
            )

        return test

    def _sorted(self, known: KnownType, rows: list[Row], order_by: Sequence[str]) -> list[Row]:
        for term in reversed(order_by):
            name = term.removeprefix("-")
            if name not in known.group.required:
                raise InvalidQueryError(
                    f"a bundle sorts by the required dimensions of {known.definition.name}, not by {name!r}",
                    hint=f"one of {', '.join(known.group.required)}",
                )
            place = known.group.required.index(name)
            rows = sorted(rows, key=lambda row: json.loads(row.data_id)[place], reverse=term.startswith("-"))
        return rows

    def datasets(self, query: QueryDatasets) -> Iterator[RefBatch]:
        """Find datasets, in batches."""
        for known, rows in self.select(query):
            for begin in range(0, len(rows), _BATCH):
                yield self._batch(known, rows[begin : begin + _BATCH], records=query.with_dimension_records)

    def metadata(self, asked: QueryMetadata) -> Iterator[MetadataBatch]:
        """Find datasets with their declared metadata, in batches."""
        for known, rows in self.select(asked.query):
            declared = [entry.name for entry in known.definition.metadata]
            if not declared and any(map(is_glob, asked.query.dataset_types)):
                continue
            strange = [name for name in asked.entries if name not in declared]
            if strange or not declared:
                raise InvalidQueryError(
                    f"the dataset type {known.definition.name!r} declares no metadata {', '.join(strange)}".rstrip(),
                    hint=f"it declares {', '.join(declared) or 'none'}",
                )
            for begin in range(0, len(rows), _BATCH):
                some = rows[begin : begin + _BATCH]
                values = [row.declared for row in some]
                columns = {name: [one.get(name) for one in values] for name in asked.entries or declared}
                yield MetadataBatch(self._batch(known, some), columns)

    def _batch(self, known: KnownType, rows: Sequence[Row], *, records: bool = False) -> RefBatch:
        group = known.group
        required = [json.loads(row.data_id) for row in rows]
        columns: list[list[Any]] = [list(column) for column in zip(*required, strict=True)]
        tables: list[RecordTable] = []
        if records:
            data_ids = [self._contents.implied(group, values) for values in required]
            columns += [list(column) for column in zip(*(one.implied_values for one in data_ids), strict=True)]
            tables = self._tables(group, data_ids)
        runs = list(dict.fromkeys(row.run for row in rows))
        place = {run: number for number, run in enumerate(runs)}
        return RefBatch(
            dataset_type=known.definition,
            required=group.required,
            implied=group.implied if records else (),
            ids=b"".join(row.id for row in rows),
            columns=columns,
            runs=runs,
            run_index=[place[row.run] for row in rows],
            records=tables,
        )

    def _tables(self, group: DimensionGroup, data_ids: Sequence[DataCoordinate]) -> list[RecordTable]:
        attached = [self._contents.expanded(group, one).attached for one in data_ids]
        elements = attached[0].elements if attached and attached[0] is not None else RecordElements(())
        tables = []
        for number, name in enumerate(elements.names):
            needed = self._contents.universe.required(name)
            place: dict[tuple[Any, ...], int] = {}
            records: list[DimensionRecord] = []
            rows = []
            for data_id, one in zip(data_ids, attached, strict=True):
                record = one.values[number] if one is not None else None
                key = tuple(data_id[part] for part in needed)
                if record is not None and key not in place:
                    place[key] = len(records)
                    records.append(record)
                rows.append(-1 if record is None else place[key])
            tables.append(RecordTable(name, records, rows, name in elements.spatial, name in elements.temporal))
        return tables

    # -- data ids and records ----------------------------------------------------------------------

    def query_data_ids(self, query: QueryDataIds) -> Iterator[DataIdBatch]:
        """Find data ids of datasets."""
        if not query.dataset_types:
            raise InvalidRequestError(
                "a bundle knows data ids only of its datasets",
                hint="name dataset_types, or query the dimension records",
            )
        group = self._contents.universe.group(query.dimensions)
        found: dict[tuple[Any, ...], None] | None = None
        for name in query.dataset_types:
            asked = QueryDatasets(
                repository=query.repository,
                dataset_types=(name,),
                collections=query.collections,
                find_first=False,
                data_id=query.data_id,
                where=query.where,
                bind=query.bind,
            )
            there: dict[tuple[Any, ...], None] = {}
            for known, rows in self.select(asked):
                if not set(group.names) <= set(known.group.names):
                    raise InvalidRequestError(
                        f"{known.definition.name} has not the dimensions {', '.join(group.required)}, and a bundle "
                        "relates no others",
                        hint="ask the repository",
                    )
                for row in rows:
                    values = self._contents.implied(known.group, json.loads(row.data_id)).mapping
                    there[tuple(values[part] for part in group.required)] = None
            found = there if found is None else {key: None for key in found if key in there}
        if query.order_by:
            raise InvalidQueryError("a bundle does not sort data ids", hint="sort them in Python")
        keys = list(found or ())[: query.limit]
        data_ids = [self._contents.implied(group, key) for key in keys]
        if data_ids:
            pairs = zip(*((*one.required_values, *one.implied_values) for one in data_ids), strict=True)
            tables = self._tables(group, data_ids) if query.with_dimension_records else []
            yield DataIdBatch(group.required, group.implied, [list(column) for column in pairs], tables)

    def dimension_records(self, query: QueryDimensionRecords) -> Iterator[RecordBatch]:
        """Find the records of one element that the bundle has."""
        _refuse_expression(query.where, query.bind)
        if query.order_by:
            raise InvalidQueryError("a bundle does not sort dimension records", hint="sort them in Python")
        self._contents.definitions()
        universe = self._contents.universe
        names = universe.required(query.element)
        group = universe.element_group(query.element)
        given = self._data_ids.interpret(group, query.data_id)
        found = []
        for key, record in self._contents.records(query.element).items():
            values = {**dict(zip(names, key, strict=True)), **{one: record.values.get(one) for one in group.implied}}
            same = all(values.get(name) == value for name, value in given.dimensions.items())
            if same and all(
                element == query.element and record.values.get(column) == value
                for (element, column), value in given.fields.items()
            ):
                found.append(record)
        found = found[: query.limit]
        for begin in range(0, len(found), _BATCH):
            yield RecordBatch(found[begin : begin + _BATCH])


def _refuse_expression(where: str, bind: Mapping[str, Any]) -> None:
    if where.strip() or bind:
        raise InvalidQueryError(
            "a bundle does not understand expressions (where)",
            hint="ask the repository, or give dimension values: data_id={...} or keywords",
        )
