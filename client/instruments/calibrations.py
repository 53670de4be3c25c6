"""Calibration files: what they are and for when, by their headers or by where they lie (DMS-MWBT-REQ-0009)."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any

import msgspec

from pantry.client.instruments.cameras import CAMERAS
from pantry.client.instruments.headers import read_raw_header
from pantry.errors import FormatterError, InvalidRequestError

WITH_FILTER = frozenset({"flat", "fringe", "sky", "illum"})
"""Types of which there is one for each filter."""
FORMATS = {".ecsv": "ecsv", ".yaml": "yaml", ".yml": "yaml", ".json": "json", ".fits": "fits_hdus", ".parq": "parquet"}
"""Formatters of curated calibrations, by suffix."""
STORAGE_CLASSES = {
    "ecsv": "AstropyTable",
    "yaml": "YamlDict",
    "json": "StructuredDataDict",
    "fits_hdus": "FitsHDUList",
    "parquet": "ArrowAstropy",
}
_DATE = "%Y%m%dT%H%M%S"
_GEN3 = "LSST BUTLER DATAID "
"""How Rubin's software begins the keywords with a data id."""


class CalibrationFile(msgspec.Struct, frozen=True, kw_only=True):
    """One file, and what it is.

    Attributes
    ----------
    path : str
        Where it is.
    dataset_type : str
        ``bias``, ``flat``, ``defects``.
    data_id : dict
        ``instrument``, ``detector`` and, for some types, ``physical_filter``.
    date : str
        From when it is, ``20180921T000000`` in UTC.
    """

    path: str
    dataset_type: str
    data_id: dict[str, str | int]
    date: str


def read_calibration(path: str, instrument: str = "") -> CalibrationFile:
    """Read of the header of a master calibration what it is.

    The type is OBSTYPE or IMGTYPE; detector, filter and date are those of CALIB_ID (``detector=42 filter=r
    calibDate=2022-08-06``), of the data id that newer software of Rubin writes, or of DETECTOR or DETNAME, FILTER and
    CALIBDATE or DATE-OBS.

    Parameters
    ----------
    path : str
        A FITS file.
    instrument : str
        If the header does not name it.

    Raises
    ------
    FormatterError
        The header does not tell one of these; the message says which.
    """
    header = {name: value for name, value in read_raw_header(path).items() if value not in (None, "")}
    words = dict(re.findall(r"(\w+)=(\S+)", str(header.get("CALIB_ID", ""))))

    def first(what: str, *keywords: str) -> Any:
        found = words.get(what) or next((header[keyword] for keyword in keywords if keyword in header), None)
        return found.strip() if isinstance(found, str) else found

    named = instrument or first("instrument", f"{_GEN3}INSTRUMENT", "INSTRUME") or ""
    kind = first("datasetType", "LSST BUTLER DATASETTYPE", "OBSTYPE", "IMGTYPE")
    if not named:
        raise FormatterError(f"{path}: the header names no instrument", hint="give the instrument: --instrument")
    if not kind:
        raise FormatterError(f"{path}: no OBSTYPE in the header says what it is", hint="is it a calibration?")
    camera = next((name for name in CAMERAS if name.lower() == str(named).lower()), str(named))
    kind = str(kind).lower()
    data_id: dict[str, str | int] = {
        "instrument": camera,
        "detector": _detector(camera, first("detector", f"{_GEN3}DETECTOR", "DETECTOR", "DETNAME"), path),
    }
    if kind in WITH_FILTER:
        physical = first("filter", f"{_GEN3}PHYSICAL_FILTER", "FILTER")
        if physical is None:
            raise FormatterError(f"{path}: a {kind} is of a filter, and its header has none")
        data_id["physical_filter"] = str(physical)
    date = str(first("calibDate", "CALIBDATE", "DATE-OBS", "DATE") or "")
    return CalibrationFile(path=path, dataset_type=kind, data_id=data_id, date=_stamp(date, path))


def _detector(camera: str, found: Any, path: str) -> int:
    if isinstance(found, int) or (isinstance(found, str) and found.isdecimal()):
        return int(found)
    known = CAMERAS[camera].detectors if camera in CAMERAS else {}
    if found in known:
        return known[found].id
    raise FormatterError(f"{path}: the header does not say of which detector it is ({found!r})")


def _stamp(date: str, path: str) -> str:
    try:
        return datetime.fromisoformat(date).strftime(_DATE)
    except ValueError:
        raise FormatterError(f"{path}: no date of the calibration in its header ({date!r})") from None


def find_curated(
    directory: str, instrument: str, detectors: Mapping[str, int], filters: Sequence[str]
) -> Iterator[CalibrationFile]:
    """Find curated calibrations in Rubin's layout: ``[TYPE/]DETECTOR/[FILTER/]YYYYMMDDThhmmss.ecsv``.

    Parameters
    ----------
    directory : str
        Of an instrument, with a directory for each type, or of one type.
    instrument : str
        Its name in data ids.
    detectors : Mapping
        Numbers by full name.
    filters : sequence of str
        Names of physical filters.

    Raises
    ------
    InvalidRequestError
        A file is where none of this layout is.
    """
    detectors = {name.lower(): number for name, number in detectors.items()}
    by_name = {name.lower(): name for name in filters}
    root = os.path.abspath(directory)
    for folder, below, names in os.walk(root):
        below.sort()
        for name in sorted(names):
            stem, suffix = os.path.splitext(name)
            if suffix not in FORMATS:
                continue
            path = os.path.join(folder, name)
            parts = [part for part in os.path.relpath(folder, root).split(os.sep) if part != "."]
            if not parts or parts[0].lower() in detectors:
                parts.insert(0, os.path.basename(root))
            yield _curated(path, instrument, [*parts, stem], detectors, by_name)


def _curated(
    path: str, instrument: str, parts: Sequence[str], detectors: Mapping[str, int], filters: Mapping[str, str]
) -> CalibrationFile:
    kind, *between, stem = parts
    data_id: dict[str, str | int] = {"instrument": instrument}
    for part in between:
        if part.lower() in detectors:
            data_id["detector"] = detectors[part.lower()]
        elif part.lower() in filters:
            data_id["physical_filter"] = filters[part.lower()]
        else:
            raise InvalidRequestError(
                f"{path}: {part!r} is neither a detector nor a filter of {instrument}",
                hint="the layout is TYPE/DETECTOR/[FILTER/]YYYYMMDDThhmmss.ecsv; names of detectors as r22_s11",
            )
    try:
        datetime.strptime(stem, _DATE)
    except ValueError:
        raise InvalidRequestError(
            f"{path}: {stem!r} is no date", hint="curated calibrations are named by when they begin, YYYYMMDDThhmmss"
        ) from None
    return CalibrationFile(path=path, dataset_type=kind, data_id=data_id, date=stem)


def check_curated(file: CalibrationFile, says: Mapping[str, Any]) -> None:
    """Refuse a file whose metadata say that it is something else than where it lies says.

    Parameters
    ----------
    file : CalibrationFile
        By where it lies.
    says : Mapping
        Its metadata: INSTRUME, DETECTOR, OBSTYPE; what it does not say is not compared.
    """
    here = {
        "INSTRUME": file.data_id["instrument"],
        "DETECTOR": file.data_id.get("detector"),
        "OBSTYPE": file.dataset_type,
    }
    for keyword, expected in here.items():
        said = says.get(keyword)
        if said is not None and expected is not None and str(said).lower() != str(expected).lower():
            raise InvalidRequestError(
                f"{file.path}: {keyword} in it is {said!r}, but where it lies says {expected!r}",
                hint="it may have been copied to a wrong place",
            )


def tai_ns(date: str) -> int:
    """Return a date of `CalibrationFile` as nanoseconds since 1970-01-01 TAI."""
    from astropy.time import Time

    from pantry.client.instruments.times import tai_ns as nanoseconds

    return nanoseconds(Time(datetime.strptime(date, _DATE), scale="utc"))
