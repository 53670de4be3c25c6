from __future__ import annotations

import pytest
from tests.unit.registry.world import BIAS, RAW, put, put_raw

from pantry.daemon.registry import Registry
from pantry.errors import (
    CollectionTypeError,
    ConflictingDefinitionError,
    DatasetTypeError,
    DimensionNameError,
    InvalidRequestError,
    MissingCollectionError,
)
from pantry.model.collections import CollectionType
from pantry.model.datasets import DatasetType
from pantry.wire.operations.repositories import QueryCollections


def names(registry: Registry, *patterns: str, **options: object) -> list[str]:
    query = QueryCollections(repository="r", patterns=patterns, **options)  # type: ignore[arg-type]
    return [found.name for found in registry.query_collections(query)]


def test_a_dataset_type_gets_the_dimensions_that_follow(empty: Registry) -> None:
    made, new = empty.register_dataset_type(RAW)
    assert new
    assert made.dimensions == ("band", "instrument", "day_obs", "detector", "group", "physical_filter", "exposure")
    again, new = empty.register_dataset_type(
        DatasetType(name="raw", dimensions=("detector", "exposure", "band"), storage_class="FitsHDUList")
    )
    assert (again, new) == (made, False)


@pytest.mark.parametrize(
    ("other", "said"),
    [
        (DatasetType(name="raw", dimensions=("exposure",), storage_class="FitsHDUList"), "dimensions"),
        (DatasetType(name="raw", dimensions=RAW.dimensions, storage_class="CCDData"), "storage_class"),
        (
            DatasetType(name="raw", dimensions=RAW.dimensions, storage_class="FitsHDUList", is_calibration=True),
            "is_calibration",
        ),
    ],
)
def test_a_different_definition_is_a_conflict(empty: Registry, other: DatasetType, said: str) -> None:
    empty.register_dataset_type(RAW)
    with pytest.raises(ConflictingDefinitionError, match=said):
        empty.register_dataset_type(other)


def test_bad_dataset_types(empty: Registry) -> None:
    with pytest.raises(DatasetTypeError, match="storage class"):
        empty.register_dataset_type(DatasetType(name="x", dimensions=(), storage_class="Nothing"))
    with pytest.raises(DatasetTypeError, match="component"):
        empty.register_dataset_type(DatasetType(name="x.wcs", dimensions=(), storage_class="CCDData"))
    with pytest.raises(DimensionNameError, match="detectr"):
        empty.register_dataset_type(DatasetType(name="x", dimensions=("detectr",), storage_class="CCDData"))
    assert empty.list_dataset_types() == []


def test_dataset_types_are_listed_by_glob_in_order(registry: Registry) -> None:
    assert [found.name for found in registry.list_dataset_types()] == ["bias", "calexp", "coadd", "config", "raw"]
    assert [found.name for found in registry.list_dataset_types(["r*", "c?????", "bias"])] == [
        "bias",
        "calexp",
        "config",
        "raw",
    ]
    assert registry.list_dataset_types(["bias"])[0].is_calibration == BIAS.is_calibration


def test_collections_are_made_once_with_one_type(empty: Registry) -> None:
    empty.register_collection("u/me/run", CollectionType.RUN, "mine")
    empty.register_collection("u/me/run", CollectionType.RUN, "again")
    with pytest.raises(ConflictingDefinitionError, match="RUN, not TAGGED"):
        empty.register_collection("u/me/run", CollectionType.TAGGED)
    with pytest.raises(InvalidRequestError):
        empty.register_collection("a//b", CollectionType.RUN)
    (found,) = empty.query_collections(QueryCollections(repository="r"))
    assert (found.name, found.type, found.doc) == ("u/me/run", CollectionType.RUN, "mine")


def test_chains_flatten_in_search_order_and_once(empty: Registry) -> None:
    for name in "abc":
        empty.register_collection(name, CollectionType.RUN)
    for name in ("inner", "outer"):
        empty.register_collection(name, CollectionType.CHAINED)
    empty.redefine_chain("inner", ["c", "a"])
    empty.redefine_chain("outer", ["b", "inner", "a"])
    assert names(empty, "outer", flatten_chains=True) == ["b", "c", "a"]
    assert names(empty) == ["a", "b", "c", "inner", "outer"]
    assert names(empty, types=(CollectionType.CHAINED,)) == ["inner", "outer"]
    empty.redefine_chain("outer", ["a"])
    assert names(empty, "outer", flatten_chains=True) == ["a"]
    (found,) = empty.query_collections(QueryCollections(repository="r", patterns=("inner",)))
    assert found.children == ("c", "a")


def test_a_chain_cannot_hold_itself(empty: Registry) -> None:
    for name in "xyz":
        empty.register_collection(name, CollectionType.CHAINED)
    empty.redefine_chain("x", ["y"])
    empty.redefine_chain("y", ["z"])
    for children in (["x"], ["y"], ["z"]):
        with pytest.raises(CollectionTypeError, match="contain itself"):
            empty.redefine_chain("z", children)
    assert names(empty, "x", flatten_chains=True) == []


def test_only_chains_have_children(empty: Registry) -> None:
    empty.register_collection("run", CollectionType.RUN)
    with pytest.raises(CollectionTypeError):
        empty.redefine_chain("run", [])
    with pytest.raises(MissingCollectionError) as caught:
        empty.redefine_chain("rum", [])
    assert "run" in caught.value.hint


def test_collections_know_their_dataset_types(registry: Registry) -> None:
    put_raw(registry, "a")
    put(registry, "config", "b")
    registry.register_collection("both", CollectionType.CHAINED)
    registry.redefine_chain("both", ["b", "a"])
    found = registry.query_collections(QueryCollections(repository="r", with_dataset_types=True))
    assert {one.name: one.dataset_types for one in found} == {
        "a": ("raw",),
        "b": ("config",),
        "both": ("config", "raw"),
    }


def test_globs_find_and_names_must_exist(empty: Registry) -> None:
    for name in ("u/a/1", "u/b/1", "v"):
        empty.register_collection(name, CollectionType.RUN)
    assert names(empty, "u/*") == ["u/a/1", "u/b/1"]
    assert names(empty, "nothing*") == []
    with pytest.raises(MissingCollectionError):
        names(empty, "nothing")
