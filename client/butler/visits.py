"""Visits of a new repository, from what processing in another one has found out (DMS-MWBT-REQ-0023)."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import msgspec

from pantry.client.butler.definitions import MAX_RECORDS, Definitions
from pantry.client.butler.reading import Reading
from pantry.errors import DatasetTypeError, FormatterError, InvalidRequestError, MissingDatasetTypeError
from pantry.model.datasets import DatasetRef
from pantry.model.dimensions import DimensionUniverse
from pantry.model.records import DimensionRecord
from pantry.wire.operations import GetDimensions, InsertDimensionRecords

if TYPE_CHECKING:
    from lsst.sphgeom import ConvexPolygon, UnitVector3d

_READERS = 4
_VALUES = 1000
"""Most values of one condition."""


class _Header(msgspec.Struct, frozen=True):
    """What the header of one image says.

    Attributes
    ----------
    visit, detector : int
        Whose image it is.
    corners : list of UnitVector3d
        Of its outermost pixels.
    values : dict
        By column, what its keywords say.
    """

    visit: int
    detector: int
    corners: list[Any]
    values: dict[str, Any]


class Visits(Reading, Definitions):
    """The method of `Butler` that makes visits of processed images."""

    def derive_visits(
        self,
        source: Visits,
        dataset_type: str,
        *,
        collections: str | Iterable[str] | None = None,
        where: str = "",
        bind: Mapping[str, Any] | None = None,
        columns: Mapping[str, str] | None = None,
        skip_existing: bool = False,
        progress: Callable[[int], None] | None = None,
    ) -> int:
        """Take visits from another repository, with their regions as its processed images have them.

        Of each visit that has such an image, the records of the visit, its exposures, filter, day and detectors are
        taken over. The regions of visit and detectors are those of the images' WCS, in place of what the other
        repository's records say.

        Parameters
        ----------
        source : Butler
            Of the other repository.
        dataset_type : str
            Of images by visit and detector, in a FITS format; only their headers are read.
        collections : str or iterable of str, optional
            Where to search for them; by default those of ``source``.
        where, bind
            Which of them; as of `query_datasets`.
        columns : Mapping, optional
            Columns of ``visit`` in this repository, by name, and keywords of the headers: ``{"seeing": "PSF_FWHM"}``. A
            number is the mean over the detectors that have it; text is that of the first.
        skip_existing : bool
            Leave visits that are there as they are, in place of `ConflictError`.
        progress : callable, optional
            Called with the number of headers read.

        Returns
        -------
        int
            How many records are new. Each 10,000 are inserted together or not at all.

        Raises
        ------
        FormatterError
            An image has no celestial WCS.
        """
        self._writing()
        if dataset_type not in {one.name for one in source.query_dataset_types(dataset_type)}:
            raise MissingDatasetTypeError(f"no dataset type {dataset_type!r} in {source.repository!r}")
        if not {"visit", "detector"} <= set(source.get_dataset_type(dataset_type).dimensions):
            raise DatasetTypeError(f"{dataset_type} is not by visit and detector")
        universe = DimensionUniverse(self.connection.call(GetDimensions(repository=self.repository)).config)
        known = {column.name for column in universe["visit"].metadata}
        if unknown := sorted(set(columns or {}) - known):
            raise InvalidRequestError(
                f"visits of {self.repository!r} have no {', '.join(unknown)}",
                hint=f"they have {', '.join(sorted(known))}",
            )
        refs = source.query_datasets(dataset_type, collections, where=where, bind=bind, limit=None)
        by_instrument: dict[str, list[DatasetRef]] = {}
        for ref in refs:
            by_instrument.setdefault(str(ref.data_id["instrument"]), []).append(ref)
        count = 0
        headers = _read(source, refs, dict(columns or {}), progress)
        for instrument, members in by_instrument.items():
            found = [headers[ref] for ref in members]
            common, visits = _records(source, instrument, found)
            count += self._insert_conformed(universe, common, skip_existing=True)
            count += self._insert_conformed(universe, visits, skip_existing=skip_existing)
        return count

    def _insert_conformed(
        self, universe: DimensionUniverse, records: Iterable[DimensionRecord], *, skip_existing: bool
    ) -> int:
        kept = [_conformed(universe, record) for record in records if record.element in universe.elements]
        order = {name: number for number, name in enumerate(universe.elements)}
        kept.sort(key=lambda record: order[record.element])
        return sum(
            self.connection.call(
                InsertDimensionRecords(
                    repository=self.repository,
                    records=tuple(kept[begin : begin + MAX_RECORDS]),
                    skip_existing=skip_existing,
                )
            ).count
            for begin in range(0, len(kept), MAX_RECORDS)
        )


def _conformed(universe: DimensionUniverse, record: DimensionRecord) -> DimensionRecord:
    """Leave out the columns that the universe's element has not."""
    element = universe[record.element]
    names = {*universe.required(record.element), *element.implies}
    names.update(column.name for column in (*element.keys, *element.metadata))
    return DimensionRecord(
        element=record.element,
        values={name: value for name, value in record.values.items() if name in names},
        timespan=record.timespan if element.temporal else None,
        region=record.region if element.spatial else None,
    )


def _read(
    source: Visits, refs: Sequence[DatasetRef], columns: dict[str, str], progress: Callable[[int], None] | None
) -> dict[DatasetRef, _Header]:
    """Read the headers, a few at a time: what a read waits for is the storage."""
    from concurrent.futures import ThreadPoolExecutor

    found: dict[DatasetRef, _Header] = {}
    with ThreadPoolExecutor(_READERS) as threads:
        for ref, header in zip(refs, threads.map(lambda ref: _header(source, ref, columns), refs), strict=True):
            found[ref] = header
            if progress is not None:
                progress(len(found))
    return found


def _header(source: Visits, ref: DatasetRef, columns: dict[str, str]) -> _Header:
    header = source.get_deferred(ref).get(component="header")
    return _Header(
        visit=ref.data_id["visit"],  # type: ignore[arg-type]
        detector=ref.data_id["detector"],  # type: ignore[arg-type]
        corners=_corners(header, str(ref)),
        values={name: header[keyword] for name, keyword in columns.items() if keyword in header},
    )


def _corners(header: Any, name: str) -> list[UnitVector3d]:
    import warnings

    from astropy.wcs import WCS, FITSFixedWarning, NoConvergence
    from lsst.sphgeom import LonLat, UnitVector3d

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FITSFixedWarning)
        try:
            wcs = WCS(header).celestial
            width, height = int(header["NAXIS1"]), int(header["NAXIS2"])
            # The outer edges of the outermost pixels, and the middle of each side, which distortion may push out.
            x = (-0.5, width / 2, width - 0.5, width - 0.5, width - 0.5, width / 2, -0.5, -0.5)
            y = (-0.5, -0.5, -0.5, height / 2, height - 0.5, height - 0.5, height - 0.5, height / 2)
            if wcs.naxis != 2:
                raise FormatterError(f"{name} has no celestial WCS in the header of its image")
            sky = wcs.pixel_to_world(x, y).icrs
            return [UnitVector3d(LonLat.fromDegrees(ra, dec)) for ra, dec in zip(sky.ra.deg, sky.dec.deg, strict=True)]
        except (ValueError, KeyError, TypeError, NoConvergence) as exc:
            raise FormatterError(f"{name} has no WCS that can be used: {exc}") from None


def _hull(corners: list[UnitVector3d]) -> ConvexPolygon:
    from lsst.sphgeom import ConvexPolygon

    return ConvexPolygon.convexHull(corners)


def _records(
    source: Visits, instrument: str, headers: list[_Header]
) -> tuple[list[DimensionRecord], list[DimensionRecord]]:
    """Give what the visits of an instrument refer to, and the visits with their regions."""
    by_visit: dict[int, list[_Header]] = {}
    for header in headers:
        by_visit.setdefault(header.visit, []).append(header)

    def ask(element: str, dimension: str, values: Iterable[Any]) -> Iterator[DimensionRecord]:
        wanted = sorted({value for value in values if value is not None})
        for begin in range(0, len(wanted), _VALUES):
            yield from source.query_dimension_records(
                element,
                where=f"instrument = :instrument AND {dimension} IN (:values)",
                bind={"instrument": instrument, "values": tuple(wanted[begin : begin + _VALUES])},
            )

    visits = list(ask("visit", "visit", by_visit))
    definitions = list(ask("visit_definition", "visit", by_visit))
    exposures = list(ask("exposure", "exposure", (one.values.get("exposure") for one in definitions)))
    both = [*visits, *exposures]
    common = [
        *source.query_dimension_records("instrument", where="instrument = :name", bind={"name": instrument}),
        *source.query_dimension_records("visit_system", where="instrument = :name", bind={"name": instrument}),
        *ask("physical_filter", "physical_filter", (one.values.get("physical_filter") for one in both)),
        *ask("day_obs", "day_obs", (one.values.get("day_obs") for one in both)),
        *ask("group", "group", (one.values.get("group") for one in exposures)),
        *ask("detector", "detector", (header.detector for header in headers)),
        *exposures,
    ]
    made: list[DimensionRecord] = []
    for record in visits:
        images = by_visit[int(record.values["id"])]  # type: ignore[arg-type]
        region = _hull([corner for image in images for corner in image.corners])
        values = {**record.values, **_combined(images)}
        made.append(msgspec.structs.replace(record, values=values, region=bytes(region.encode())))
        for image in images:
            joined: dict[str, Any] = {"instrument": instrument, "visit": image.visit, "detector": image.detector}
            encoded = bytes(_hull(image.corners).encode())
            made.append(DimensionRecord(element="visit_detector_region", values=joined, region=encoded))
    memberships = ask("visit_system_membership", "visit", by_visit)
    return common, [*made, *definitions, *memberships]


def _combined(images: list[_Header]) -> dict[str, Any]:
    """Give the mean of numbers, and of anything else what the first image says."""
    found: dict[str, Any] = {}
    for name in {name for image in images for name in image.values}:
        values = [image.values[name] for image in images if name in image.values]
        numbers = [value for value in values if isinstance(value, int | float) and not isinstance(value, bool)]
        found[name] = sum(numbers) / len(numbers) if numbers and len(numbers) == len(values) else values[0]
    return found
