"""Discovery as a graph."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from pantry.client.butler.access import DataId, data_id_values, names
from pantry.client.butler.batches import refs
from pantry.client.butler.bind_values import bind_values
from pantry.client.butler.exclusions import Exclude
from pantry.client.butler.graph import DiscoveryGraph, GraphContent
from pantry.client.butler.queries import Queries
from pantry.errors import InvalidRequestError, LimitExceededError
from pantry.model.data_id import DataIdValue
from pantry.model.datasets import DatasetRef
from pantry.model.dimensions import DimensionUniverse
from pantry.wire.operations import GetDimensions, ListDatasetTypes, QueryDataIds

MAX_ROWS = 1_000_000


class Graphing(Queries):
    """The method of `Butler` that gives graphs."""

    def query_graph(
        self,
        dataset_types: str | Iterable[str],
        dimensions: str | Iterable[str] = (),
        collections: str | Iterable[str] | None = None,
        *,
        optional: str | Iterable[str] = (),
        find_first: bool = True,
        data_id: DataId | None = None,
        where: str = "",
        bind: Mapping[str, Any] | None = None,
        exclude: Exclude | None = None,
        max_rows: int = MAX_ROWS,
        **kwargs: Any,
    ) -> DiscoveryGraph:
        """Find the data units and datasets that match criteria, and how they belong together (DMS-MWBT-REQ-0083).

        One query finds the data ids over all dimensions, and one for each dataset type its datasets.

        Parameters
        ----------
        dataset_types : str or iterable of str
            Names of dataset types; only data units for which there are datasets of all of them are in the graph.
        dimensions : str or iterable of str
            More dimensions, such as those of outputs: ``"patch"`` relates visits to the patches that they overlap.
        optional : str or iterable of str
            Names of dataset types that need not be there, such as outputs that are made already.
        collections, find_first, data_id, where, bind, exclude, **kwargs
            As of `query_datasets`.
        max_rows : int
            Most combinations of data units.

        Raises
        ------
        LimitExceededError
            There are more rows; a graph is never cut.

        Examples
        --------
        >>> graph = butler.query_graph("calexp", "patch", where="tract = 9813 AND band = 'r'")
        >>> for patch in graph.data_ids("patch"):
        ...     inputs = graph.related_datasets(patch, "calexp")
        """
        needed, others = names(dataset_types), names(optional)
        wanted = tuple(dict.fromkeys((*needed, *others)))
        searched = self._search(collections) if wanted else ()
        listed = self.connection.call(ListDatasetTypes(repository=self.repository, patterns=wanted)) if wanted else None
        kinds = {kind.name: kind for kind in listed.dataset_types} if listed is not None else {}
        patterns = [name for name in wanted if name not in kinds]
        if patterns:
            raise InvalidRequestError(f"{', '.join(patterns)}: a graph is of dataset types by their names")
        given = data_id_values(data_id, kwargs)
        asked = dict.fromkeys((*names(dimensions), *(name for kind in kinds.values() for name in kind.dimensions)))
        if not asked:
            raise InvalidRequestError("a graph of what?", hint="name dataset types, dimensions, or both")
        universe = DimensionUniverse(self.connection.call(GetDimensions(repository=self.repository)).config)
        group = universe.group(asked)
        operation = QueryDataIds(
            repository=self.repository,
            dimensions=tuple(asked),
            dataset_types=needed,
            collections=searched if needed else (),
            data_id=given,
            where=where,
            bind=bind_values(bind),
            limit=max_rows + 1,
        )
        place = {name: number for number, name in enumerate((*group.required, *group.implied))}
        order = [place[name] for name in group.names]
        rows: list[tuple[DataIdValue | None, ...]] = []
        for batch in self.connection.stream(operation):
            rows += zip(*[batch.columns[number] for number in order], strict=True)
        if len(rows) > max_rows:
            raise LimitExceededError(
                f"the graph has more than {max_rows} combinations of {', '.join(group.required)}",
                hint="narrow it with 'where', or give max_rows",
            )
        rows.sort(key=lambda row: [(value is None, str(type(value)), value) for value in row])
        datasets: dict[str, list[DatasetRef]] = {}
        identified_by = {name: universe.group(kinds[name].dimensions).required for name in wanted}
        for name, required in identified_by.items():
            positions = [group.names.index(part) for part in required]
            there = {tuple([row[position] for position in positions]) for row in rows}
            query = self._query_datasets(name, searched, find_first, given, where, bind, False, None, None, exclude)
            datasets[name] = [
                ref
                for batch in self.connection.stream(query)
                for ref in refs(batch)
                if ref.data_id.required_values in there
            ]
            datasets[name].sort(key=lambda ref: (*map(str, ref.data_id.required_values), ref.run, ref.id))
        return DiscoveryGraph(
            GraphContent(
                dimensions=group.names,
                required={name: universe.required(name) for name in group.names},
                rows=rows,
                dataset_types={name: kinds[name] for name in wanted},
                identified_by=identified_by,
                datasets=datasets,
            )
        )
