"""Makes a small repository with the Gen3 Butler: ``gen3_repository.py DIRECTORY [DATABASE-URL]``.

Run by a Python that has ``lsst-daf-butler``. Exposure and visit n were taken from 100 n to 100 n + 30 s after
2025-01-01T00:00:00 TAI; visit n looks at right ascension 10 n, tract n lies half a degree beside it, both with a
radius of one degree.
"""

from __future__ import annotations

import sys
from typing import Any

import astropy.units as u
import numpy as np
from astropy.table import Table
from astropy.time import Time
from lsst.daf.butler import Butler, CollectionType, Config, DatasetType, Timespan
from lsst.sphgeom import Angle, Circle, LonLat, UnitVector3d

BEGIN = Time("2025-01-01T00:00:00", scale="tai")


def span(begin: float | None, end: float | None) -> Timespan:
    """Make a time span of seconds since `BEGIN`; None for an open end."""
    return Timespan(*(None if one is None else BEGIN + one * u.s for one in (begin, end)))


def circle(ra: float) -> Circle:
    """Make a circle of one degree on the equator."""
    return Circle(UnitVector3d(LonLat.fromDegrees(ra, 0)), Angle.fromDegrees(1))


def fill_records(butler: Butler) -> None:
    """Insert the dimension records."""

    def insert(element: str, *records: dict[str, Any]) -> None:
        butler.registry.insertDimensionData(element, *records)

    cam: dict[str, Any] = {"instrument": "Cam"}
    insert("instrument", {"name": "Cam", "detector_max": 4, "visit_max": 100, "exposure_max": 100, "class_name": ""})
    insert("physical_filter", {**cam, "name": "r_1", "band": "r"})
    insert("day_obs", {**cam, "id": 20250101})
    insert("detector", *[{**cam, "id": number, "full_name": f"D{number}"} for number in range(3)])
    for number in range(1, 6):
        taken = {
            **cam,
            "physical_filter": "r_1",
            "day_obs": 20250101,
            "timespan": span(number * 100, number * 100 + 30),
        }
        insert("group", {**cam, "name": f"g{number}"})
        exposure = {"id": number, "obs_id": f"o{number}", "group": f"g{number}", "seq_num": number}
        insert("exposure", {**taken, **exposure, "exposure_time": 30.0, "can_see_sky": number > 1})
        insert("visit", {**taken, "id": number, "name": f"v{number}", "region": circle(10 * number)})
        insert("visit_definition", {**cam, "visit": number, "exposure": number})
    insert("skymap", {"name": "map", "hash": b"\x01\xff", "tract_max": 10, "patch_nx_max": 1, "patch_ny_max": 1})
    insert("tract", *[{"skymap": "map", "id": number, "region": circle(10 * number + 0.5)} for number in range(5)])


def fill_datasets(butler: Butler) -> None:
    """Put datasets into collections of every type."""
    registry = butler.registry
    for name, dimensions, storage_class in (
        ("meta", ["exposure", "detector"], "StructuredDataDict"),
        ("cat", ["visit"], "ArrowAstropy"),
        ("bias", ["detector"], "StructuredDataDict"),
        ("conf", [], "StructuredDataDict"),
    ):
        kind = DatasetType(name, dimensions, storage_class, universe=butler.dimensions, isCalibration=name == "bias")
        registry.registerDatasetType(kind)
    for number in range(1, 6):
        for detector in range(3):
            butler.put({"e": number, "d": detector}, "meta", instrument="Cam", exposure=number, detector=detector)
        butler.put(Table({"x": np.arange(number)}), "cat", instrument="Cam", visit=number)
    butler.put({"a": 1}, "conf")
    biases = []
    for number in (1, 2):
        registry.registerRun(f"bias/{number}")
        biases.append(butler.put({"bias": number}, "bias", instrument="Cam", detector=0, run=f"bias/{number}"))
    registry.registerCollection("calib", CollectionType.CALIBRATION, doc="Biases with their validity.")
    registry.certify("calib", biases[:1], span(None, 250))
    registry.certify("calib", biases[1:], span(250, None))
    registry.registerCollection("tag", CollectionType.TAGGED)
    registry.associate(
        "tag", butler.query_datasets("meta", collections="run/1", where="instrument = 'Cam' AND exposure = 1")
    )
    registry.registerCollection("chain", CollectionType.CHAINED)
    registry.setCollectionChain("chain", ["tag", "run/1", "calib"])


def main() -> None:
    """Make the repository."""
    config = Config()
    if len(sys.argv) > 2:
        config["registry", "db"] = sys.argv[2]
    Butler.makeRepo(sys.argv[1], config=config)
    butler = Butler.from_config(sys.argv[1], writeable=True, run="run/1")
    fill_records(butler)
    fill_datasets(butler)


if __name__ == "__main__":
    main()
