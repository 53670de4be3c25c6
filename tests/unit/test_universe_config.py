from __future__ import annotations

import copy
from typing import Any

import pytest

from pantry.daemon.registry import default_universe
from pantry.errors import ConfigError
from pantry.model.dimensions import DimensionUniverse

STORAGE = "lsst.daf.butler.registry.dimensions."


def changed(path: str, value: object) -> dict[str, Any]:
    config = copy.deepcopy(default_universe())
    *above, last = path.split("/")
    body = config
    for part in above:
        body = body[part]
    body[last] = value
    return config


@pytest.mark.parametrize(
    ("path", "value", "where"),
    [
        ("colour", 1, "dimensions: unknown key colour"),
        ("elements/visit/colour", 1, "dimensions: elements.visit: unknown key colour"),
        ("elements/visit", ["keys"], "dimensions: elements.visit is not a mapping"),
        ("elements/visit/requires", "instrument", "elements.visit.requires is not a list"),
        ("elements/visit/requires", ["nothing"], "'visit' refers to the unknown element 'nothing'"),
        ("elements/visit/implies", ["visit_definition"], "'visit_definition', which has no keys"),
        ("elements/visit/keys", [{"name": "id", "type": "region"}], "elements.visit.keys: bad column"),
        ("elements/visit/keys", [{"name": "id", "type": "float"}], "cannot be of type float"),
        ("elements/visit/keys", [{"name": "id", "type": "hash", "nbytes": 4}], "a string or an int"),
        ("elements/visit/metadata", [{"name": "a", "type": "int", "unit": "s"}], "elements.visit.metadata: bad column"),
        ("elements/visit/always_join", True, "elements.visit: what has keys cannot have always_join"),
        ("elements/visit/governor", "yes", "elements.visit.governor is true or false"),
        ("elements/visit/storage", {"cls": "some.Class"}, "elements.visit.storage.cls: unknown class 'some.Class'"),
        ("elements/visit/storage", {"cls": STORAGE + "table.TableDimensionRecordStorage", "x": 1}, "unknown key x"),
        ("elements/visit/has_own_table", False, "has_own_table contradicts"),
        ("elements/visit_definition/populated_by", "tract", "populated_by 'tract', which it lacks"),
        ("elements/band/implied_union_target", "tract", "'tract' does not imply it"),
        ("elements/instrument/requires", ["skymap"], "a governor has keys"),
        ("skypix/htm/class", "lsst.sphgeom.Q3cPixelization", "skypix.htm: unknown pixelisation"),
        ("skypix/htm/colour", 1, "skypix.htm: unknown key colour"),
        ("skypix/htm/max_level", 99, "skypix.htm needs an integer max_level"),
        ("skypix/common", "htm99", "skypix.common: 'htm99'"),
        ("topology/sideways", {}, "topology: unknown key sideways"),
        ("topology/spatial/observation_regions", ["nothing"], "spatial.observation_regions: unknown element 'nothing'"),
        ("topology/spatial/more", ["visit"], "visit is in two families"),
        ("version", "8", "version is an integer"),
    ],
)
def test_what_is_wrong_is_named_with_its_place(path: str, value: object, where: str) -> None:
    with pytest.raises(ConfigError) as caught:
        DimensionUniverse(changed(path, value))
    assert where in str(caught.value)


def test_older_universes_say_by_storage_what_newer_ones_say_by_keys() -> None:
    caching = STORAGE + "caching.CachingDimensionRecordStorage"
    union = {"cls": STORAGE + "query.QueryDimensionRecordStorage", "view_of": "physical_filter"}
    config = changed("elements/band/storage", {"cls": caching, "nested": union})
    del config["elements"]["band"]["implied_union_target"]
    band = DimensionUniverse(config)["band"]
    assert (band.is_cached, band.implied_union_target) == (True, "physical_filter")


def test_levels_of_a_pixelisation_begin_where_it_says() -> None:
    assert "htm0" not in DimensionUniverse(default_universe()).elements
    assert "htm0" in DimensionUniverse(changed("skypix/htm/min_level", 0)).elements
