"""What is known to be wrong in all headers of a Rubin camera from certain nights.

These are of the cameras, not of single exposures, and the same in every repository; as published with Rubin's own
translators (lsst/obs_lsst). Corrections of single exposures are a repository's: `client/instruments/corrections.py`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

_ROTPA_TURNED_FROM, _ROTPA_TURNED_UNTIL = 20250302, 20250421
"""Days on which LSSTCam's ROTPA was that of the commissioning camera, which is turned by 90 degrees."""
_ROTPA_REVERSED_DAY, _ROTPA_REVERSED_BEFORE = 20250422, 251
_DOME_WAS_CLOSED = {
    20250518: ((0, 99_999),),
    20250703: ((743, 745),),
    20250704: ((832, 834),),
    20250705: ((1, 736),),
    20250707: ((744, 823), (864, 943)),
    20250714: ((258, 781),),
    20250715: ((205, 1218),),
    20250819: ((4, 1052),),
}
"""Days and counters for which LSSTCam's VIGN_MIN did not say that the dome was closed."""
_LATISS_END_FROM = 20200201
_LATISS_OBJECT_FROM = 20200127
_LATISS_DEGREES_FROM = 20200128
_LATISS_START_FROM = 20200501
_COMCAM_IN_CHILE_FROM = 20200313


def known_faults(instrument: str, header: Mapping[str, Any]) -> dict[str, Any]:
    """Return what of a header must be replaced.

    Parameters
    ----------
    instrument : str
        The camera's name in data ids.
    header : Mapping
        As the file has it.

    Returns
    -------
    dict
        Keywords and right values; None takes a value away.
    """
    try:
        day = int(str(header.get("DAYOBS")).replace("-", ""))
    except ValueError:
        return {}
    if instrument == "LSSTCam":
        return _lsstcam(header, day)
    if instrument == "LSSTComCam":
        return _comcam(header, day)
    if instrument == "LATISS":
        return _latiss(header, day)
    return {}


def _lsstcam(header: Mapping[str, Any], day: int) -> dict[str, Any]:
    found: dict[str, Any] = {}
    rotation, counter = header.get("ROTPA"), header.get("SEQNUM")
    if isinstance(rotation, int | float) and math.isfinite(rotation):
        if _ROTPA_TURNED_FROM <= day <= _ROTPA_TURNED_UNTIL:
            found["ROTPA"] = rotation - 90.0
        elif day == _ROTPA_REVERSED_DAY and isinstance(counter, int) and counter < _ROTPA_REVERSED_BEFORE:
            found["ROTPA"] = rotation % 360.0 - 180.0
    closed = _DOME_WAS_CLOSED.get(day, ())
    if isinstance(counter, int) and "VIGN_MIN" in header and any(one <= counter <= last for one, last in closed):
        found["VIGN_MIN"] = "FULLY"
    return found


def _comcam(header: Mapping[str, Any], day: int) -> dict[str, Any]:
    found: dict[str, Any] = {}
    if not isinstance(header.get("ROTPA"), int | float):
        found["ROTPA"] = 0.0
    if header.get("FILTER") in ("r", ""):  # a band is no filter
        found["FILTER"] = "empty" if day >= _COMCAM_IN_CHILE_FROM else "r_03"
    return found


def _latiss(header: Mapping[str, Any], day: int) -> dict[str, Any]:
    found: dict[str, Any] = {}
    if str(header.get("DATE-OBS") or "").startswith("1970") and header.get("DATE"):
        # The clock was not set: when the header was written is the best that there is.
        found |= {"DATE-OBS": header["DATE"], "DATE-BEG": header["DATE"]}
        found |= {"MJD-OBS": header.get("MJD"), "MJD-BEG": header.get("MJD"), "DATE-END": None, "MJD-END": None}
    if day < _LATISS_END_FROM and header.get("DATE-END"):
        found |= {"DATE-END": None, "MJD-END": None}
    if day < _LATISS_OBJECT_FROM and header.get("IMGTYPE") == "OBJECT":
        found["IMGTYPE"] = "ENGTEST"
    if day < _LATISS_DEGREES_FROM:
        for keyword in ("RA", "DEC"):
            if isinstance(header.get(keyword), int | float):
                found[keyword] = math.degrees(header[keyword])
    if day < _LATISS_START_FROM:
        # Of a wrong place of the telescope.
        for keyword in ("RASTART", "DECSTART", "RAEND", "DECEND"):
            if header.get(keyword) is not None:
                found[keyword] = None
    return found
