"""The Rubin cameras: their detectors, filters and limits, as their Gen3 registries have them."""

from __future__ import annotations

import re
from functools import cache

import msgspec

_BANDS = "ugrizy"
_SENSORS = [f"S{row}{column}" for row in range(3) for column in range(3)]
_CORNER_SENSORS = ["SG0", "SG1", "SW0", "SW1"]
_CORNER_RAFTS = ["R00", "R04", "R40", "R44"]
_SCIENCE_RAFTS = [f"R{row}{column}" for row in range(5) for column in range(5)]
_PURPOSES = {"SG": "GUIDER", "SW": "WAVEFRONT"}
_LAST_YEAR = 2050
CONTROLLERS = "OCHPQS"
"""Who commanded an exposure, in the order in which each adds a thousand to the year in its exposure id."""

_LATISS_BANDS = {
    "empty": "white", "blank_bk7_wg05": "white", "cyl_lens": "white", "KPNO_1111_436nm": "g", "KPNO_373A_677nm": "r",
    "KPNO_406_828nm": "z", "BG40": "g", "BG40_65mm": "g", "RG610": "r", "FELH0600": "r", "OG550_65mm": "r",
    "quadnotch1": "notch", "diffuser": "diffuser",
}  # fmt: skip


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
    """

    id: int
    raft: str
    name_in_raft: str
    purpose: str = "SCIENCE"

    @property
    def full_name(self) -> str:
        """Raft and sensor, ``R22_S11``; a camera of one sensor has no raft."""
        return f"{self.raft}_{self.name_in_raft}" if self.raft else self.name_in_raft


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

    def band(self, physical_filter: str) -> str:
        """Return the band of a physical filter; ``unknown`` if the name does not tell."""
        name = physical_filter.partition("~")[0]
        if self.name == "LATISS":
            match = re.fullmatch(r"(?:SDSS|sdss)([ugrizy])(?:_\w+)?", name)
            known = _LATISS_BANDS.get(name) or _LATISS_BANDS.get(re.sub(r"_\d+$", "", name))
            return match[1] if match else known or "unknown"
        match = re.fullmatch(rf"([{_BANDS}])(?:_\d+|_sim_\d+\.\d+)", name)
        if match:
            return match[1]
        return "white" if name in ("empty", "none") else "unknown"


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
    """Return the exposure id: year plus 1000 per controller, month, day, and the counter in five digits.

    Raises
    ------
    ValueError
        If the controller is unknown or the counter has more than five digits.
    """
    if len(controller) != 1 or controller not in CONTROLLERS:
        raise ValueError(f"unknown controller {controller!r}, known: {', '.join(CONTROLLERS)}")
    if not 0 <= seq_num < 100_000:
        raise ValueError(f"sequence number {seq_num} does not have at most five digits")
    return (day_obs + CONTROLLERS.index(controller) * 10_000_000) * 100_000 + seq_num


_LIMIT = exposure_id(_LAST_YEAR * 10_000 + 1231, 99_999, CONTROLLERS[-1])

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
