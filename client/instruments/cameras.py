"""The Rubin cameras: their detectors, filters and limits, as their Gen3 registries have them."""

from __future__ import annotations

import re
from functools import cache
from typing import Protocol

import msgspec

_BANDS = "ugrizy"
_SENSORS = [f"S{row}{column}" for row in range(3) for column in range(3)]
_CORNER_SENSORS = ["SG0", "SG1", "SW0", "SW1"]
_CORNER_RAFTS = ["R00", "R04", "R40", "R44"]
_SCIENCE_RAFTS = [f"R{row}{column}" for row in range(5) for column in range(5)]
_PURPOSES = {"SG": "GUIDER", "SW": "WAVEFRONT"}
CONTROLLERS = "OCHPQS"
"""Who commanded an exposure, in the order in which each adds a thousand to the year in its exposure id."""
SIMULATED_CONTROLLERS = "HPQS"
"""Those whose exposures are simulated."""
_COUNTS_WITH_O_FROM = {"C": 20231005, "P": 20250418, "Q": 20250418, "S": 20250418}
"""From which day a controller shares the counter of O, so that its ids need no thousand years to be unique."""

_LATISS_BANDS = {
    "empty": "white", "blank_bk7_wg05": "white", "cyl_lens": "white", "KPNO_1111_436nm": "g", "KPNO_373A_677nm": "r",
    "KPNO_406_828nm": "z", "BG40": "g", "BG40_65mm": "g", "RG610": "r", "FELH0600": "r", "OG550_65mm": "r",
    "quadnotch1": "notch", "diffuser": "diffuser",
}  # fmt: skip


_LSSTCAM_BANDS = {
    "empty": "white", "none": "white", "ph_5": "white", "ph_05": "white", "ef_43": "white", "SDSSY": "y",
    "480nm": "g", "650nm": "r", "750nm": "i", "870nm": "z", "950nm": "y", "970nm": "y", "grid": "grid", "spot": "spot",
    "sparsegrid": "sparsegrid", "streak": "streak", "ellipses": "ellipses", "HIGH": "white", "LOW": "white", "uv": "u",
    "blue": "g", "red": "r", "nm750": "i", "nm850": "z", "nm960": "y",
}  # fmt: skip
"""Of the filters that are not of the survey: those of the test stands, as Rubin publishes them."""


class Detector(msgspec.Struct, frozen=True):
    """One sensor of a camera.

    Attributes
    ----------
    id : int
        Its number in data ids.
    raft, name_in_raft : str
        ``R22``, ``S11``.
    purpose : str
        ``SCIENCE``, ``WAVEFRONT`` or ``GUIDER``.
    given_name : str
        Its full name, if that is not made of raft and sensor.
    """

    id: int
    raft: str
    name_in_raft: str
    purpose: str = "SCIENCE"
    given_name: str = ""

    @property
    def full_name(self) -> str:
        """Raft and sensor, ``R22_S11``; a camera of one sensor has no raft."""
        if self.given_name:
            return self.given_name
        return f"{self.raft}_{self.name_in_raft}" if self.raft else self.name_in_raft


class Instrument(Protocol):
    """What records need to know of an instrument, however it is defined; attributes as of `Camera`."""

    @property
    def name(self) -> str: ...  # noqa: D102
    @property
    def class_name(self) -> str: ...  # noqa: D102
    @property
    def exposure_max(self) -> int: ...  # noqa: D102
    @property
    def detector_max(self) -> int: ...  # noqa: D102
    @property
    def visit_system(self) -> int: ...  # noqa: D102

    def detector_numbered(self, number: int) -> Detector:
        """Return a detector by its number in data ids; KeyError if there is none."""
        ...

    def band(self, physical_filter: str) -> str:
        """Return the band of a physical filter; ``unknown`` if the name does not tell."""
        ...


class Camera(msgspec.Struct, frozen=True):
    """What data ids and dimension records need to know of an instrument.

    Attributes
    ----------
    name : str
        The instrument's name in data ids.
    class_name : str
        Gen3's class for it, so that records may go back to a Gen3 repository.
    exposure_max, detector_max : int
        Exclusive limits of the ids.
    visit_system : int
        Gen3's number of how exposures make visits: 0 one to one, 2 by the range of their counters.
    """

    name: str
    class_name: str
    exposure_max: int
    detector_max: int
    visit_system: int

    @property
    def detectors(self) -> dict[str, Detector]:
        """All detectors by their full name."""
        return _detectors(self.name)

    def detector(self, raft: str, sensor: str) -> Detector:
        """Return a detector by raft and sensor; KeyError if there is none."""
        if self.name == "LATISS":
            return _detectors(self.name)["RXX_S00"]
        return _detectors(self.name)[f"{raft}_{sensor}"]

    def detector_numbered(self, number: int) -> Detector:
        """Return a detector by its number in data ids; KeyError if there is none."""
        return next(found for found in self.detectors.values() if found.id == number)

    def band(self, physical_filter: str) -> str:
        """Return the band of a physical filter; ``unknown`` if the name does not tell."""
        if self.name == "LATISS":
            return _latiss_band(physical_filter)
        name, _, neutral = physical_filter.partition("~")
        if name.startswith("ND_"):
            return "white~nd"
        match = re.fullmatch(rf"(?:SDSS)?([{_BANDS}])(?:_\d+|_sim_\d+\.\d+)?", name)
        band = match[1] if match else _LSSTCAM_BANDS.get(name, "unknown")
        if neutral.startswith("ND_"):
            return f"{band}~nd"
        return _LSSTCAM_BANDS.get(neutral, band) if band == "white" else band


def _latiss_band(physical_filter: str) -> str:
    """Return the band of filter and grating; of the sky's filters in the grating's place if the filter's is empty."""
    name, _, grating = physical_filter.partition("~")
    for one in (grating, name) if name == "empty" else (name,):
        match = re.fullmatch(r"(?:SDSS|sdss)([ugrizy])(?:_\w+)?", one)
        if match:
            return match[1]
    return _LATISS_BANDS.get(name) or _LATISS_BANDS.get(re.sub(r"_\d+$", "", name)) or "unknown"


@cache
def _detectors(camera: str) -> dict[str, Detector]:
    if camera == "LATISS":
        found = [Detector(0, "", "RXX_S00")]
    elif camera == "LSSTComCam":
        found = [Detector(i, "R22", sensor) for i, sensor in enumerate(_SENSORS)]
    else:
        rafts = [raft for raft in _SCIENCE_RAFTS if raft not in _CORNER_RAFTS]
        pairs = [(raft, sensor) for raft in rafts for sensor in _SENSORS]
        if camera == "LSSTCam":
            pairs += [(raft, sensor) for raft in _CORNER_RAFTS for sensor in _CORNER_SENSORS]
        found = [
            Detector(i, raft, sensor, _PURPOSES.get(sensor[:2], "SCIENCE")) for i, (raft, sensor) in enumerate(pairs)
        ]
    return {detector.full_name: detector for detector in found}


def exposure_id(day_obs: int, seq_num: int, controller: str) -> int:
    """Return the exposure id: year plus 1000 per controller that counts by itself, month, day, counter in five digits.

    Raises
    ------
    ValueError
        If the controller is unknown or the counter has more than five digits.
    """
    if len(controller) != 1 or controller not in CONTROLLERS:
        raise ValueError(f"unknown controller {controller!r}, known: {', '.join(CONTROLLERS)}")
    if not 0 <= seq_num < 100_000:
        raise ValueError(f"sequence number {seq_num} does not have at most five digits")
    own = day_obs < _COUNTS_WITH_O_FROM.get(controller, day_obs + 1)
    return (day_obs + own * CONTROLLERS.index(controller) * 10_000_000) * 100_000 + seq_num


_LIMIT = 7050_1231_99999
"""31 December 2050 with the last controller, as if each still counted by itself; so it is in Gen3's registries."""

CAMERAS: dict[str, Camera] = {
    camera.name: camera
    for camera in (
        Camera("LSSTCam", "lsst.obs.lsst.LsstCam", _LIMIT, 1000, 2),
        Camera("LSSTComCam", "lsst.obs.lsst.LsstComCam", _LIMIT, 1000, 2),
        Camera("LATISS", "lsst.obs.lsst.Latiss", _LIMIT, 1, 2),
        Camera("LSSTCam-imSim", "lsst.obs.lsst.LsstCamImSim", 9_999_999, 1000, 0),
    )
}
"""The instruments that raw files can be translated for."""
