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

ONE, TWO = "e15ab039-bc8b-4135-87c5-90902a7c0b22", "51352db4-a47a-447c-b12d-a50b206b17cd"
_WHOLE = [0, 4_102_444_800_000_000_000]

# Everything that Gen3's grammar has, at least once.
GRAMMAR: list[dict[str, Any]] = [
    # Fields of the datasets searched.
    *[
        _datasets("bias", *collections, where=where, find_first=find_first)
        for collections in (("chain",), ("imported_g", "imported_r"), ("imported_r",))
        for find_first in (True, False)
        for where in (
            f"bias.dataset_id = UUID('{ONE}')",
            f"dataset_id IN (UUID('{ONE}'), UUID('{TWO}'))",
            f"dataset_id != UUID('{ONE}')",
            f"NOT (bias.dataset_id = UUID('{ONE.upper()}'))",
            f"bias.dataset_id NOT IN (UUID('{TWO}'), UUID('{ONE.replace('-', '')}'))",
            "bias.run = 'imported_r'",
            "run = 'imported_g' OR detector = 3",
            "GLOB(run, '*_g')",
            "run IN ('imported_r', 'other')",
            "collection = 'imported_r'",
            "bias.collection != 'tagged'",
            "ingest_date > T'2020-01-01'",
            "bias.ingest_date < T'2020-01-01'",
            "bias.ingest_date OVERLAPS (T'2020-01-01', NULL)",
            "bias.timespan OVERLAPS T'2021-02-01'",
            "bias.timespan.begin < T'2021-02-01' AND run = 'imported_g'",
        )
    ],
    _datasets("bias", "chain", where="dataset_id = one", bind={"one": {"uuid": ONE}}),
    _datasets("bias", "chain", where="dataset_id IN (:some)", bind={"some": [{"uuid": ONE}, {"uuid": TWO}]}),
    *[
        _datasets("bias", "calib", where=where, find_first=False)
        for where in (
            "bias.timespan OVERLAPS (T'2021-02-01', T'2021-03-01')",
            "timespan OVERLAPS T'2021-07-01'",
            "bias.timespan.begin >= T'2021-06-01/tai'",
            "timespan.end > T'2021-12-31/tai'",
            "bias.timespan.end < T'2150-01-01'",
            "bias.timespan OVERLAPS (T'1950-01-01', T'2021-01-02')",
            "collection = 'calib' AND run = 'imported_r'",
        )
    ],
    _datasets("bias", "calib", where="timespan OVERLAPS when", find_first=False, bind={"when": {"timespan": _WHOLE}}),
    _datasets("bias", "imported_g", "imported_r", find_first=False, order_by=["-run", "detector"]),
    _datasets("bias", "imported_g", "imported_r", find_first=False, order_by=["detector", "bias.run"]),
    _datasets("bias", "imported_g", "imported_r", order_by=["run", "-detector"]),
    _datasets("bias", "chain", order_by=["bias.collection", "-detector.full_name"]),
    _data_ids("detector", data_id=CAM, dataset_types=["bias"], collections=["chain"], where="bias.run = 'imported_r'"),
    _data_ids(
        "detector",
        "physical_filter",
        data_id=CAM,
        dataset_types=["flat", "bias"],
        collections=["imported_g", "imported_r"],
        where="flat.run = 'imported_r'",
    ),
    _data_ids(
        "detector",
        data_id=CAM,
        dataset_types=["bias"],
        collections=["imported_g"],
        where=f"bias.dataset_id = UUID('{ONE}') OR bias.ingest_date < T'2020-01-01'",
    ),
    # Values of all kinds, NULL, lists, bind values.
    *[
        _records("detector", data_id=CAM, where=where)
        for where in (
            "detector IN (1, NULL)",
            "detector.raft IN (NULL)",
            "detector.raft NOT IN ('A', NULL)",
            "detector.raft = NULL",
            "NULL != detector.raft",
            "detector > 1.5",
            "detector < 2.e0",
            "detector >= .1e1",
            "detector IN (-3..2)",
            "detector IN (1..4 : 3, 2)",
            "detector IN (1 .. 2)",
            "-detector < -2",
            "+detector = +2",
            "detector * 2 - 1 = 3",
            "(detector + 1) % 2 = 0",
            "detector.instrument = 'Cam1'",
            "instrument.name = 'Cam1' AND detector.id = 2",
            "instrument.detector_max > 2",
            "GLOB(detector.full_name, '?a')",
            "glob(detector.full_name, 'A\\*')",
            "GLOB(detector.full_name, '[A]a')",
            "GLOB(detector.full_name, 'A%') OR GLOB(detector.full_name, '_a')",
            "GLOB(detector.full_name, '*')",
            "not detector = 1 and (Detector.Full_Name = 'Ab' or detector = 3)".replace(
                "Detector.Full_Name", "full_name"
            ),
            "full_name = 'Aa'",
            "purpose = 'SCIENCE' AND raft = 'B'",
            "detector = 1\n  OR\n\tdetector = 2",
            "NOT NOT detector = 1",
            "detector = 1 OR detector = 2 AND raft = 'B'",
            "NOT detector = 1 OR detector = 1",
        )
    ],
    _records("detector", data_id=CAM, where="detector IN (some)", bind={"some": [1, 3]}),
    _records("detector", data_id=CAM, where="detector IN (:some, 4)", bind={"some": [1, 3]}),
    _records("detector", data_id=CAM, where="detector NOT IN (some)", bind={"some": []}),
    _records("detector", data_id=CAM, where="detector.raft IN (:a, :b)", bind={"a": "A", "b": "C"}),
    _records("detector", data_id=CAM, where="GLOB(detector.full_name, :like)", bind={"like": "A*"}),
    _records(
        "detector", data_id=CAM, where="instrument = cam AND detector = :number", bind={"cam": "Cam1", "number": 2}
    ),
    _records("visit", data_id=CAM, where="visit.instrument = 'Cam1' AND visit.id < 3"),
    _records("visit", data_id=CAM, where="visit.region = NULL"),
    _records("visit", data_id=CAM, where="visit.timespan = NULL"),
    _records("visit_detector_region", data_id=CAM, where="visit_detector_region.region OVERLAPS POINT(+1, -.5)"),
    _records("visit_detector_region", data_id=CAM, where="visit_detector_region.visit = 1 AND detector > 2"),
]

# Exposure n and visit n are one, but for exposure 1 they differ in filter, band or day; see worlds.py.
_SHARED: list[dict[str, Any]] = [
    *[
        {"kind": "data_ids", "dimensions": list(dimensions), "data_id": {"instrument": "Cam2"}, "where": where}
        for dimensions in (
            ("exposure",),
            ("visit",),
            ("exposure", "visit"),
            ("exposure", "physical_filter"),
            ("exposure", "detector"),
            ("visit", "detector", "exposure"),
        )
        for where in (
            "",
            "visit.id > 0",
            "exposure.id > 0",
            "visit.physical_filter = 'r1'",
            "exposure.physical_filter = 'r1'",
            "exposure.day_obs = 20250101 AND visit.seq_num = NULL",
            "exposure.day_obs = visit.day_obs",
            "visit.physical_filter != exposure.physical_filter",
            "band = 'r' AND visit > 1",
        )
    ],
    *[
        _records(element, data_id={"instrument": "Cam2"}, where=where)
        for element in ("exposure", "visit", "visit_definition", "physical_filter", "day_obs")
        for where in ("", "visit = 2", "exposure IN (1, 4)", "visit.id > 0 AND exposure.id > 0")
    ],
]

BASE: list[dict[str, Any]] = [
    *_SHARED,
    *GRAMMAR,
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

_TIMES = (
    "2013-06-17", "2013-06-17 13:30", "2013-06-17T13:30:00", "2013-6-17 13:30:11.5", "2013-06-17T13:30:00/tai",
    "iso/2013-06-17 13:30:00", "isot/2013-06-17T13:30:00", "fits/+02013-06-17T13:30:00", "+02013-06-17", "2013:168",
    "2013:168:13:30", "yday/2013:168:13:30:01.5/utc", "56460.5625", "mjd/56460.5625", "mjd/56460.5625/utc",
    "jd/2456461.0625", "jd/2456461.0625/tt", "unix/1371475800.0", "unix_tai/1371475835.0", "gps/1055511016.0",
    "cxcsec/487863067.2", "jyear/2013.4595", "byear/2013.4595", "decimalyear/2013.4595", "plot_date/15873.5625",
    "2013-06-17T13:30:00+00:00", "2013-06-17T13:30:00/TDB", "ISO/2013-06-17",
)  # fmt: skip

CI_HSC: list[dict[str, Any]] = [
    *[
        _data_ids("visit", data_id=HSC, where=f"visit.timespan.{end} {order} T'{time}'")
        for time in _TIMES
        for end, order in (("begin", ">"), ("end", "<="))
    ],
    _data_ids("visit", data_id=HSC, where="visit.timespan OVERLAPS (T'2013-06-17T13:30', T'2013-06-17T13:40')"),
    _data_ids("visit", data_id=HSC, where="visit.timespan OVERLAPS t'2013-06-17T13:30:00'"),
    _data_ids(
        "visit", data_id=HSC, where="(NULL, t1) OVERLAPS visit.timespan", bind={"t1": {"ns": 1371475835 * 10**9}}
    ),
    _data_ids("visit", data_id=HSC, where="visit.timespan.begin > :t1", bind={"t1": {"ns": 1371475835 * 10**9}}),
    _data_ids("visit", data_id=HSC, where="day_obs.timespan OVERLAPS T'2013-06-17T13:30:00'"),
    _data_ids("visit", data_id=HSC, order_by=["-visit.timespan.begin"]),
    _data_ids("visit", data_id=HSC, order_by=["visit.exposure_time", "-visit.timespan.end", "visit"]),
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
