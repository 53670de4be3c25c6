"""Sky maps as dimension records, whoever wrote them: ours, a third party's, or Rubin's ``lsst.skymap``."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

from pantry.errors import InvalidRequestError
from pantry.model.records import DimensionRecord

_NEEDED = (
    "it needs sha1, len(), and tracts with id, patches_x, patches_y, region and patches of id, cell_x, cell_y, region"
)


class _Summary(NamedTuple):
    sha1: str
    tracts: int
    patches_x: int
    patches_y: int


def skymap_record(name: str, skymap: Any) -> DimensionRecord:
    """Make the record of a whole sky map; looks at all its tracts, as what they have most of is part of it."""
    found = _summary(skymap)
    values: dict[str, Any] = {
        "name": name,
        "hash": found.sha1,
        "tract_max": found.tracts,
        "patch_nx_max": found.patches_x,
        "patch_ny_max": found.patches_y,
    }
    return DimensionRecord(element="skymap", values=values)


def tract_records(name: str, skymap: Any, tracts: Iterable[int] | None = None) -> Iterator[DimensionRecord]:
    """Give the records of the tracts, each followed by those of its patches.

    Parameters
    ----------
    name : str
        Of the sky map.
    skymap : object
        See `pantry.client.Butler.register_skymap`.
    tracts : iterable of int, optional
        Only these.
    """
    chosen = None if tracts is None else set(tracts)
    left = set() if chosen is None else set(chosen)
    for given in skymap:
        tract = _Tract.of(given)
        if chosen is not None and tract.id not in chosen:
            continue
        left.discard(tract.id)
        yield DimensionRecord(
            element="tract", values={"skymap": name, "id": tract.id}, region=bytes(tract.region.encode())
        )
        for patch in tract.patches:
            yield DimensionRecord(
                element="patch",
                values={
                    "skymap": name,
                    "tract": tract.id,
                    "id": patch[0],
                    "cell_x": patch[1],
                    "cell_y": patch[2],
                },
                region=bytes(patch[3].encode()),
            )
    if left:
        raise InvalidRequestError(f"the sky map has no tract {min(left)}")


class _Tract(NamedTuple):
    id: int
    patches_x: int
    patches_y: int
    given: Any

    @classmethod
    def of(cls, given: Any) -> _Tract:
        """Look at a tract of any of the known makes."""
        try:
            if hasattr(given, "getNumPatches"):
                columns, rows = given.getNumPatches()
                return cls(int(given.getId()), int(columns), int(rows), given)
            return cls(int(given.id), int(given.patches_x), int(given.patches_y), given)
        except (AttributeError, TypeError, ValueError) as exc:
            raise InvalidRequestError(f"this is no sky map: {exc}", hint=_NEEDED) from None

    @property
    def region(self) -> Any:
        """The polygon of all of it."""
        return self.given.getOuterSkyPolygon() if hasattr(self.given, "getOuterSkyPolygon") else self.given.region

    @property
    def patches(self) -> Iterator[tuple[int, int, int, Any]]:
        """Number, column, row and region of each patch."""
        if not hasattr(self.given, "getNumPatches"):
            for patch in self.given:
                yield int(patch.id), int(patch.cell_x), int(patch.cell_y), patch.region
            return
        for patch in self.given:
            column, row = patch.getIndex()
            yield self.patches_x * int(row) + int(column), int(column), int(row), _rubin_region(patch, self.given)


def _rubin_region(patch: Any, tract: Any) -> Any:
    try:
        return patch.getOuterSkyPolygon()
    except TypeError:  # before 2022 a patch did not know its tract's projection
        return patch.getOuterSkyPolygon(tract.getWcs())


def _summary(skymap: Any) -> _Summary:
    own = getattr(skymap, "sha1", None)
    try:
        sha1 = own if own is not None else skymap.getSha1()
        count = len(skymap)
    except (AttributeError, TypeError) as exc:
        raise InvalidRequestError(f"this is no sky map: {exc}", hint=_NEEDED) from None
    most_x = most_y = 0
    for given in skymap:
        tract = _Tract.of(given)
        most_x, most_y = max(most_x, tract.patches_x), max(most_y, tract.patches_y)
    return _Summary(sha1.hex() if isinstance(sha1, bytes) else str(sha1), count, most_x, most_y)
