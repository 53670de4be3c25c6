"""Repositories of the Gen3 Butler with the registry exports that it ships, and the same in a registry of ours."""

from __future__ import annotations

import contextlib
import datetime
import functools
import json
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import UUID

from tests.oracle.asking import GenThreeButler, oracle_python
from tests.servers.pantryd import PantryDaemon

from pantry.client import Butler
from pantry.client.butler.batches import data_ids as data_ids_of
from pantry.client.butler.batches import refs as refs_of
from pantry.daemon.registry import Registry
from pantry.daemon.registry.gen3 import Gen3Registry
from pantry.model.collections import CollectionType
from pantry.model.data_id import DataCoordinate
from pantry.model.records import DimensionRecord
from pantry.model.timespan import Timespan
from pantry.wire.operations.registry import (
    EncodedTimespan,
    FindDataset,
    QueryDataIds,
    QueryDatasets,
    QueryDimensionRecords,
)
from pantry.wire.operations.repositories import QueryCollections

EXPORTS = {
    "base": ("base", "datasets", "spatial"),
    "ci_hsc": ("ci_hsc-subset", "ci_hsc-subset-skymap"),
    "hsc_rc2": ("hsc-rc2-subset-v0",),
    "lsstcam": ("lsstcam-subset",),
}
_SECOND = 1_000_000_000
_FIRST = ["2021-01-01T00:00:00", "2021-06-01T00:00:00"]
_SECOND_HALF = ["2021-06-01T00:00:00", "2022-01-01T00:00:00"]


@contextlib.contextmanager
def running_daemon() -> Iterator[PantryDaemon]:
    """Run a daemon for many tests; unexpected lines in its log fail the last one."""
    place = Path(tempfile.mkdtemp(prefix="pty-"))
    with PantryDaemon(place) as daemon:
        yield daemon
    assert daemon.unexpected_log_lines() == []
    shutil.rmtree(place)


@functools.cache
def exports() -> Path:
    """Find the directory of the exports that the oracle ships."""
    script = "from importlib import resources; print(resources.files('lsst.daf.butler.tests') / 'registry_data')"
    found = subprocess.run([oracle_python(), "-c", script], capture_output=True, text=True, check=True)
    return Path(found.stdout.strip())


def furnish(oracle: GenThreeButler, root: str, name: str, url: str = "") -> list[dict[str, Any]]:
    """Make a repository with exports; give the steps that made its other collections.

    ``url`` is of a database of PostgreSQL for its registry.
    """
    oracle("create", root=root, url=url.replace("postgresql+psycopg:", "postgresql:"))
    for export in EXPORTS[name]:
        oracle("import_export", root=root, name=export)
    steps: list[dict[str, Any]] = []
    if name == "base":
        found = oracle("ask", root=root, queries=[_all("bias", "imported_g"), _all("bias", "imported_r")])
        green, red = ([row[0] for row in answer["rows"]] for answer in found)
        steps = [
            {"step": "collection", "name": "tagged", "type": "TAGGED"},
            {"step": "associate", "name": "tagged", "ids": red[:2]},
            {"step": "collection", "name": "calib", "type": "CALIBRATION"},
            {"step": "certify", "name": "calib", "ids": green, "timespan": _FIRST},
            {"step": "certify", "name": "calib", "ids": red, "timespan": _SECOND_HALF},
            {"step": "chain", "name": "chain", "children": ["tagged", "imported_g", "imported_r"]},
            {"step": "chain", "name": "outer", "children": ["imported_r", "chain"]},
        ]  # fmt: skip
        steps += _differing()
        oracle("build", root=root, steps=steps)
    return steps


def _differing() -> list[dict[str, Any]]:
    """Make exposures whose visits have another filter or another day."""
    cam = {"instrument": "Cam2"}
    taken = {1: ("r1", 20250101), 2: ("r2", 20250101), 3: ("g1", 20250101), 4: ("r1", 20250102)}
    rows: dict[str, list[dict[str, Any]]] = {
        "instrument": [{"name": "Cam2", "detector_max": 4, "visit_max": 9, "exposure_max": 9, "class_name": ""}],
        "physical_filter": [{**cam, "name": name, "band": name[0]} for name in ("r1", "r2", "g1")],
        "day_obs": [{**cam, "id": day} for day in (20250101, 20250102)],
        "detector": [{**cam, "id": number, "full_name": f"D{number}"} for number in (0, 1)],
        "group": [{**cam, "name": "a"}],
        "exposure": [
            {**cam, "id": number, "obs_id": f"o{number}", "group": "a", "physical_filter": name, "day_obs": day}
            for number, (name, day) in taken.items()
        ],
        "visit": [
            {**cam, "id": number, "name": f"v{number}", "physical_filter": "r1", "day_obs": 20250101}
            for number in taken
        ],
        "visit_definition": [{**cam, "visit": number, "exposure": number} for number in taken],
    }
    return [{"step": "records", "element": element, "records": records} for element, records in rows.items()]


def _all(dataset_type: str, collection: str) -> dict[str, Any]:
    asked = {"kind": "datasets", "dataset_type": dataset_type, "collections": [collection], "find_first": False}
    return {**asked, "order_by": ["instrument", "detector"], "data_id": {"instrument": "Cam1"}}


def imported(socket: str, name: str, world: str, root: Path, url: str, source: Registry, steps: Any) -> Registry:
    """Let our own import take a world's exports into a new repository; then make the oracle's other collections.

    Parameters
    ----------
    socket : str
        Of the daemon that makes and fills the repository.
    name, root, url : str, Path, str
        Of the repository, of its directory and of its registry.
    world : str
        Key of `EXPORTS`.
    source : Registry
        Whose dimensions it gets.
    steps : list
        Of `furnish`.
    """
    dimensions = json.dumps(dict(source.universe.config))
    with Butler.create(name, str(root), registry=url, dimensions=dimensions, socket=socket) as butler:
        for export in EXPORTS[world]:
            path = exports() / f"{export}.yaml"
            # What reads a sky map is Rubin's.
            butler.import_(filename=path, without_datastore=True, storage_classes={"SkyMap": "Bytes"})
    target = Registry.open(url)
    for step in steps:
        match step["step"]:
            case "collection":
                target.register_collection(step["name"], CollectionType(step["type"]))
            case "chain":
                target.register_collection(step["name"], CollectionType.CHAINED)
                target.redefine_chain(step["name"], step["children"])
            case "associate":
                target.associate(step["name"], [UUID(one) for one in step["ids"]])
            case "certify":
                target.certify(step["name"], [UUID(one) for one in step["ids"]], span(step["timespan"]))
            case "records":
                records = [DimensionRecord(element=step["element"], values=values) for values in step["records"]]
                target.insert_dimension_records(records, skip_existing=True)
    return target


def span(ends: list[str | None]) -> Timespan:
    """Make a time span of texts, TAI, of whole seconds."""
    from pantry.daemon.registry.expressions.instants import parse_instant

    begin, end = (None if one is None else parse_instant(f"{one}/tai") for one in ends)
    return Timespan(0 if begin is None else begin, 4_102_444_800 * _SECOND if end is None else end)


def ask(registry: Registry, query: dict[str, Any]) -> list[Any]:
    """Ask a registry of ours what the oracle's ``ask`` asks."""
    more = {name: query[name] for name in ("where", "limit") if query.get(name) is not None}
    more["order_by"] = tuple(query.get("order_by", ()))
    more["data_id"] = query.get("data_id", {})
    more["bind"] = {name: _bound(value) for name, value in query.get("bind", {}).items()}
    collections = tuple(query.get("collections", ()))
    if query["kind"] == "find":
        timespan = span(query["timespan"]) if query.get("timespan") else None
        asked = FindDataset(
            repository="r",
            dataset_type=query["dataset_type"],
            data_id=query["data_id"],
            collections=collections,
            timespan=timespan,
        )
        ref = registry.find_dataset(asked).ref
        return [] if ref is None else [[str(ref.id), ref.run]]
    if query["kind"] == "collections":
        wanted = tuple(CollectionType(one) for one in query["types"])
        about = QueryCollections(
            repository="r", patterns=tuple(query["patterns"]), types=wanted, flatten_chains=query["flatten"]
        )
        return [one.name for one in registry.query_collections(about)]
    expand = bool(query.get("with_dimension_records"))
    rows: list[Any] = []
    if query["kind"] in ("datasets", "count"):
        datasets = QueryDatasets(
            repository="r",
            dataset_types=(query["dataset_type"],),
            collections=collections,
            find_first=query["find_first"],
            with_dimension_records=expand,
            **more,
        )
        if query["kind"] == "count":
            return [registry.count_datasets(datasets).get(query["dataset_type"], 0)]
        for batch in registry.query_datasets(datasets):
            rows += [
                [str(ref.id), ref.run, list(ref.data_id.required_values), *_expanded(ref.data_id)]
                for ref in refs_of(batch)
            ]
        return rows
    if query["kind"] == "data_ids":
        data_ids = QueryDataIds(
            repository="r",
            dimensions=tuple(query["dimensions"]),
            dataset_types=tuple(query.get("dataset_types", ())),
            collections=collections,
            with_dimension_records=expand,
            **more,
        )
        for found in registry.query_data_ids(data_ids):
            rows += [[[*one.required_values, *one.implied_values], *_expanded(one)] for one in data_ids_of(found)]
        return rows
    records = QueryDimensionRecords(repository="r", element=query["element"], **more)
    return [shown(record) for answer in registry.query_dimension_records(records) for record in answer.records]


def _bound(value: Any) -> Any:
    match value:
        case {"ns": ns}:
            return f"{nanoseconds(ns)}/tai"
        case {"uuid": text}:
            return text
        case {"timespan": ends}:
            return EncodedTimespan(*ends)
    return tuple(_bound(one) for one in value) if isinstance(value, list) else value


def nanoseconds(ns: int) -> str:
    """Write a time, TAI, as text."""
    seconds, rest = divmod(ns, _SECOND)
    return f"{datetime.datetime.fromtimestamp(seconds, datetime.UTC):%Y-%m-%dT%H:%M:%S}.{rest:09}"


def shown(record: DimensionRecord) -> dict[str, Any]:
    """Show a record as the oracle does, with all of its columns."""
    found: dict[str, Any] = dict(record.values)
    if record.timespan is not None:
        found["timespan"] = [record.timespan.begin_ns, record.timespan.end_ns]
    if record.region is not None:
        found["region"] = record.region.hex()
    return found


def _expanded(data_id: DataCoordinate) -> list[Any]:
    if not data_id.has_records():
        return []
    records = {name: None if one is None else shown(one) for name, one in data_id.records.items()}
    timespan, region = data_id.timespan, data_id.region
    return [records, timespan and [timespan.begin_ns, timespan.end_ns], region and bytes(region.encode()).hex()]


def opened(root: Path, url: str = "") -> Gen3Registry:
    """Attach the oracle's repository."""
    return Gen3Registry.attach(url or f"sqlite:///{root}/gen3.sqlite3", uuid="3f0d0b7e-3c09-4d0a-a8a2-5c8a2b2f8b43")
