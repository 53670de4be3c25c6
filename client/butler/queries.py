"""Questions to the registry."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any
from uuid import UUID

from pantry.client.butler.access import (
    DataId,
    data_id_values,
    names,
    split_component,
    type_name,
)
from pantry.client.butler.batches import data_ids, refs
from pantry.client.butler.bind_values import bind_values
from pantry.client.butler.exclusions import Exclude, excluded
from pantry.client.butler.in_memory import InMemory
from pantry.client.butler.results import Results
from pantry.client.butler.times import TimespanLike, optional_timespan
from pantry.errors import DatasetNotFoundError, InvalidRequestError
from pantry.model.data_id import DataCoordinate
from pantry.model.datasets import DatasetRef, DatasetType
from pantry.model.records import DimensionRecord
from pantry.wire.operations import (
    FindDataset,
    GetDataset,
    QueryDataIds,
    QueryDatasets,
    QueryDimensionRecords,
)


class Queries(InMemory):
    """The asking methods of `Butler`."""

    def query_datasets(
        self,
        dataset_type: str | DatasetType | Iterable[str],
        collections: str | Iterable[str] | None = None,
        *,
        find_first: bool = True,
        data_id: DataId | None = None,
        where: str = "",
        bind: Mapping[str, Any] | None = None,
        with_dimension_records: bool = False,
        order_by: str | Iterable[str] | None = None,
        limit: int | None = None,
        exclude: Exclude | None = None,
        **kwargs: Any,
    ) -> list[DatasetRef]:
        """Find datasets (DMS-MWBT-REQ-0061).

        Parameters
        ----------
        dataset_type : str, DatasetType or iterable of str
            Names, or patterns with ``*`` and ``?``.
        collections : str or iterable of str, optional
            Where, in search order; names or patterns. By default the Butler's own.
        find_first : bool
            Of datasets with one type and data id, only that of the first collection.
        data_id : Mapping, optional
            Dimension values that all have, or that overlap all on the sky.
        where : str
            An expression such as ``"visit.exposure_time > 30 AND band IN ('g', 'r')"``.
        bind : Mapping, optional
            Values for names in ``where``: numbers, text, lists of these, astropy times, lsst.sphgeom regions.
        with_dimension_records : bool
            Give the data ids the values of implied dimensions, as ``band`` of a visit, and the records of all
            elements: ``ref.data_id.records["visit"]``, ``ref.data_id.region``, ``ref.data_id.timespan``.
        order_by : str or iterable of str, optional
            Names of dimensions or of their fields, with ``-`` in front for descending.
        limit : int, optional
            At most so many.
        exclude : path, or iterable of DatasetRef, UUID or str; optional
            Datasets that are as if they were not there (DMS-MWBT-REQ-0090): a file with a UUID, or
            ``dataset_type dimension=value ... [run=RUN]``, in each line; or references, ids and such lines.
        **kwargs : int or str
            More of the data id.

        Returns
        -------
        list of DatasetRef
            Empty if there are none.

        Raises
        ------
        InvalidQueryError
            The expression cannot be understood, or names what does not exist.
        """
        found: Results[DatasetRef] = Results()
        operation = self._query_datasets(
            dataset_type,
            collections,
            find_first,
            data_id_values(data_id, kwargs),
            where,
            bind,
            with_dimension_records,
            order_by,
            limit,
            exclude,
        )
        for batch in self.connection.stream(operation):
            found += refs(batch)
        return found

    def iter_datasets(
        self,
        dataset_type: str | DatasetType | Iterable[str],
        collections: str | Iterable[str] | None = None,
        *,
        find_first: bool = True,
        data_id: DataId | None = None,
        where: str = "",
        bind: Mapping[str, Any] | None = None,
        with_dimension_records: bool = False,
        order_by: str | Iterable[str] | None = None,
        limit: int | None = None,
        exclude: Exclude | None = None,
        **kwargs: Any,
    ) -> Iterator[DatasetRef]:
        """Find datasets as `query_datasets` does, one by one as they come; for any number of them."""
        operation = self._query_datasets(
            dataset_type,
            collections,
            find_first,
            data_id_values(data_id, kwargs),
            where,
            bind,
            with_dimension_records,
            order_by,
            limit,
            exclude,
        )
        for batch in self.connection.stream(operation):
            yield from refs(batch)

    def query_data_ids(
        self,
        dimensions: str | Iterable[str],
        *,
        dataset_types: str | Iterable[str] = (),
        collections: str | Iterable[str] | None = None,
        data_id: DataId | None = None,
        where: str = "",
        bind: Mapping[str, Any] | None = None,
        with_dimension_records: bool = False,
        order_by: str | Iterable[str] | None = None,
        limit: int | None = None,
        **kwargs: Any,
    ) -> list[DataCoordinate]:
        """Find data ids over the dimension records.

        Parameters
        ----------
        dimensions : str or iterable of str
            Of the data ids.
        dataset_types : str or iterable of str
            Only data ids for which there are datasets of all these types in ``collections``.
        collections, data_id, where, bind, with_dimension_records, order_by, limit, **kwargs
            As of `query_datasets`.
        """
        wanted = names(dataset_types)
        operation = QueryDataIds(
            repository=self.repository,
            dimensions=names(dimensions),
            dataset_types=wanted,
            collections=self._search(collections) if wanted else (),
            data_id=data_id_values(data_id, kwargs),
            where=where,
            bind=bind_values(bind),
            order_by=names(order_by or ()),
            limit=limit,
            with_dimension_records=with_dimension_records,
        )
        found: Results[DataCoordinate] = Results()
        for batch in self.connection.stream(operation):
            found += data_ids(batch)
        return found

    def query_dimension_records(
        self,
        element: str,
        *,
        data_id: DataId | None = None,
        where: str = "",
        bind: Mapping[str, Any] | None = None,
        order_by: str | Iterable[str] | None = None,
        limit: int | None = None,
        **kwargs: Any,
    ) -> list[DimensionRecord]:
        """Find what is known of instruments, exposures, detectors, tracts; arguments as of `query_datasets`."""
        operation = QueryDimensionRecords(
            repository=self.repository,
            element=element,
            data_id=data_id_values(data_id, kwargs),
            where=where,
            bind=bind_values(bind),
            order_by=names(order_by or ()),
            limit=limit,
        )
        found: Results[DimensionRecord] = Results()
        for batch in self.connection.stream(operation):
            found += batch.records
        return found

    def find_dataset(
        self,
        dataset_type: DatasetType | str,
        data_id: DataId | None = None,
        *,
        collections: str | Iterable[str] | None = None,
        timespan: TimespanLike | None = None,
        dimension_records: bool = False,
        **kwargs: Any,
    ) -> DatasetRef | None:
        """Find the first dataset of this type and data id in the collections, or None.

        Arguments as of `Butler.get`; but as in Gen3, CALIBRATION collections are searched only with a
        ``timespan``. ``dimension_records`` gives the data id its records, as in `query_datasets`.
        """
        return self._find(dataset_type, data_id, kwargs, collections, timespan, dimension_records=dimension_records)

    def get_dataset(
        self,
        id: UUID | str,  # noqa: A002 - Gen3's name
        *,
        dimension_records: bool = False,
    ) -> DatasetRef | None:
        """Look a dataset up by its id; None if there is none. ``dimension_records`` as of `find_dataset`."""
        if isinstance(id, str):
            try:
                id = UUID(id)  # noqa: A001
            except ValueError:
                raise InvalidRequestError(f"{id!r} is not a dataset id", hint="a UUID, as DatasetRef.id is") from None
        kept = self._memory.by_id(id)
        if kept is not None:
            return kept.ref
        try:
            asked = GetDataset(repository=self.repository, id=id, dimension_records=dimension_records)
            return self.connection.call(asked).ref
        except DatasetNotFoundError:
            return None

    def exists(
        self,
        dataset_ref_or_type: DatasetRef | DatasetType | str,
        /,
        data_id: DataId | None = None,
        *,
        collections: str | Iterable[str] | None = None,
        timespan: TimespanLike | None = None,
        **kwargs: Any,
    ) -> bool:
        """Tell whether the registry has a dataset; arguments as of `Butler.get`."""
        if isinstance(dataset_ref_or_type, DatasetRef):
            return self.get_dataset(dataset_ref_or_type.id) is not None
        found = self._find(dataset_ref_or_type, data_id, kwargs, collections, timespan, time_of_data_id=True)
        return found is not None

    def _find(
        self,
        dataset_type: DatasetType | str,
        data_id: DataId | None,
        more: Mapping[str, Any],
        collections: str | Iterable[str] | None,
        timespan: TimespanLike | None,
        *,
        time_of_data_id: bool = False,
        dimension_records: bool = False,
    ) -> DatasetRef | None:
        kept = self._kept(dataset_type, data_id, more, collections)
        if kept is not None:
            return kept.ref
        operation = FindDataset(
            repository=self.repository,
            dataset_type=split_component(dataset_type)[0],
            data_id=data_id_values(data_id, more),
            collections=self._search(collections),
            timespan=optional_timespan(timespan),
            time_of_data_id=time_of_data_id,
            dimension_records=dimension_records,
        )
        try:
            return self.connection.call(operation).ref
        except DatasetNotFoundError:
            return None

    def _found(
        self,
        dataset_type: str,
        data_id: DataId | None,
        more: Mapping[str, Any],
        collections: str | Iterable[str] | None,
        timespan: TimespanLike | None,
    ) -> DatasetRef:
        ref = self._find(dataset_type, data_id, more, collections, timespan, time_of_data_id=True)
        if ref is None:
            asked = data_id_values(data_id, more)
            raise DatasetNotFoundError(
                f"no {dataset_type} with data id {asked} in {', '.join(self._search(collections))}",
                hint="`butler.query_datasets` shows what there is",
            )
        return ref

    def _query_datasets(
        self,
        dataset_type: str | DatasetType | Iterable[str],
        collections: str | Iterable[str] | None,
        find_first: bool,
        data_id: Any,
        where: str,
        bind: Mapping[str, Any] | None,
        with_dimension_records: bool,
        order_by: str | Iterable[str] | None,
        limit: int | None,
        exclude: Exclude | None = None,
    ) -> QueryDatasets:
        if isinstance(dataset_type, str | DatasetType | DatasetRef):
            types: tuple[str, ...] = (type_name(dataset_type),)
        else:
            types = tuple(type_name(one) for one in dataset_type)
        return QueryDatasets(
            repository=self.repository,
            dataset_types=types,
            collections=self._search(collections),
            find_first=find_first,
            data_id=data_id,
            where=where,
            bind=bind_values(bind),
            order_by=names(order_by or ()),
            limit=limit,
            with_dimension_records=with_dimension_records,
            exclude=excluded(self, exclude),
        )
