"""The Gen3 Butler as an oracle: answers JSON lines on stdin by JSON lines on stdout.

Run by a Python that has ``lsst-daf-butler``; Pantry need not be there. Each request is ``{"do": name, ...}``,
each answer ``{"result": ...}`` or ``{"error": {"type": ..., "message": ...}}``.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import random
import sys
import warnings
from importlib import resources
from typing import Any
from uuid import UUID

import astropy.time
import yaml
from lsst.daf.butler import Butler, CollectionType, Config, DimensionConfig, DimensionUniverse, Timespan
from lsst.daf.butler.time_utils import TimeConverter
from lsst.resources import ResourcePath

_PACKAGE = "resource://lsst.daf.butler/"


class Oracle:
    """Answers requests; keeps open repositories by their directory."""

    def __init__(self) -> None:
        self._butlers: dict[str, Butler] = {}
        self._converter = TimeConverter()

    # -- universes -----------------------------------------------------------------------------------

    def universes(self) -> dict[str, Any]:
        """Give the configuration of every universe that the package publishes."""
        configs = ResourcePath(_PACKAGE + "configs/dimensions.yaml")
        found = {"current": yaml.safe_load(configs.read())}
        old = ResourcePath(_PACKAGE + "configs/old_dimensions", forceDirectory=True)
        for uri in ResourcePath.findFileResources([old], r"\.yaml$"):
            found[uri.basename().removesuffix(".yaml")] = yaml.safe_load(uri.read())
        return found

    def universe(self, config: dict[str, Any], samples: int, seed: int) -> dict[str, Any]:
        """Say what a universe's elements and sampled groups of its dimensions are."""
        universe = DimensionUniverse(DimensionConfig(config))
        elements = [
            {
                "name": element.name,
                "required": list(element.required.names),
                "implied": list(element.implied.names),
                "is_dimension": element.name in universe.dimensions.names,
                "governor": element.name in universe.governor_dimensions.names,
                "skypix": element.name in universe.skypix_dimensions.names,
                "spatial": element.spatial.name if element.spatial is not None else None,
                "temporal": element.temporal.name if element.temporal is not None else None,
                "metadata": [[column.name, column.type] for column in getattr(element, "metadata_columns", ())],
                "always_join": element.alwaysJoin,
                # Of a dimension it is the dimension itself.
                "populated_by": getattr(element.populated_by, "name", None)
                if element.name not in universe.dimensions.names
                else None,
                "implied_union_target": getattr(getattr(element, "implied_union_target", None), "name", None),
                "is_cached": element.is_cached,
            }
            for element in universe.elements
        ]
        names = [name for name in universe.dimensions.names if name not in universe.skypix_dimensions.names]
        names += ["htm7"]
        chosen, groups = random.Random(seed), []
        asked = [[name] for name in names]
        asked += [sorted(chosen.sample(names, chosen.randint(2, min(6, len(names))))) for _ in range(samples)]
        for names_of_one in asked:
            group = universe.conform(names_of_one)
            groups.append([names_of_one, list(group.names), list(group.required), list(group.implied)])
        return {
            "elements": elements,
            "groups": groups,
            "common": universe.commonSkyPix.name,
            "version": universe.version,
            "namespace": universe.namespace,
        }

    # -- repositories --------------------------------------------------------------------------------

    def create(self, root: str, url: str = "") -> None:
        """Make a repository with the current universe, its registry in SQLite or at a URL."""
        config = Config()
        if url:
            config["registry", "db"] = url
        Butler.makeRepo(root, config=config)
        self._butlers[root] = Butler.from_config(root, writeable=True)

    def forget(self, root: str) -> None:
        """Close a repository."""
        self._butlers.pop(root).close()

    def import_export(self, root: str, name: str) -> None:
        """Import one of the package's registry exports, without its files."""
        path = resources.files("lsst.daf.butler.tests").joinpath("registry_data", f"{name}.yaml")
        self._butlers[root].import_(filename=str(path), without_datastore=True)

    def build(self, root: str, steps: list[dict[str, Any]]) -> None:
        """Make collections and fill them."""
        butler = self._butlers[root]
        for step in steps:
            match step["step"]:
                case "collection":
                    butler.collections.register(step["name"], CollectionType.from_name(step["type"]))
                case "chain":
                    butler.collections.register(step["name"], CollectionType.CHAINED)
                    butler.collections.redefine_chain(step["name"], step["children"])
                case "records":
                    butler.registry.insertDimensionData(step["element"], *step["records"])
                case "associate":
                    butler.registry.associate(step["name"], self._refs(butler, step["ids"]))
                case "certify":
                    butler.registry.certify(step["name"], self._refs(butler, step["ids"]), _timespan(step))

    def _refs(self, butler: Butler, ids: list[str]) -> list[Any]:
        return [butler.get_dataset(UUID(one)) for one in ids]

    def describe(self, root: str) -> dict[str, Any]:
        """Give dataset types, collections and the records of all elements that have some."""
        butler = self._butlers[root]
        types = [
            [one.name, list(one.dimensions.names), one.storageClass_name, one.isCalibration()]
            for one in butler.registry.queryDatasetTypes()
        ]
        collections = [[info.name, info.type.name, list(info.children)] for info in butler.collections.query_info("*")]
        records = {}
        for element in butler.dimensions.elements:
            if element.name not in butler.dimensions.skypix_dimensions.names:
                found = butler.query_dimension_records(element.name, explain=False)
                records[element.name] = [self._record(one) for one in found]
        return {"types": sorted(types), "collections": sorted(collections), "records": records}

    def _record(self, record: Any) -> dict[str, Any]:
        shown = {}
        for name, value in record.toDict().items():
            if value is None and name in ("timespan", "region"):
                continue
            if isinstance(value, Timespan):
                value = list(value.nsec)
            elif isinstance(value, bytes):
                value = value.hex()
            elif hasattr(value, "encode") and not isinstance(value, str):
                value = value.encode().hex()
            shown[name] = value
        return shown

    # -- queries -------------------------------------------------------------------------------------

    def ask(self, root: str, queries: list[dict[str, Any]]) -> list[Any]:
        """Answer many queries; one that is refused gives its error."""
        answers: list[Any] = []
        for query in queries:
            try:
                answers.append({"rows": self._ask(self._butlers[root], dict(query))})
            except Exception as exc:
                answers.append({"error": type(exc).__name__, "message": str(exc)})
        return answers

    def _ask(self, butler: Butler, query: dict[str, Any]) -> list[Any]:
        kind = query.pop("kind")
        bind = {name: self._bound(value) for name, value in query.pop("bind", {}).items()}
        if kind == "find":
            timespan = _timespan({"timespan": query["timespan"]}) if query.get("timespan") else None
            query.pop("timespan", None)
            ref = butler.find_dataset(
                query["dataset_type"], query["data_id"], collections=query["collections"], timespan=timespan
            )
            return [] if ref is None else [[str(ref.id), ref.run]]
        if kind == "collections":
            wanted = {CollectionType.from_name(one) for one in query["types"]} or None
            return list(butler.collections.query(query["patterns"], wanted, flatten_chains=query["flatten"]))
        with butler.query() as asked:
            if kind in ("datasets", "count"):
                found = asked.datasets(
                    query["dataset_type"], collections=query["collections"], find_first=query["find_first"]
                )
                found = self._finish(found, query, bind)
                if kind == "count":
                    return [found.count(exact=True, discard=True)]
                return [
                    [
                        str(ref.id),
                        ref.run,
                        [_plain(v) for v in ref.dataId.required_values],
                        *self._expanded(ref.dataId, query),
                    ]
                    for ref in found
                ]
            if kind == "data_ids":
                for name in query.get("dataset_types", ()):
                    asked = asked.join_dataset_search(name, collections=query["collections"])
                found = self._finish(asked.data_ids(query["dimensions"]), query, bind)
                return [[[_plain(v) for v in one.full_values], *self._expanded(one, query)] for one in found]
            found = self._finish(asked.dimension_records(query["element"]), query, bind)
            return [self._record(record) for record in found]

    def _expanded(self, data_id: Any, query: dict[str, Any]) -> list[Any]:
        if not query.get("with_dimension_records"):
            return []
        records = {name: one and self._record(one) for name, one in data_id.records.items()}
        timespan, region = data_id.timespan, data_id.region
        return [records, timespan and list(timespan.nsec), region and region.encode().hex()]

    def _finish(self, found: Any, query: dict[str, Any], bind: dict[str, Any]) -> Any:
        # As the Butler's own methods do: names in `where` mean what the results have.
        found = found.where(query.get("data_id", {}), query.get("where", ""), bind=bind)
        if query.get("with_dimension_records"):
            found = found.with_dimension_records()
        if query.get("order_by"):
            found = found.order_by(*query["order_by"])
        return found.limit(query["limit"]) if query.get("limit") is not None else found

    def _bound(self, value: Any) -> Any:
        match value:
            case {"ns": ns}:
                return self._converter.nsec_to_astropy(ns)
            case {"uuid": text}:
                return UUID(text)
            case {"timespan": ends}:
                return Timespan(*map(self._converter.nsec_to_astropy, ends))
        return [self._bound(one) for one in value] if isinstance(value, list) else value


def _plain(value: Any) -> Any:
    return value.item() if hasattr(value, "item") else value


def _timespan(step: dict[str, Any]) -> Timespan:
    begin, end = (
        None if one is None else astropy.time.Time(one, scale="tai", format="isot") for one in step["timespan"]
    ) if "timespan" in step else (None, None)  # fmt: skip
    return Timespan(begin, end)


def main() -> None:
    """Answer until stdin ends."""
    logging.disable(logging.CRITICAL)
    warnings.simplefilter("ignore")
    # What the libraries print must not come between the answers.
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    oracle = Oracle()
    for line in sys.stdin:
        request = json.loads(line)
        do = request.pop("do")
        try:
            answer = {"result": getattr(oracle, do)(**request)}
        except Exception as exc:
            answer = {"error": {"type": type(exc).__name__, "message": str(exc)[:2000]}}
        with contextlib.suppress(BrokenPipeError):
            answers.write(json.dumps(answer) + "\n")
            answers.flush()


if __name__ == "__main__":
    main()
