"""Fetching datasets' files into the node's cache before they are read."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import msgspec

from pantry.client.butler.access import DataId, RepositoryAccess, data_id_values, names, type_name
from pantry.errors import ProtocolError
from pantry.model.datasets import DatasetType
from pantry.wire import operations as ops


class Prefetching(RepositoryAccess):
    """The prefetching method of `Butler`."""

    def prefetch(
        self,
        dataset_type: str | DatasetType | Iterable[str],
        collections: str | Iterable[str] | None = None,
        *,
        data_id: DataId | None = None,
        where: str = "",
        partial: bool = False,
        progress: Callable[[ops.PrefetchProgress], None] | None = None,
        **kwargs: Any,
    ) -> ops.PrefetchProgress:
        """Fetch the files of what a query finds into the node's cache; returns when all are there or have failed.

        Parameters
        ----------
        dataset_type, collections, data_id, where, **kwargs
            As of `query_datasets`; of several datasets with one data id, all are fetched.
        partial : bool
            Fetch as many as there is room for, in place of refusing when there is not enough for all.
        progress : callable, optional
            Called with every progress that the daemon tells, some ten times per second.

        Returns
        -------
        PrefetchProgress
            The last one, with all failures that were told, at most 100. Sizes are in bytes.

        Raises
        ------
        CacheFullError
            There is no room for all, and ``partial`` is False; nothing was fetched.
        InvalidQueryError
            The expression cannot be understood, or names what does not exist.

        Examples
        --------
        >>> done = butler.prefetch("calexp", where="visit = 903334")
        >>> done.failed_files
        0
        """
        single = isinstance(dataset_type, str | DatasetType)
        operation = ops.Prefetch(
            repository=self.repository,
            dataset_types=(type_name(dataset_type),) if single else tuple(map(type_name, dataset_type)),  # type: ignore[arg-type]
            collections=names(collections) if collections is not None else self._search(None),
            data_id=data_id_values(data_id, kwargs),
            where=where,
            partial=partial,
        )
        last: ops.PrefetchProgress | None = None
        failures: list[ops.PrefetchFailure] = []
        for told in self.connection.stream(operation):
            failures += told.failures
            last = told
            if progress is not None:
                progress(told)
        if last is None:
            raise ProtocolError("the daemon told nothing of the prefetch")
        return msgspec.structs.replace(last, failures=tuple(failures))
