"""What there is, without listing it: counts."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from pantry.client.butler.access import DataId, data_id_values
from pantry.client.butler.exclusions import Exclude
from pantry.client.butler.queries import Queries
from pantry.model.datasets import DatasetType
from pantry.wire import operations as ops


class Discovery(Queries):
    """The methods of `Butler` that tell about many datasets at once."""

    def count_datasets(
        self,
        dataset_type: str | DatasetType | Iterable[str],
        collections: str | Iterable[str] | None = None,
        *,
        find_first: bool = True,
        data_id: DataId | None = None,
        where: str = "",
        bind: Mapping[str, Any] | None = None,
        limit: int | None = None,
        exclude: Exclude | None = None,
        **kwargs: Any,
    ) -> int:
        """Count the datasets that `query_datasets` would find with these arguments; exact, and done in the database."""
        return sum(
            self._counts(dataset_type, collections, find_first, data_id, where, bind, limit, exclude, kwargs).values()
        )

    def any_datasets(
        self,
        dataset_type: str | DatasetType | Iterable[str],
        collections: str | Iterable[str] | None = None,
        *,
        data_id: DataId | None = None,
        where: str = "",
        bind: Mapping[str, Any] | None = None,
        exclude: Exclude | None = None,
        **kwargs: Any,
    ) -> bool:
        """Tell whether `query_datasets` would find anything with these arguments; looks no further than the first."""
        # Where any is, one is the first.
        return any(self._counts(dataset_type, collections, False, data_id, where, bind, 1, exclude, kwargs).values())

    def _counts(
        self,
        dataset_type: str | DatasetType | Iterable[str],
        collections: str | Iterable[str] | None,
        find_first: bool,
        data_id: DataId | None,
        where: str,
        bind: Mapping[str, Any] | None,
        limit: int | None,
        exclude: Exclude | None,
        more: Mapping[str, Any],
    ) -> dict[str, int]:
        query = self._query_datasets(
            dataset_type,
            collections,
            find_first,
            data_id_values(data_id, more),
            where,
            bind,
            False,
            None,
            limit,
            exclude,
        )
        return self.connection.call(ops.CountDatasets(query=query)).counts
