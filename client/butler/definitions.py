"""What a repository is made of: dataset types, dimension records, collections."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from itertools import islice
from typing import Any

from pantry.client.butler.access import DataId, RepositoryAccess, data_id_values, names, type_name
from pantry.client.butler.results import Results
from pantry.client.butler.times import TimespanLike, as_timespan
from pantry.errors import InvalidRequestError, MissingCollectionError, MissingDatasetTypeError
from pantry.model.collections import CollectionInfo, CollectionType
from pantry.model.datasets import DatasetRef, DatasetType
from pantry.model.metadata import MetadataEntry
from pantry.model.records import DimensionRecord
from pantry.model.storage import StorageClass
from pantry.model.timespan import Timespan
from pantry.wire.operations import (
    Certify,
    Decertify,
    InsertDimensionRecords,
    ListDatasetTypes,
    QueryCollections,
    RedefineChain,
    RegisterCollection,
    RegisterDatasetType,
)

MAX_RECORDS = 10_000
"""Most dimension records of one request; one request is all or nothing."""


class Definitions(RepositoryAccess):
    """The defining methods of `Butler`."""

    @property
    def collections(self) -> ButlerCollections:
        """The repository's collections, and this Butler's default ones."""
        return ButlerCollections(self)

    def register_dataset_type(
        self,
        dataset_type: DatasetType | str,
        dimensions: Iterable[str] | None = None,
        storage_class: str | StorageClass | None = None,
        *,
        is_calibration: bool = False,
        metadata: Iterable[str | MetadataEntry] = (),
    ) -> bool:
        """Register a dataset type (DMS-MWBT-REQ-0059).

        Parameters
        ----------
        dataset_type : DatasetType or str
            The definition, or only the name, with the definition in the other arguments.
        dimensions : iterable of str, optional
            What identifies a dataset of this type; dimensions that these imply are added.
        storage_class : str or StorageClass, optional
            How it is stored, and as what it is read: a key of `pantry.model.storage.STORAGE_CLASSES`.
        is_calibration : bool
            Whether it may be certified into CALIBRATION collections.
        metadata : iterable of str or MetadataEntry
            Entries to keep in the registry, which queries know and which need no file (DMS-MWBT-REQ-0091), such
            as ``"exptime:float=EXPTIME [s]"``: its name, type, key in the file and unit. Values are taken from
            the files as these are put or ingested.

        Returns
        -------
        bool
            Whether it is new.

        Raises
        ------
        ConflictingDefinitionError
            The name is taken by another definition.
        """
        self._writing()
        if not isinstance(dataset_type, DatasetType):
            if dimensions is None or storage_class is None:
                raise InvalidRequestError(f"what are the dimensions and the storage class of {dataset_type!r}?")
            dataset_type = DatasetType(
                name=dataset_type,
                dimensions=names(dimensions),
                storage_class=storage_class.name if isinstance(storage_class, StorageClass) else storage_class,
                is_calibration=is_calibration,
                metadata=tuple(MetadataEntry.parse(one) if isinstance(one, str) else one for one in metadata),
            )
        return self.connection.call(RegisterDatasetType(repository=self.repository, dataset_type=dataset_type)).new

    def get_dataset_type(self, name: str) -> DatasetType:
        """Return a registered dataset type, or raise `MissingDatasetTypeError`."""
        parent = name.partition(".")[0]
        for found in self.query_dataset_types(parent):
            if found.name == parent:
                return found
        raise MissingDatasetTypeError(
            f"no dataset type {parent!r} in {self.repository!r}", hint="`butler.query_dataset_types()` lists them"
        )

    def query_dataset_types(self, patterns: str | Iterable[str] = ()) -> list[DatasetType]:
        """Return the registered dataset types whose names match any of the patterns, in order of name."""
        operation = ListDatasetTypes(repository=self.repository, patterns=names(patterns))
        return Results(self.connection.call(operation).dataset_types)

    def insert_dimension_records(
        self,
        element: str,
        *records: Mapping[str, Any] | DimensionRecord,
        skip_existing: bool = False,
        replace: bool = False,
    ) -> int:
        """Say what there is: instruments, detectors, exposures, tracts.

        Parameters
        ----------
        element : str
            Of which dimension element, as ``exposure``.
        *records : Mapping or DimensionRecord
            Columns by name. Temporal elements take ``timespan``, a `Timespan` or a pair of TAI nanoseconds
            since 1970, or ``timespan_begin`` and ``timespan_end``; spatial ones ``region``, an
            ``lsst.sphgeom.Region`` or its encoding.
        skip_existing : bool
            Leave records with equal keys alone, in place of `ConflictError`.
        replace : bool
            Put these in the place of records with equal keys.

        Returns
        -------
        int
            How many were inserted or replaced. Each 10,000 records are inserted together or not at all.
        """
        self._writing()
        if not isinstance(element, str):
            raise InvalidRequestError(
                f"the first argument is the name of an element, not {type(element).__name__}",
                hint="write insert_dimension_records('exposure', {...}, {...})",
            )
        if skip_existing and replace:
            raise InvalidRequestError("skip_existing and replace exclude one another")
        made = (dimension_record(element, record) for record in records)
        count = 0
        while batch := tuple(islice(made, MAX_RECORDS)):
            operation = InsertDimensionRecords(
                repository=self.repository, records=batch, skip_existing=skip_existing, replace=replace
            )
            count += self.connection.call(operation).count
        return count

    def certify(self, collection: str, refs: Iterable[DatasetRef], timespan: TimespanLike) -> int:
        """Say that calibrations are valid for a time.

        Parameters
        ----------
        collection : str
            A CALIBRATION collection.
        refs : iterable of DatasetRef
            Of dataset types that were registered with ``is_calibration``.
        timespan : Timespan or pair
            Begin and end; each may be None for an open end, ISO 8601 text (TAI), an ``astropy.time.Time``, or TAI
            nanoseconds since 1970.

        Returns
        -------
        int
            How many.

        Raises
        ------
        ConflictError
            Another dataset of the same type and data id is valid in a part of this time. Nothing was changed.
        DatasetTypeError
            A dataset is not of a calibration type.

        Examples
        --------
        >>> butler.certify("calib", butler.query_datasets("bias", "u/ann/bias"), ("2025-04-15", None))
        """
        self._writing()
        operation = Certify(
            repository=self.repository,
            collection=collection,
            ids=tuple(ref.id for ref in refs),
            timespan=as_timespan(timespan),
        )
        return self.connection.call(operation).count

    def decertify(
        self,
        collection: str,
        dataset_type: str | DatasetType,
        timespan: TimespanLike,
        *,
        data_ids: Iterable[DataId] | None = None,
    ) -> int:
        """Say that calibrations of a type are not valid for a time; validity before and after it stays.

        Parameters
        ----------
        collection : str
            A CALIBRATION collection.
        dataset_type : str or DatasetType
            Of which kind.
        timespan : Timespan or pair
            As of `certify`.
        data_ids : iterable of Mapping, optional
            Only for these.

        Returns
        -------
        int
            How many times of validity were cut or ended.
        """
        self._writing()
        operation = Decertify(
            repository=self.repository,
            collection=collection,
            dataset_type=type_name(dataset_type),
            timespan=as_timespan(timespan),
            data_ids=None if data_ids is None else tuple(data_id_values(data_id, {}) for data_id in data_ids),
        )
        return self.connection.call(operation).count


class ButlerCollections:
    """The collections of a repository."""

    def __init__(self, access: RepositoryAccess) -> None:
        self._access = access

    @property
    def default(self) -> tuple[str, ...]:
        """Where the Butler searches if it is not told, in order."""
        return self._access._default_collections

    @property
    def defaults(self) -> tuple[str, ...]:
        """The same as `default`, by Gen3's name."""
        return self.default

    def __getitem__(self, name: str) -> CollectionInfo:
        try:
            return self.get_info(name)
        except MissingCollectionError:
            raise KeyError(f"no collection {name!r} in {self._access.repository!r}") from None

    def __contains__(self, name: object) -> bool:
        return name in set(self)

    def __iter__(self) -> Iterator[str]:
        return iter(self.query())

    def __len__(self) -> int:
        return len(self.query())

    def _ipython_key_completions_(self) -> list[str]:
        return self.query()

    def _repr_html_(self) -> str:
        return Results(self.query_info())._repr_html_()

    def __repr__(self) -> str:
        return f"<collections of {self._access.repository!r}, default: {', '.join(self.default) or 'none'}>"

    def register(self, name: str, type: CollectionType | str = CollectionType.RUN, doc: str | None = None) -> None:  # noqa: A002
        """Make a collection; no error if it exists with the same type.

        Parameters
        ----------
        name : str
            Slashes give a hierarchy.
        type : CollectionType
            What kind.
        doc : str, optional
            For people.

        Raises
        ------
        CollectionTypeError
            It exists with another type.
        """
        self._access._writing()
        operation = RegisterCollection(
            repository=self._access.repository, name=name, type=_collection_type(type), doc=doc or ""
        )
        self._access.connection.call(operation)

    def redefine_chain(self, parent_collection_name: str, child_collection_names: str | Iterable[str]) -> None:
        """Set the children of a CHAINED collection, in search order."""
        self._access._writing()
        operation = RedefineChain(
            repository=self._access.repository, name=parent_collection_name, children=names(child_collection_names)
        )
        self._access.connection.call(operation)

    def query(
        self,
        expression: str | Iterable[str] = (),
        collection_types: CollectionType | Iterable[CollectionType] | None = None,
        flatten_chains: bool = False,
    ) -> list[str]:
        """Return the names of collections; arguments as of `query_info`."""
        return [info.name for info in self.query_info(expression, collection_types, flatten_chains)]

    def query_info(
        self,
        expression: str | Iterable[str] = (),
        collection_types: CollectionType | Iterable[CollectionType] | None = None,
        flatten_chains: bool = False,
        *,
        include_summary: bool = False,
    ) -> list[CollectionInfo]:
        """Find collections.

        Parameters
        ----------
        expression : str or iterable of str
            Names or patterns; all if none is given.
        collection_types : CollectionType or iterable of CollectionType, optional
            Only these kinds.
        flatten_chains : bool
            Give the children of chains in place of the chains, in search order.
        include_summary : bool
            Also give the dataset types that each has.
        """
        kinds: Iterable[CollectionType | str] = (
            ()
            if collection_types is None
            else (collection_types,)
            if isinstance(collection_types, str)
            else collection_types
        )
        operation = QueryCollections(
            repository=self._access.repository,
            patterns=names(expression),
            types=tuple(_collection_type(kind) for kind in kinds),
            flatten_chains=flatten_chains,
            with_dataset_types=include_summary,
        )
        return Results(self._access.connection.call(operation).collections)

    def get_info(self, name: str, *, include_summary: bool = False) -> CollectionInfo:
        """Describe one collection, or raise `MissingCollectionError`."""
        for info in self.query_info(name, include_summary=include_summary):
            if info.name == name:
                return info
        raise MissingCollectionError(
            f"no collection {name!r} in {self._access.repository!r}", hint="`butler.collections.query()` lists them"
        )


def dimension_record(element: str, given: Mapping[str, Any] | DimensionRecord) -> DimensionRecord:
    """Make a record of what `Definitions.insert_dimension_records` takes."""
    if isinstance(given, DimensionRecord):
        if given.element != element:
            raise InvalidRequestError(f"a record of {given.element!r} was given for {element!r}")
        return given
    values = dict(given)
    timespan = values.pop("timespan", None)
    begin, end = values.pop("timespan_begin", None), values.pop("timespan_end", None)
    if timespan is None and begin is not None and end is not None:
        timespan = (begin, end)
    if timespan is not None and not isinstance(timespan, Timespan):
        try:
            timespan = Timespan(*(int(bound) for bound in timespan))
        except (TypeError, ValueError) as exc:
            raise InvalidRequestError(
                f"bad timespan of a record of {element!r}: {exc}", hint="a pair of TAI nanoseconds since 1970"
            ) from None
    region = values.pop("region", None)
    if region is not None and not isinstance(region, bytes):
        region = region.encode()
    for name, value in values.items():
        if value is not None and type(value) not in (int, str, float, bool):
            values[name] = value.item() if hasattr(value, "item") else value
            if not isinstance(values[name], int | str | float | bool):
                raise InvalidRequestError(f"{element}.{name} is a {type(value).__name__}", hint="give numbers or text")
    return DimensionRecord(element=element, values=values, timespan=timespan, region=region)


def _collection_type(given: CollectionType | str) -> CollectionType:
    try:
        return CollectionType(given.upper())
    except ValueError:
        raise InvalidRequestError(
            f"unknown collection type {given!r}", hint=f"one of {', '.join(CollectionType)}"
        ) from None
