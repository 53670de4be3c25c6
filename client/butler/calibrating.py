"""Calibration files become datasets that are found by the time of an exposure (DMS-MWBT-REQ-0009)."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, Literal

from pantry.client.butler.raws import Path, Raws
from pantry.client.butler.times import TimespanLike, as_timespan
from pantry.errors import InvalidRequestError, MissingDatasetTypeError
from pantry.model.collections import CollectionType
from pantry.model.data_id import DataIdValue
from pantry.model.datasets import DatasetRef
from pantry.model.timespan import Timespan
from pantry.wire.operations.data import Transfer

if TYPE_CHECKING:
    from pantry.client.instruments.calibrations import CalibrationFile

Validity = TimespanLike | Literal["always", "by_date"]
_DIMENSIONS = ("instrument", "detector", "physical_filter")


class Calibrating(Raws):
    """The methods of `Butler` that take calibration files in."""

    def ingest_calibrations(
        self,
        files: Iterable[Path],
        *,
        instrument: str = "",
        collection: str = "",
        run: str | None = None,
        validity: Validity = "always",
        transfer: Transfer = "copy",
        skip_existing: bool = False,
    ) -> list[DatasetRef]:
        """Take master calibrations in, by what their headers say, and certify them (DMS-MWBT-REQ-0009).

        Parameters
        ----------
        files : iterable of path
            FITS files of biases, darks, flats and the like.
        instrument : str
            If their headers do not name it.
        collection : str
            CALIBRATION collection; by default ``<instrument>/calib``. Made if need be.
        run : str, optional
            RUN collection; by default one for each date, ``<instrument>/calib/<date>``.
        validity : "always", "by_date", Timespan or pair
            For when they are certified. By date: each from its own until that of the next for the same data id.
        transfer, skip_existing
            As of `ingest`.

        Returns
        -------
        list of DatasetRef
            In the order of the files.

        Raises
        ------
        FormatterError
            A header does not say what the file is. Nothing was ingested.
        ConflictError
            Another calibration is valid in that time. The files were ingested, and none of that type certified.
        """
        from pantry.client.instruments.calibrations import read_calibration

        self._writing()
        found = [read_calibration(os.fspath(path), instrument) for path in files]
        names = sorted({str(one.data_id["instrument"]) for one in found})
        for name in names:
            self._know_instrument(name)
        runs = [run or f"{one.data_id['instrument']}/calib/{one.date}Z" for one in found]
        formatters = ["fits_hdus"] * len(found)
        refs = self._take(found, runs, formatters, transfer, skip_existing)
        for name in names:
            chosen = [(one, ref) for one, ref in zip(found, refs, strict=True) if one.data_id["instrument"] == name]
            self._certify_files(collection or f"{name}/calib", chosen, validity)
        return refs

    def write_curated_calibrations(
        self,
        instrument: str,
        directory: Path,
        *,
        collection: str = "",
        transfer: Transfer = "copy",
        skip_existing: bool = False,
    ) -> list[DatasetRef]:
        """Take calibrations in that people keep as text, as defects, each valid from its date until the next.

        Parameters
        ----------
        instrument : str
            Its name in data ids.
        directory : path
            In Rubin's layout, ``TYPE/DETECTOR/[FILTER/]YYYYMMDDThhmmss.ecsv``, of ECSV, YAML, JSON or FITS files; or
            the directory of one type. Times are UTC.
        collection : str
            CALIBRATION collection; by default ``<instrument>/calib``. Made if need be.
        transfer, skip_existing
            As of `ingest`.

        Returns
        -------
        list of DatasetRef
            In runs ``<instrument>/calib/curated/<date>``.

        Raises
        ------
        InvalidRequestError
            A file lies where none of this layout does, or says itself that it is something else.
        """
        from pantry.client.instruments.calibrations import FORMATS, find_curated

        self._writing()
        self._know_instrument(instrument)
        self._know_detectors(instrument)
        records = self.query_dimension_records("detector", where="instrument = :name", bind={"name": instrument})
        detectors: dict[str, Any] = {str(one.values["full_name"]): one.values["id"] for one in records}
        filters = self.query_dimension_records("physical_filter", where="instrument = :name", bind={"name": instrument})
        names = [str(one.values["name"]) for one in filters]
        found = list(find_curated(os.fspath(directory), instrument, detectors, names))
        if not found:
            raise InvalidRequestError(
                f"{os.fspath(directory)} has no calibrations", hint=f"files with {', '.join(sorted(FORMATS))}"
            )
        formatters = [FORMATS[os.path.splitext(one.path)[1]] for one in found]
        for one, formatter in zip(found, formatters, strict=True):
            _check(one, formatter)
        runs = [f"{instrument}/calib/curated/{one.date}Z" for one in found]
        refs = self._take(found, runs, formatters, transfer, skip_existing)
        self._certify_files(collection or f"{instrument}/calib", list(zip(found, refs, strict=True)), "by_date")
        return refs

    def _know_detectors(self, instrument: str) -> None:
        from pantry.client.instruments.cameras import CAMERAS
        from pantry.client.instruments.observation import detector_record

        if instrument in CAMERAS:
            camera = CAMERAS[instrument]
            records = [detector_record(instrument, one) for one in camera.detectors.values()]
            self.insert_dimension_records("detector", *records, skip_existing=True)

    def _take(
        self,
        files: Sequence[CalibrationFile],
        runs: Sequence[str],
        formatters: Sequence[str],
        transfer: Transfer,
        skip_existing: bool,
    ) -> list[DatasetRef]:
        """Ingest files with the records that they need; requests are of one type, run and format each."""
        from pantry.client.instruments.cameras import CAMERAS

        for name in {str(one.data_id["instrument"]) for one in files}:
            self._know_detectors(name)
        for name, physical in sorted({(str(one.data_id["instrument"]), str(one.data_id["physical_filter"]))
                                      for one in files if "physical_filter" in one.data_id}):  # fmt: skip
            band = CAMERAS[name].band(physical) if name in CAMERAS else "unknown"
            self.insert_dimension_records("band", {"name": band}, skip_existing=True)
            filter_record = {"instrument": name, "name": physical, "band": band}
            self.insert_dimension_records("physical_filter", filter_record, skip_existing=True)
        groups: dict[tuple[str, str, str], list[CalibrationFile]] = {}
        for one, run, formatter in zip(files, runs, formatters, strict=True):
            groups.setdefault((one.dataset_type, run, formatter), []).append(one)
        by_path: dict[str, DatasetRef] = {}
        for (kind, run, formatter), members in groups.items():
            self._calibration_type(kind, members[0], formatter)
            rows = [(one.path, one.data_id) for one in members]
            self.ingest(kind, rows, run=run, transfer=transfer, formatter=formatter, skip_existing=skip_existing)
            there = {_key(ref.data_id.required): ref for ref in self.query_datasets(kind, run, find_first=False)}
            by_path.update((one.path, there[_key(one.data_id)]) for one in members)
        return [by_path[one.path] for one in files]

    def _calibration_type(self, name: str, example: CalibrationFile, formatter: str) -> None:
        from pantry.client.instruments.calibrations import STORAGE_CLASSES

        try:
            self.get_dataset_type(name)
        except MissingDatasetTypeError:
            dimensions = [dimension for dimension in _DIMENSIONS if dimension in example.data_id]
            self.register_dataset_type(name, dimensions, STORAGE_CLASSES[formatter], is_calibration=True)

    def _certify_files(
        self, collection: str, members: Sequence[tuple[CalibrationFile, DatasetRef]], validity: Validity
    ) -> None:
        self.collections.register(collection, CollectionType.CALIBRATION)
        by_time: dict[tuple[str, Timespan], list[DatasetRef]] = {}
        for (one, ref), timespan in zip(members, _timespans(members, validity), strict=True):
            by_time.setdefault((one.dataset_type, timespan), []).append(ref)
        for (_, timespan), refs in by_time.items():
            self.certify(collection, refs, timespan)


def _timespans(members: Sequence[tuple[CalibrationFile, DatasetRef]], validity: Validity) -> list[Timespan]:
    if validity == "always":
        return [as_timespan((None, None))] * len(members)
    if validity != "by_date":
        if isinstance(validity, str):
            raise InvalidRequestError(
                f"unknown validity {validity!r}", hint="always, by_date, or a pair of begin and end"
            )
        return [as_timespan(validity)] * len(members)
    from pantry.client.instruments.calibrations import tai_ns

    begins: dict[tuple[object, ...], list[int]] = {}
    for one, _ in members:
        begins.setdefault((one.dataset_type, *_key(one.data_id)), []).append(tai_ns(one.date))
    found = []
    for one, _ in members:
        begin = tai_ns(one.date)
        later = [other for other in begins[one.dataset_type, *_key(one.data_id)] if other > begin]
        found.append(as_timespan((begin, min(later, default=None))))
    return found


def _key(data_id: Any) -> tuple[tuple[str, DataIdValue], ...]:
    return tuple(sorted(dict(data_id).items()))


def _check(file: CalibrationFile, formatter: str) -> None:
    from pantry.client.formatters.declared import read_local
    from pantry.client.instruments.calibrations import check_curated
    from pantry.model.metadata import MetadataEntry

    entries = [MetadataEntry(name=key.lower(), type="string", key=key) for key in ("INSTRUME", "DETECTOR", "OBSTYPE")]
    said = read_local(formatter, file.path, entries)
    check_curated(file, {entry.key: said[entry.name] for entry in entries})
