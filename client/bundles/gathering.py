"""The dimension records that datasets need: asked for by their keys, many at a time."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from pantry.client.bundles.contents import Key, record_key
from pantry.client.butler.access import RepositoryAccess
from pantry.client.butler.bind_values import bind_values
from pantry.model.dimensions import DimensionGroup, DimensionUniverse
from pantry.model.records import DimensionRecord
from pantry.wire.operations import QueryDimensionRecords

_KEYS = 1_000
"""Values of a dimension in one question."""

Rows = dict[DimensionGroup, dict[Key, None]]
"""Values of the required dimensions of data ids, by their group."""


class Gathering:
    """Collects records of a repository, each once.

    Parameters
    ----------
    butler : RepositoryAccess
        Of the repository.
    universe : DimensionUniverse
        Its dimensions.

    Attributes
    ----------
    records : dict
        What was found so far, by element and key.
    """

    def __init__(self, butler: RepositoryAccess, universe: DimensionUniverse) -> None:
        self._butler = butler
        self._universe = universe
        self.records: dict[str, dict[Key, DimensionRecord]] = {}

    def gather(self, group: DimensionGroup, rows: Iterable[Key]) -> None:
        """Find the records of all elements that data ids identify, and of what these imply."""
        required = list(rows)
        columns: dict[str, list[Any]] = (
            {name: list(values) for name, values in zip(group.required, zip(*required, strict=True), strict=True)}
            if required
            else {}
        )
        # What implies comes behind what it implies.
        for name in reversed(self._universe.elements):
            element = self._universe[name]
            needed = self._universe.required(name)
            if name in self._universe.skypix or element.implied_union_target is not None:
                continue
            if not needed or any(part not in columns for part in needed):
                continue
            keys = list(zip(*(columns[part] for part in needed), strict=True))
            found = self._known(name, needed, dict.fromkeys(keys))
            for other in element.implies:
                if other in group.names and other not in columns:
                    records = [found.get(key) for key in keys]
                    columns[other] = [None if one is None else one.values.get(other) for one in records]

    def _known(self, name: str, needed: tuple[str, ...], keys: Mapping[Key, None]) -> dict[Key, DimensionRecord]:
        held = self.records.setdefault(name, {})
        lacking = {key for key in keys if key not in held and None not in key}
        if lacking:
            held.update((key, record) for key, record in self._find(name, needed, lacking) if key in lacking)
        return held

    def _find(self, name: str, needed: tuple[str, ...], keys: set[Key]) -> Iterator[tuple[Key, DimensionRecord]]:
        distinct = [sorted({key[place] for key in keys}) for place in range(len(needed))]
        longest = max(range(len(needed)), key=lambda place: len(distinct[place]))
        for begin in range(0, len(distinct[longest]), _KEYS):
            tests, bind = [], {}
            for place, values in enumerate(distinct):
                some = values[begin : begin + _KEYS] if place == longest else values
                if len(some) <= _KEYS:
                    tests.append(f"{needed[place]} IN (values_{place})")
                    bind[f"values_{place}"] = some
            operation = QueryDimensionRecords(
                repository=self._butler.repository,
                element=name,
                where=" AND ".join(tests),
                bind=bind_values(bind),
            )
            for batch in self._butler.connection.stream(operation):
                for record in batch.records:
                    yield record_key(self._universe, record), record
