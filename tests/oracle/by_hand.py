"""Queries written by hand for the corners; the oracle answers each of them."""

from __future__ import annotations

from typing import Any

CAM, HSC, LSST = {"instrument": "Cam1"}, {"instrument": "HSC"}, {"instrument": "LSSTCam"}
_MAP = {"skymap": "SkyMap1"}


def _datasets(dataset_type: str, *collections: str, find_first: bool = True, **more: Any) -> dict[str, Any]:
    asked = {"kind": "datasets", "dataset_type": dataset_type, "collections": list(collections)}
    return {**asked, "find_first": find_first, "data_id": CAM, **more}


def _data_ids(*dimensions: str, **more: Any) -> dict[str, Any]:
    return {"kind": "data_ids", "dimensions": list(dimensions), **more}


def _find(dataset_type: str, *collections: str, **more: Any) -> dict[str, Any]:
    return {"kind": "find", "dataset_type": dataset_type, "collections": list(collections), **more}


def _records(element: str, **more: Any) -> dict[str, Any]:
    return {"kind": "records", "element": element, **more}


_EARLY, _LATE = ["2021-02-01T00:00:00", "2021-03-01T00:00:00"], ["2021-07-01T00:00:00", None]

BASE: list[dict[str, Any]] = [
    *[
        _datasets(dataset_type, *collections, find_first=find_first)
        for dataset_type in ("bias", "flat")
        for collections in (
            ("imported_g",),
            ("imported_r",),
            ("imported_g", "imported_r"),
            ("imported_r", "imported_g"),
            ("tagged",),
            ("chain",),
            ("outer",),
            ("tagged", "outer"),
        )
        for find_first in (True, False)
    ],
    _datasets("bias", "calib", find_first=False),
    _datasets("bias", "calib", "imported_g", find_first=False),
    _datasets("flat", "chain", where="band = 'r'"),
    _datasets("flat", "chain", where="physical_filter.band = 'r' AND detector.purpose = 'SCIENCE'"),
    _datasets("bias", "chain", where="detector.full_name < 'Ab'"),
    _datasets("bias", "chain", where="detector IN (1..4:2)"),
    _datasets("bias", "chain", where="detector.id IN (1, 3..4)"),
    _datasets("bias", "chain", where="NOT detector IN (1, 2)"),
    _datasets("bias", "chain", where="detector NOT IN (1, 2)"),
    _datasets("bias", "chain", where="detector.raft = 'A' OR detector = 4"),
    _datasets("bias", "chain", where="GLOB(detector.full_name, 'A*')"),
    _datasets("bias", "chain", order_by=["-detector"], limit=2),
    _datasets("flat", "chain", order_by=["detector", "-physical_filter"]),
    *[
        _find("bias", *collections, data_id={**CAM, "detector": detector}, timespan=timespan)
        for collections in (("chain",), ("calib",), ("outer", "calib"), ("imported_r",))
        for detector in (1, 2, 3, 4)
        for timespan in (None, _EARLY, _LATE)
        if timespan or "calib" not in collections
    ],
    *[_find("bias", "imported_g", data_id={**CAM, "detector": name}) for name in ("Aa", "Ab", "Ba")],
    *[_data_ids(*dimensions, data_id=CAM) for dimensions in (("detector",), ("physical_filter",), ("visit",))],
    _data_ids("visit", "detector", data_id=CAM),
    _data_ids("detector", data_id=CAM, dataset_types=["bias"], collections=["imported_g"]),
    _data_ids("detector", "physical_filter", data_id=CAM, dataset_types=["flat", "bias"], collections=["outer"]),
    _data_ids("physical_filter", data_id=CAM, dataset_types=["flat"], collections=["imported_r"]),
    _data_ids("tract", "patch", data_id=_MAP),
    # By their regions.
    _data_ids("visit", "patch", data_id={**CAM, **_MAP}),
    _data_ids("visit", "tract", data_id={**CAM, **_MAP}),
    _data_ids("visit", "detector", "patch", data_id={**CAM, **_MAP}),
    _data_ids("visit", "detector", "tract", data_id={**CAM, **_MAP}),
    _data_ids("visit", data_id={**CAM, **_MAP}, where="tract = 0 AND patch = 3"),
    _data_ids("visit", data_id={**CAM, **_MAP}, where="tract = 1"),
    _data_ids("patch", data_id={**CAM, **_MAP}, where="visit = 1"),
    _data_ids("patch", data_id={**CAM, **_MAP}, where="visit = 2 AND detector = 3"),
    _data_ids("visit", "detector", "patch", data_id={**CAM, **_MAP}, where="visit.region OVERLAPS tract.region"),
    _data_ids("visit", "htm7", data_id=CAM),
    _data_ids("patch", "htm7", data_id=_MAP),
    _records("patch", data_id={**CAM, **_MAP, "visit": 1}),
    _records("visit", data_id={**CAM, **_MAP, "tract": 1, "patch": 2}),
    _records("visit_detector_region", data_id={**CAM, **_MAP, "tract": 0, "patch": 2}),
    *[
        _data_ids("visit", "detector", data_id=CAM, where=f"visit_detector_region.region OVERLAPS {shape}")
        for shape in (
            "POINT(0, 0)",
            "POINT(2.5, 0.5)",
            "POLYGON(0, 0, 2, 0, 2, 2, 0, 2)",
            "REGION('CIRCLE 1.0 1.0 0.5')",
            "REGION('POLYGON 0 0 3 0 3 1')",
        )
    ],
    *[
        _data_ids("patch", data_id=_MAP, where=f"patch.region OVERLAPS {shape}")
        for shape in ("POINT(0, 0)", "REGION('CIRCLE 1.0 1.0 1.5')", "POLYGON(0, 0, 1, 0, 1, 1)")
    ],
    *[_records(element, data_id=CAM) for element in ("detector", "physical_filter", "visit", "visit_detector_region")],
    _records("detector", data_id=CAM, order_by=["-detector.full_name"], limit=3),
    _records("instrument"),
    _records("skymap"),
    _records("band"),
]

CI_HSC: list[dict[str, Any]] = [
    _datasets("calexp", "HSC/runs/ci_hsc/20240806T180642Z", data_id=HSC),
    _datasets("calexp", "HSC/runs/ci_hsc/20240806T180642Z", data_id=HSC, where="band = 'r'"),
    _datasets(
        "calexp", "HSC/runs/ci_hsc/20240806T180642Z", data_id={**HSC, "skymap": "discrete/ci_hsc"}, where="tract = 0"
    ),
    _data_ids("visit", "tract", data_id={**HSC, "skymap": "discrete/ci_hsc"}),
    _data_ids("visit", "detector", "tract", data_id={**HSC, "skymap": "discrete/ci_hsc"}),
    _data_ids(
        "visit", "detector", data_id=HSC, dataset_types=["calexp"], collections=["HSC/runs/ci_hsc/20240806T180642Z"]
    ),
    _data_ids("visit", data_id=HSC, where="visit.timespan.begin > T'2013-01-01'"),
    _data_ids("visit", data_id=HSC, where="visit.region OVERLAPS POINT(320.9, -0.3)"),
    _records("visit", data_id=HSC, order_by=["visit.timespan.begin", "visit"]),
    _records("visit", data_id=HSC, where="visit.exposure_time > 20 AND band IN ('i', 'r')"),
]

HSC_RC2: list[dict[str, Any]] = [
    _data_ids("visit", "patch", data_id={**HSC, "skymap": "hsc_rings_v1"}),
    _data_ids("visit", "tract", data_id={**HSC, "skymap": "hsc_rings_v1"}),
    _data_ids("exposure", "detector", data_id=HSC, where="exposure.observation_type = 'science'"),
    _records("exposure", data_id=HSC),
    _records("visit_system_membership", data_id=HSC),
]

LSSTCAM: list[dict[str, Any]] = [
    _data_ids("exposure", "visit", data_id=LSST),
    _data_ids("exposure", data_id=LSST, where="visit.exposure_time > 0"),
    _data_ids("visit", "detector", data_id=LSST),
    _data_ids("visit", "visit_system", data_id=LSST),
    _records("visit_definition", data_id=LSST),
    _records("group", data_id=LSST),
]

BY_HAND = {"base": BASE, "ci_hsc": CI_HSC, "hsc_rc2": HSC_RC2, "lsstcam": LSSTCAM}
