"""A small repository to test the registry with: one camera, four detectors, a few exposures, a sky map."""

from __future__ import annotations

from pathlib import Path
from uuid import UUID, uuid4

from lsst.sphgeom import Angle, Circle, LonLat, UnitVector3d

from pantry.daemon.registry import NewDataset, Registry, default_universe
from pantry.model.data_id import DataIdValue
from pantry.model.datasets import DatasetType, StoredFile
from pantry.model.records import DimensionRecord
from pantry.model.timespan import Timespan
from pantry.wire.operations.registry import FindDataset, QueryDatasets

CAMERA = "TestCam"
DAY = 20250415
EXPOSURES = tuple(2025041500001 + number for number in range(6))
DETECTORS = (0, 1, 2, 94)
FILTERS = {"r_01": "r", "g.2": "g"}
RAW = DatasetType(name="raw", dimensions=("exposure", "detector"), storage_class="FitsHDUList")
COADD = DatasetType(name="coadd", dimensions=("patch", "band"), storage_class="FitsArray")
BIAS = DatasetType(name="bias", dimensions=("detector",), storage_class="FitsArray", is_calibration=True)
CALEXP = DatasetType(name="calexp", dimensions=("visit", "detector"), storage_class="CCDData")
CONFIG = DatasetType(name="config", dimensions=(), storage_class="StructuredDataDict")
HASH = "0123456789abcdef" * 2


REGION = Circle(UnitVector3d(LonLat.fromDegrees(62.0, -37.0)), Angle.fromDegrees(1.0)).encode()


def sqlite_url(directory: Path) -> str:
    return f"sqlite:///{directory}/registry.sqlite3"


def create(url: str) -> Registry:
    return Registry.create(url, default_universe(), uuid=str(uuid4()))


def record(element: str, **values: object) -> DimensionRecord:
    timespan = values.pop("timespan", None)
    region = values.pop("region", None)
    return DimensionRecord(element=element, values=values, timespan=timespan, region=region)  # type: ignore[arg-type]


def filter_of(exposure: int) -> str:
    return "r_01" if exposure % 2 else "g.2"


def exposure_record(exposure: int, **more: object) -> DimensionRecord:
    number = exposure - EXPOSURES[0] + 1
    values: dict[str, object] = {
        "instrument": CAMERA,
        "id": exposure,
        "obs_id": f"T_{DAY}_{number:06}",
        "physical_filter": filter_of(exposure),
        "group": f"group {number if exposure in EXPOSURES else 1}",
        "day_obs": DAY,
        "seq_num": number,
        "exposure_time": 15.0 * number,
        "observation_type": "science" if number > 2 else "bias",
        "can_see_sky": number > 2,
        "timespan": Timespan(number * 1000, number * 1000 + 500),
    }
    return record("exposure", **(values | more))


def records() -> list[DimensionRecord]:
    made = [record("instrument", name=CAMERA, detector_max=100)]
    made += [record("physical_filter", instrument=CAMERA, name=name, band=band) for name, band in FILTERS.items()]
    made += [
        record(
            "detector",
            instrument=CAMERA,
            id=number,
            full_name=f"R{number:02}_S00",
            purpose="SCIENCE",
            raft=f"R{number:02}",
        )
        for number in DETECTORS
    ]
    made.append(record("day_obs", instrument=CAMERA, id=DAY, timespan=Timespan(0, 100_000)))
    for exposure in EXPOSURES:
        number = exposure - EXPOSURES[0] + 1
        made.append(record("group", instrument=CAMERA, name=f"group {number}"))
        made.append(exposure_record(exposure))
        made.append(
            record(
                "visit",
                instrument=CAMERA,
                id=exposure,
                name=f"visit {number}",
                physical_filter=filter_of(exposure),
                day_obs=DAY,
                seq_num=number,
                region=REGION,
            )
        )
        made.append(record("visit_definition", instrument=CAMERA, exposure=exposure, visit=exposure))
    made.append(record("skymap", name="map", hash="00ff"))
    made += [record("tract", skymap="map", id=tract) for tract in (7, 8)]
    made += [
        record("patch", skymap="map", tract=tract, id=patch, cell_x=patch, cell_y=0)
        for tract in (7, 8)
        for patch in (0, 1)
    ]
    return made


def fill(registry: Registry) -> None:
    registry.insert_dimension_records(records())
    for dataset_type in (RAW, COADD, BIAS, CALEXP, CONFIG):
        registry.register_dataset_type(dataset_type)


def stored(path: str, size_bytes: int = 10) -> StoredFile:
    return StoredFile(
        path=path, size_bytes=size_bytes, hash=HASH, formatter="fits_hdus", ingest_ns=1_700_000_000_000_000_000
    )


def put(registry: Registry, dataset_type: str, run: str, **data_id: DataIdValue) -> UUID:
    prepared = registry.prepare_put(dataset_type, run, data_id)
    new = uuid4()
    registry.insert_datasets(run, dataset_type, [(new, prepared.data_id, stored(prepared.path))])
    return new


def put_raw(registry: Registry, run: str, exposure: int = EXPOSURES[0], detector: int = 94) -> UUID:
    return put(registry, "raw", run, instrument=CAMERA, exposure=exposure, detector=detector)


def put_all_raws(registry: Registry, run: str) -> list[UUID]:
    rows = [(CAMERA, exposure, detector) for exposure in EXPOSURES for detector in DETECTORS]
    prepared = registry.prepare_ingest("raw", run, ("instrument", "exposure", "detector"), rows)
    new: list[NewDataset] = [
        (uuid4(), values, stored(path)) for values, path in zip(prepared.values, prepared.paths, strict=True)
    ]
    registry.insert_datasets(run, "raw", new)
    return [id_ for id_, _, _ in new if isinstance(id_, UUID)]


def find_raw(registry: Registry, *collections: str, exposure: int = EXPOSURES[0], detector: int = 94) -> UUID | None:
    data_id: dict[str, DataIdValue] = {"instrument": CAMERA, "exposure": exposure, "detector": detector}
    query = FindDataset(repository="r", dataset_type="raw", data_id=data_id, collections=collections)
    found = registry.find_dataset(query)
    return found.ref.id if found.ref else None


def rows_of(registry: Registry, **arguments: object) -> list[dict[str, object]]:
    """Run a query for datasets and give each row as a dict, with its id, run and type."""
    found: list[dict[str, object]] = []
    query = QueryDatasets(**({"repository": "r", "dataset_types": ("raw",), "collections": ("run",)} | arguments))  # type: ignore[arg-type]
    for batch in registry.query_datasets(query):
        names = batch.required + batch.implied
        for number in range(len(batch.run_index)):
            row: dict[str, object] = {name: column[number] for name, column in zip(names, batch.columns, strict=True)}
            row["id"] = UUID(bytes=batch.ids[16 * number : 16 * number + 16])
            row["run"] = batch.runs[batch.run_index[number]]
            row["type"] = batch.dataset_type.name
            found.append(row)
    return found
