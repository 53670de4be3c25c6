"""Exports and imports with the Gen3 Butler, and says what it then has: ``imports.py REQUESTS.json``.

Run by a Python that has ``lsst-daf-butler``. Each request is a list: ``["export", ROOT, DIRECTORY]`` makes the
repository of `gen3_repository` and exports all of it; ``["import", ROOT, UNIVERSE, FILE...]`` imports files into a
new repository, with a published universe or with the newest (an empty name), and prints one line of JSON with
everything in it.
"""

from __future__ import annotations

import json
import logging
import sys
import warnings
from pathlib import Path
from typing import Any

import gen3_repository
from lsst.daf.butler import Butler, CollectionType, DimensionConfig, Timespan


def export(root: str, directory: str) -> None:
    """Make a repository with collections of all types and export it with its files."""
    Butler.makeRepo(root)
    butler = Butler.from_config(root, writeable=True, run="run/1")
    gen3_repository.fill_records(butler)
    gen3_repository.fill_datasets(butler)
    Path(directory).mkdir()
    with butler.export(directory=directory, format="yaml", transfer="copy") as exporter:
        for element in butler.dimensions.elements:
            if element.has_own_table:
                exporter.saveDimensionData(element, butler.query_dimension_records(element.name, explain=False))
        refs = [
            ref
            for kind in butler.registry.queryDatasetTypes()
            for ref in butler.query_datasets(kind, collections="*", find_first=False, explain=False)
        ]
        exporter.saveDatasets(refs)
        for info in butler.collections.query_info("*"):
            exporter.saveCollection(info.name)


def import_all(root: str, universe: str, *files: str) -> dict[str, Any]:
    """Import files without the datastore and say what the repository has."""
    config = None
    if universe:
        config = DimensionConfig(f"resource://lsst.daf.butler/configs/old_dimensions/{universe}.yaml")
    Butler.makeRepo(root, dimensionConfig=config)
    butler = Butler.from_config(root, writeable=True)
    try:
        for file in files:
            butler.import_(filename=file, without_datastore=True)
    except (TypeError, KeyError, ValueError) as exc:
        return {"refused": repr(exc), "dimensions": dimensions(butler)}
    return dump(butler)


def dimensions(butler: Butler) -> Any:
    """Give the configuration of a repository's universe."""
    return json.loads(butler.dimensions.dimensionConfig.dump(format="json") or "")


def dump(butler: Butler) -> dict[str, Any]:
    """Say all that a registry has."""
    records: dict[str, list[Any]] = {}
    for element in butler.dimensions.elements:
        if element.has_own_table:
            found = butler.query_dimension_records(element.name, explain=False)
            records[element.name] = sorted([shown(record) for record in found], key=json.dumps)
    datasets, members = [], []
    for kind in butler.registry.queryDatasetTypes():
        for ref in butler.query_datasets(kind, collections="*", find_first=False, explain=False):
            datasets.append([str(ref.id), kind.name, ref.run, dict(ref.dataId.required)])
        for one in butler.registry.queryDatasetAssociations(
            kind, collections=..., collectionTypes={CollectionType.TAGGED, CollectionType.CALIBRATION}
        ):
            span = [0, 0] if one.timespan is None else list(one.timespan.nsec)
            members.append([one.collection, str(one.ref.id), *span])
    return {
        "dimensions": dimensions(butler),
        "records": {name: rows for name, rows in records.items() if rows},
        "types": sorted(
            [one.name, list(one.dimensions.names), one.isCalibration()] for one in butler.registry.queryDatasetTypes()
        ),
        "collections": sorted(
            [info.name, info.type.name, list(info.children), info.doc or ""]
            for info in butler.collections.query_info("*", include_doc=True)
        ),
        # A dataset in a RUN and a TAGGED collection is found in both.
        "datasets": sorted({json.dumps(one): one for one in datasets}.values()),
        "members": sorted(members),
    }


def shown(record: Any) -> dict[str, Any]:
    """Make a record plain: all columns, time spans in nanoseconds, bytes and regions in hex."""
    made = {}
    for name, value in record.toDict().items():
        if isinstance(value, Timespan):
            value = list(value.nsec)
        elif isinstance(value, bytes):
            value = value.hex()
        elif hasattr(value, "encode") and not isinstance(value, str):
            value = value.encode().hex()
        made[name] = value
    return made


def main() -> None:
    """Do what is asked for."""
    logging.disable(logging.CRITICAL)
    warnings.simplefilter("ignore")
    for kind, *arguments in json.loads(Path(sys.argv[1]).read_text()):
        if kind == "export":
            export(*arguments)
        else:
            print(json.dumps(import_all(*arguments)))


if __name__ == "__main__":
    main()
