"""Queries as datasets (MWBT-0057): the values of their parameters come from data ids and dimension records."""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Iterable, Mapping, Sequence
from fnmatch import fnmatchcase
from functools import partial
from uuid import UUID, uuid5

from pantry.backends.admission import Admission
from pantry.daemon.config.queries import QueryConfig
from pantry.daemon.queries.services import Services
from pantry.daemon.repositories.repository import Repository
from pantry.daemon.server.identity import Identity
from pantry.errors import DataIdValueError, DatasetTypeError, InvalidQueryError
from pantry.model.data_id import DataCoordinate, DataIdValue
from pantry.model.datasets import DatasetRef, DatasetType, StoredFile
from pantry.model.queries import Circle, Instant, Parameter, ParameterValue, Point, Polygon
from pantry.model.records import DimensionRecord
from pantry.wire.operations import Opened, QueryDataIds, QueryDimensionRecords

RUN = "queries"
"""Stands in references where the RUN of a stored dataset does; nothing is stored."""

MOST = 10_000
"""References that are remembered, so that they can be opened by their ids."""


class QueryDatasets:
    """Dataset types whose datasets are answers of services.

    Parameters
    ----------
    configured : Mapping
        All configured queries; those with a ``dataset`` count.
    services : Services
        That are asked.
    registries : Admission
        Lets look-ups of dimension records into threads.
    """

    def __init__(self, configured: Mapping[str, QueryConfig], services: Services, registries: Admission) -> None:
        self._configured = {name: one for name, one in configured.items() if one.dataset is not None}
        self._services = services
        self._registries = registries
        self._known: OrderedDict[UUID, tuple[str, DatasetRef]] = OrderedDict()

    def type_of(self, repository: Repository, name: str) -> DatasetType | None:
        """Return the dataset type of this name, if it is one by query in this repository."""
        query = self._configured.get(name)
        if query is None or query.dataset is None:
            return None
        if query.dataset.repositories and not _matches(repository.name, query.dataset.repositories):
            return None
        group = repository.registry.universe.group(query.dataset.dimensions)
        return DatasetType(name=name, dimensions=group.names, storage_class=query.dataset.storage_class)

    def types_of(self, repositories: Sequence[Repository], patterns: Sequence[str]) -> list[DatasetType]:
        """Return those of the repositories whose names match."""
        found: dict[str, DatasetType] = {}
        for repository in repositories:
            for name in self._configured:
                kind = self.type_of(repository, name)
                if kind is not None and (not patterns or _matches(name, patterns)):
                    found.setdefault(name, kind)
        return [found[name] for name in sorted(found)]

    def refuse_put(self, repository: Repository, name: str) -> None:
        """Raise if a dataset type is one by query: nothing can be put to it."""
        if self.type_of(repository, name) is not None:
            raise DatasetTypeError(
                f"{name!r} is given by a query in {repository.name!r}: its datasets are what a service answers",
                hint="put to a dataset type of another name",
            )

    def by_id(self, repositories: Sequence[Repository], id_: UUID) -> tuple[Repository, DatasetRef] | None:
        """Return what a reference that was given out before is of."""
        found = self._known.get(id_)
        holder = next((one for one in repositories if found is not None and one.uuid == found[0]), None)
        return None if found is None or holder is None else (holder, found[1])

    async def find(self, repository: Repository, kind: DatasetType, data_id: Mapping[str, DataIdValue]) -> DatasetRef:
        """Complete a data id, each of whose values must have a dimension record; make a reference of it."""
        asked = QueryDataIds(repository=repository.name, dimensions=kind.dimensions, data_id=dict(data_id), limit=2)
        batches = await self._registries.call(lambda: list(repository.registry.query_data_ids(asked)))
        rows = [(batch, row) for batch in batches for row in zip(*batch.columns, strict=True)]
        if len(rows) != 1:
            how = "no dimension records" if not rows else "several"
            raise DataIdValueError(
                f"{kind.name}: the data id {dict(data_id)} has {how}", hint=f"it needs {', '.join(kind.dimensions)}"
            )
        batch, row = rows[0]
        count = len(batch.required)
        coordinate = DataCoordinate(batch.required, row[:count], batch.implied, row[count:])
        id_ = uuid5(UUID(repository.uuid), "\0".join((kind.name, *map(str, row[:count]))))
        ref = DatasetRef(id=id_, dataset_type=kind, data_id=coordinate, run=f"{RUN}/{kind.name}")
        self._known[id_] = (repository.uuid, ref)
        self._known.move_to_end(id_)
        if len(self._known) > MOST:
            self._known.popitem(last=False)
        return ref

    async def open(
        self, repository: Repository, ref: DatasetRef, who: Identity, *, administers: bool, cached_only: bool
    ) -> tuple[Opened, int]:
        """Ask the service; return what `OpenDataset` answers, and the file's descriptor, which is the caller's."""
        name = ref.dataset_type.name
        declared = self._services.definitions.get(name).parameters
        values = await self._values(repository, name, declared, ref.data_id)
        _, service, answer = await self._services.run(
            name, values, {}, who, administers=administers, cached_only=cached_only
        )
        file = StoredFile(
            path=f"{RUN}/{name}/{ref.id}.parq",
            size_bytes=answer.size_bytes,
            hash=answer.hash,
            formatter="parquet",
            ingest_ns=answer.answered_ns,
        )
        opened = Opened(
            ref=ref, file=file, name=file.path, complete=True, was_cached=answer.was_cached,
            origin=service.backend.location,
        )  # fmt: skip
        return opened, answer.fd

    async def _values(
        self, repository: Repository, query: str, declared: Mapping[str, Parameter], data_id: DataCoordinate
    ) -> dict[str, ParameterValue]:
        records: dict[str, DimensionRecord] = {}
        values: dict[str, ParameterValue] = {}
        for name, one in declared.items():
            element, _, field = (one.value_of or name).partition(".")
            if not field:
                if element in data_id.mapping:
                    values[name] = data_id.mapping[element]
                continue
            if element not in records:
                records[element] = await self._record(repository, element, data_id)
            try:
                values[name] = _value(records[element], field, one)
            except ValueError as exc:
                raise InvalidQueryError(f"queries.{query}.parameters.{name}: {exc}") from None
        return values

    async def _record(self, repository: Repository, element: str, data_id: DataCoordinate) -> DimensionRecord:
        plain = {name: value for name, value in data_id.mapping.items() if value is not None}
        needed = repository.registry.universe.required(element)
        asked = QueryDimensionRecords(
            repository=repository.name,
            element=element,
            data_id={name: plain[name] for name in needed if name in plain},
            limit=1,
        )
        read = partial(repository.registry.query_dimension_records, asked)
        batches = await self._registries.call(lambda: list(read()))
        found = [record for batch in batches for record in batch.records]
        if not found or any(name not in plain for name in needed):
            raise DataIdValueError(f"there is no record of {element!r} for {data_id!r}")
        return found[0]


def _matches(name: str, patterns: Iterable[str]) -> bool:
    return any(fnmatchcase(name, pattern) for pattern in patterns)


def _value(record: DimensionRecord, field: str, declared: Parameter) -> ParameterValue:
    if field == "region":
        if record.region is None:
            raise ValueError(f"the record of {record.element!r} has no region")
        return _region(record.region, declared.type)
    if field in ("timespan.begin", "timespan.end"):
        if record.timespan is None:
            raise ValueError(f"the record of {record.element!r} has no timespan")
        return Instant(tai_ns=record.timespan.begin_ns if field == "timespan.begin" else record.timespan.end_ns)
    if field not in record.values:
        raise ValueError(f"records of {record.element!r} have no {field!r}")
    return record.values[field]


def _region(encoded: bytes, kind: str) -> ParameterValue:
    from lsst.sphgeom import ConvexPolygon, LonLat

    from pantry.daemon.registry.sky.regions import decode_region

    region = decode_region(encoded)
    if kind == "polygon":
        if not isinstance(region, ConvexPolygon):
            raise ValueError("its region is no polygon; take its circle")
        corners = (LonLat(one) for one in region.getVertices())
        return Polygon(corners=tuple((one.getLon().asDegrees() % 360, one.getLat().asDegrees()) for one in corners))
    around = region.getBoundingCircle()
    centre = LonLat(around.getCenter())
    ra, dec = centre.getLon().asDegrees() % 360, centre.getLat().asDegrees()
    if kind == "point":
        return Point(ra=ra, dec=dec)
    # Whoever is on its edge is inside, also after rounding.
    radius = math.nextafter(around.getOpeningAngle().asDegrees(), math.inf)
    return Circle(ra=ra, dec=dec, radius=min(radius, 180.0))
