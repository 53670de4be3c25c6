"""The graph of data units and datasets that match criteria (docs/decisions/0022-discovery-graph.md)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import msgspec

from pantry.errors import DimensionNameError, InvalidRequestError, MissingDatasetTypeError
from pantry.model.data_id import DataCoordinate, DataIdValue
from pantry.model.datasets import DatasetRef, DatasetType

Node = DatasetRef | DataCoordinate
_Row = tuple[DataIdValue | None, ...]


class GraphContent(msgspec.Struct, frozen=True, kw_only=True):
    """What a graph consists of, as it is stored.

    Attributes
    ----------
    dimensions : tuple of str
        Of the rows.
    required : dict of str to tuple of str
        For each of them the dimensions that identify its data unit.
    rows : list of tuple
        Values of the dimensions that go together.
    dataset_types : dict of str to DatasetType
        The types of the datasets.
    identified_by : dict of str to tuple of str
        For each of them its required dimensions.
    datasets : dict of str to list of DatasetRef
        By type, in the order in which they were found.
    """

    dimensions: tuple[str, ...]
    required: dict[str, tuple[str, ...]]
    rows: list[tuple[DataIdValue | None, ...]]
    dataset_types: dict[str, DatasetType]
    identified_by: dict[str, tuple[str, ...]]
    datasets: dict[str, list[DatasetRef]]


class DiscoveryGraph:
    """Data units and datasets, and which of them belong together (DMS-MWBT-REQ-0083). Made by `Butler.query_graph`.

    Two nodes are related where a row of the graph has both: a visit and the patches that it overlaps, a
    raw and its exposure, a coadd and the visits that could go into it. Iterating gives all datasets.

    Parameters
    ----------
    content : GraphContent
        What it consists of.
    """

    def __init__(self, content: GraphContent) -> None:
        self._content = content
        self._place = {name: number for number, name in enumerate(content.dimensions)}
        self._rows_by: dict[tuple[str, ...], dict[_Row, list[int]]] = {}
        self._refs_by: dict[str, dict[_Row, list[DatasetRef]]] = {}

    # -- flat lists --------------------------------------------------------------------------------

    @property
    def dimensions(self) -> tuple[str, ...]:
        """Names of the dimensions of the graph, in the order of the universe."""
        return self._content.dimensions

    @property
    def dataset_types(self) -> tuple[str, ...]:
        """Names of its dataset types, also of those without datasets."""
        return tuple(self._content.dataset_types)

    def datasets(self, dataset_type: str | None = None) -> list[DatasetRef]:
        """Give the datasets of a type, or all, each once."""
        if dataset_type is None:
            return [ref for refs in self._content.datasets.values() for ref in refs]
        self._type(dataset_type)
        return list(self._content.datasets[dataset_type])

    def data_ids(self, dimensions: str | Iterable[str]) -> list[DataCoordinate]:
        """Give the data units of a dimension, or the data ids of several, each once.

        Parameters
        ----------
        dimensions : str or iterable of str
            Such as ``"visit"`` or ``["visit", "detector"]``; what these require is added.
        """
        names = self._complete(dimensions)
        return [DataCoordinate(names, row) for row in self._index(names)]  # type: ignore[arg-type]

    def __iter__(self) -> Iterator[DatasetRef]:
        return iter(self.datasets())

    def __len__(self) -> int:
        return sum(map(len, self._content.datasets.values()))

    def __repr__(self) -> str:
        counts = ", ".join(f"{len(refs)} {name}" for name, refs in self._content.datasets.items())
        return (
            f"DiscoveryGraph({counts or 'no datasets'}; {len(self._content.rows)} rows of {', '.join(self.dimensions)})"
        )

    # -- relations ---------------------------------------------------------------------------------

    def related_data_ids(
        self, node: Node | Mapping[str, DataIdValue], dimensions: str | Iterable[str]
    ) -> list[DataCoordinate]:
        """Give the data ids that go together with a data unit or dataset.

        Parameters
        ----------
        node : DatasetRef, DataCoordinate or Mapping
            A dataset, or a data id of dimensions of the graph.
        dimensions : str or iterable of str
            As of `data_ids`.
        """
        names = self._complete(dimensions)
        return [DataCoordinate(names, row) for row in self._related(node, names)]  # type: ignore[arg-type]

    def related_datasets(self, node: Node | Mapping[str, DataIdValue], dataset_type: str) -> list[DatasetRef]:
        """Give the datasets of a type that go together with a data unit or dataset.

        Of an output's data id, these are all its possible inputs (DMS-MWBT-REQ-0080).
        """
        required = self._required_of(dataset_type)
        by_row = self._datasets_by(dataset_type)
        return [ref for row in self._related(node, required) for ref in by_row.get(row, ())]

    def nodes(self) -> Iterator[Node]:
        """Give all data units, then all datasets."""
        for name in self.dimensions:
            yield from self.data_ids(name)
        yield from self

    def edges(self) -> Iterator[tuple[Node, Node]]:
        """Give each pair of nodes that a row relates directly, once: ``networkx.Graph(graph.edges())``.

        A dataset is related to the data units of its dimensions, a data unit to those that it requires and to
        those of other dimensions in the same row, as a visit to the patches that it overlaps.
        """
        for first, one in enumerate(self.dimensions):
            for other in self.dimensions[first + 1 :]:
                units = self._content.required[one], self._content.required[other]
                pairs = self._index((*units[0], *units[1]))
                for row in pairs:
                    ends = row[: len(units[0])], row[len(units[0]) :]
                    yield DataCoordinate(units[0], ends[0]), DataCoordinate(units[1], ends[1])  # type: ignore[arg-type]
        for ref in self:
            for name in ref.data_id.required_names:
                unit = self._content.required[name]
                yield ref, DataCoordinate(unit, tuple(ref.data_id[part] for part in unit))  # type: ignore[misc]

    # -- handing it on -----------------------------------------------------------------------------

    def to_json(self) -> bytes:
        """Write the graph for where there is no Butler, as in a batch job; equal graphs give equal bytes."""
        return msgspec.json.encode(self._content, order="deterministic")

    def to_dot_lines(self) -> Iterator[str]:
        """Write the graph for Graphviz, line by line."""
        from pantry.client.butler.dot import lines

        return lines(self)

    @classmethod
    def from_json(cls, text: bytes | str) -> DiscoveryGraph:
        """Read what `to_json` wrote."""
        try:
            content = msgspec.json.decode(text, type=GraphContent)
        except msgspec.DecodeError as exc:
            raise InvalidRequestError(f"not a discovery graph: {exc}", hint="write it with to_json()") from None
        if any(len(row) != len(content.dimensions) for row in content.rows):
            raise InvalidRequestError("not a discovery graph: its rows have other dimensions than it says")
        types = content.dataset_types.keys()
        whole = content.required.keys() == set(content.dimensions)
        if not whole or content.datasets.keys() != types or content.identified_by.keys() != types:
            raise InvalidRequestError("not a discovery graph: it is not complete")
        return cls(content)

    # -- inside ------------------------------------------------------------------------------------

    def _type(self, name: str) -> DatasetType:
        try:
            return self._content.dataset_types[name]
        except KeyError:
            raise MissingDatasetTypeError(
                f"the graph has no dataset type {name!r}", hint=f"it has {', '.join(self.dataset_types) or 'none'}"
            ) from None

    def _required_of(self, dataset_type: str) -> tuple[str, ...]:
        return self._content.identified_by[self._type(dataset_type).name]

    def _complete(self, dimensions: str | Iterable[str]) -> tuple[str, ...]:
        asked = (dimensions,) if isinstance(dimensions, str) else tuple(dimensions)
        unknown = [name for name in asked if name not in self._place]
        if unknown:
            raise DimensionNameError(
                f"the graph has no dimension {', '.join(unknown)}", hint=f"it has {', '.join(self.dimensions)}"
            )
        needed = {part for name in asked for part in self._content.required[name]}
        return tuple(sorted(needed, key=self._place.__getitem__))

    def _index(self, names: tuple[str, ...]) -> dict[_Row, list[int]]:
        """Rows by their values of some dimensions; in the order in which these come, without absent ones."""
        found = self._rows_by.get(names)
        if found is None:
            found = {}
            places = [self._place[name] for name in names]
            for number, row in enumerate(self._content.rows):
                key = tuple([row[place] for place in places])
                if None not in key:
                    found.setdefault(key, []).append(number)
            self._rows_by[names] = found
        return found

    def _datasets_by(self, dataset_type: str) -> dict[_Row, list[DatasetRef]]:
        found = self._refs_by.get(dataset_type)
        if found is None:
            found = {}
            required = self._required_of(dataset_type)
            for ref in self._content.datasets[dataset_type]:
                found.setdefault(tuple(ref.data_id[name] for name in required), []).append(ref)
            self._refs_by[dataset_type] = found
        return found

    def _related(self, node: Node | Mapping[str, DataIdValue], names: tuple[str, ...]) -> list[_Row]:
        data_id: Mapping[str, Any] = node.data_id.required if isinstance(node, DatasetRef) else dict(node)
        strange = [name for name in data_id if name not in self._place]
        if strange:
            raise DimensionNameError(
                f"the graph has no dimension {', '.join(strange)}", hint=f"it has {', '.join(self.dimensions)}"
            )
        own = tuple(sorted(data_id, key=self._place.__getitem__))
        rows: Sequence[int] = range(len(self._content.rows))
        if own:
            rows = self._index(own).get(tuple(data_id[name] for name in own), [])
        places = [self._place[name] for name in names]
        every = (tuple([self._content.rows[number][place] for place in places]) for number in rows)
        return list(dict.fromkeys(key for key in every if None not in key))
