"""Metadata of datasets without their files."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any
from uuid import UUID

from pantry.client.butler.access import DataId, data_id_values
from pantry.client.butler.batches import refs
from pantry.client.butler.exclusions import Exclude
from pantry.client.butler.queries import Queries
from pantry.client.butler.times import TimespanLike
from pantry.errors import InvalidRequestError
from pantry.model.datasets import DatasetRef, DatasetType
from pantry.model.metadata import MetadataValue
from pantry.wire import operations as ops


class Describing(Queries):
    """The methods of `Butler` on the metadata that dataset types declare (DMS-MWBT-REQ-0091)."""

    def get_metadata(
        self,
        dataset_ref_or_type: DatasetRef | DatasetType | str,
        /,
        data_id: DataId | None = None,
        *,
        collections: str | Iterable[str] | None = None,
        timespan: TimespanLike | None = None,
        **kwargs: Any,
    ) -> dict[str, MetadataValue]:
        """Give the declared metadata of one dataset; its file is not touched.

        Arguments as of `get`.

        Returns
        -------
        dict
            A value for each entry that the dataset type declares; None for what the file does not say.

        Examples
        --------
        >>> butler.get_metadata("calexp", visit=903334, detector=22)["psf_fwhm"]
        0.72
        """
        ref = dataset_ref_or_type
        if not isinstance(ref, DatasetRef):
            name = ref if isinstance(ref, str) else ref.name
            ref = self._found(name, data_id, kwargs, collections, timespan)
        return self.connection.call(ops.GetMetadata(repository=self._holder(ref), id=ref.id)).values

    def query_metadata(
        self,
        dataset_type: str | DatasetType,
        collections: str | Iterable[str] | None = None,
        *,
        entries: str | Iterable[str] = (),
        find_first: bool = True,
        data_id: DataId | None = None,
        where: str = "",
        bind: Mapping[str, Any] | None = None,
        order_by: str | Iterable[str] | None = None,
        limit: int | None = None,
        exclude: Exclude | None = None,
        **kwargs: Any,
    ) -> Iterator[tuple[DatasetRef, dict[str, MetadataValue]]]:
        """Find datasets as `query_datasets` does, each with its declared metadata, one by one as they come.

        Parameters
        ----------
        entries : str or iterable of str
            Which entries; by default all that the dataset type declares.
        **kwargs
            As of `query_datasets`, as all else.
        """
        query = self._query_datasets(
            dataset_type,
            collections,
            find_first,
            data_id_values(data_id, kwargs),
            where,
            bind,
            False,
            order_by,
            limit,
            exclude,
        )
        wanted = (entries,) if isinstance(entries, str) else tuple(entries)
        for batch in self.connection.stream(ops.QueryMetadata(query=query, entries=wanted)):
            names = list(batch.columns)
            for ref, row in zip(refs(batch.refs), zip(*batch.columns.values(), strict=True), strict=True):
                yield ref, dict(zip(names, row, strict=True))

    def record_metadata(
        self, dataset_type: str | DatasetType, values: Mapping[DatasetRef | UUID, Mapping[str, Any]]
    ) -> int:
        """Record declared metadata of datasets in place of what was there, all or none of 5,000 at a time.

        For files that this process could not read when they were ingested, as those in an object store.

        Parameters
        ----------
        dataset_type : str or DatasetType
            Of all of them.
        values : Mapping
            For each dataset its values by entry; what is not given becomes absent.

        Returns
        -------
        int
            How many were recorded.
        """
        from pantry.wire.operations.metadata import MAX_RECORDED

        self._writing()
        name = dataset_type if isinstance(dataset_type, str) else dataset_type.name
        given = list(values.items())
        entries = list(dict.fromkeys(entry for _, row in given for entry in row))
        if not entries and given:
            raise InvalidRequestError("no metadata is given", hint="write {ref: {'exptime': 30.0}}")
        count = 0
        for start in range(0, len(given), MAX_RECORDED):
            part = given[start : start + MAX_RECORDED]
            operation = ops.RecordMetadata(
                repository=self.repository,
                dataset_type=name,
                ids=b"".join((one.id if isinstance(one, DatasetRef) else one).bytes for one, _ in part),
                columns={entry: [row.get(entry) for _, row in part] for entry in entries},
            )
            count += self.connection.call(operation).count
        return count
