"""Every universe that the Gen3 Butler publishes means the same to Pantry."""

from __future__ import annotations

import json
from typing import Any

import pytest
from tests.oracle.asking import GenThreeButler

from pantry.daemon.registry import default_universe
from pantry.model.dimensions import DimensionUniverse

PUBLISHED = ("current", *(f"daf_butler_universe{version}" for version in range(9)))


@pytest.fixture(scope="session")
def configs(oracle: GenThreeButler) -> dict[str, Any]:
    found = oracle("universes")
    assert isinstance(found, dict)
    return {**found, "ours": default_universe()}


def _sent(name: str, configs: dict[str, Any]) -> dict[str, Any]:
    if name != "ours":
        return {"namespace": "daf_butler", **configs[name]}
    # The classes of pixelisations, which we know by their names. Of one namespace and version the oracle
    # keeps the universe that it saw first, so that ours needs another namespace.
    return {**configs[name], "namespace": "ours", "skypix": configs["current"]["skypix"]}


def test_all_published_universes_are_tested(configs: dict[str, Any]) -> None:
    assert set(configs) == {*PUBLISHED, "ours"}


@pytest.mark.parametrize("name", [*PUBLISHED, "ours"])
def test_elements_and_groups_are_the_same(name: str, oracle: GenThreeButler, configs: dict[str, Any]) -> None:
    config = _sent(name, configs)
    theirs = oracle("universe", config=config, samples=300, seed=len(json.dumps(config)))
    ours = DimensionUniverse({**configs[name], "namespace": config["namespace"]}, source=name)

    family = {
        kind: {member: family for family, members in families.items() for member in members}
        for kind, families in (("spatial", ours.spatial_families), ("temporal", ours.temporal_families))
    }
    shown = [
        {
            "name": element.name,
            "required": list(ours.required(element.name)),
            "implied": sorted(element.implies, key=list(ours.elements).index),
            "is_dimension": element.is_dimension,
            "governor": element.governor,
            "skypix": element.name in ours.skypix,
            "spatial": family["spatial"].get(element.name)
            or (element.name.rstrip("0123456789") if element.name in ours.skypix else None),
            "temporal": family["temporal"].get(element.name),
            "metadata": [[column.name, column.type] for column in element.metadata],
            "always_join": element.always_join,
            "populated_by": element.populated_by,
            "implied_union_target": element.implied_union_target,
        }
        for element in ours.elements.values()
    ]  # fmt: skip
    for one in theirs["elements"]:
        cached = one.pop("is_cached")
        # We say of none of ours that it is: nothing depends on it yet.
        assert name == "ours" or one["skypix"] or cached == ours[one["name"]].is_cached
    assert shown == theirs["elements"]
    for asked, names, required, implied in theirs["groups"]:
        group = ours.group(asked)
        assert sorted(group.names, key=list(ours.elements).index) == names, asked
        assert (list(group.required), list(group.implied)) == (required, implied), asked
    assert (ours.common_skypix, ours.version, ours.namespace) == tuple(
        theirs[key] for key in ("common", "version", "namespace")
    )


def test_our_default_universe_is_the_current_one(oracle: GenThreeButler, configs: dict[str, Any]) -> None:
    current = oracle("universe", config=configs["current"], samples=0, seed=0)["elements"]
    ours = oracle("universe", config=_sent("ours", configs), samples=0, seed=0)["elements"]
    for one in (*current, *ours):
        del one["is_cached"]
    assert ours == current
