"""Which dimensions of a query must be related by their regions on the sky, because nothing else relates them.

The rules are those of the Gen3 Butler: the dimensions of a query fall into families of regions (those of
observations, those of the sky map, each sky pixel); a dataset type that has dimensions of two families
relates them, as does ``OVERLAPS`` in the expression; the last two families that nothing relates are joined.
"""

from __future__ import annotations

from pantry.errors import InvalidQueryError
from pantry.model.dimensions import DimensionGroup, DimensionUniverse


class SkyConnections:
    """The families of regions in a query, and which of them are related.

    Parameters
    ----------
    universe : DimensionUniverse
        Of the repository.
    group : DimensionGroup
        The query's.
    """

    def __init__(self, universe: DimensionUniverse, group: DimensionGroup) -> None:
        self._universe = universe
        self._families = universe.families(group.required, "spatial")
        self._sets: list[set[str]] = [{name} for name in self._families]

    def related_by(self, group: DimensionGroup) -> None:
        """Say that a table relates the dimensions of a group."""
        among = [name for name in self._universe.families(group.required, "spatial") if name in self._families]
        for name in among[1:]:
            self._merge(among[0], name)

    def related(self, one: str, other: str) -> None:
        """Say that the regions of two elements are compared by the query itself."""
        among = [family for family, members in self._families.items() if {one, other} & set(members)]
        for name in among[1:]:
            self._merge(among[0], name)

    def missing(self) -> tuple[str, str] | None:
        """Give the two elements whose regions must overlap; None if all is related.

        Raises
        ------
        InvalidQueryError
            If it is not clear which two.
        """
        if len(self._sets) < 2:
            return None
        if len(self._sets) > 2 or any(len(one) > 1 for one in self._sets):
            members = [" and ".join(sorted(self._families[name][0] for name in one)) for one in self._sets]
            raise InvalidQueryError(
                f"it is not clear which regions on the sky shall overlap: those of {'; '.join(sorted(members))}",
                hint="say it in the expression, as in: visit.region OVERLAPS patch.region",
            )
        one, other = (self._families[next(iter(members))][0] for members in self._sets)
        return one, other

    def _merge(self, one: str, other: str) -> None:
        first = next(members for members in self._sets if one in members)
        second = next(members for members in self._sets if other in members)
        if first is not second:
            self._sets.remove(second)
            first |= second
