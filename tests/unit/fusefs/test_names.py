from __future__ import annotations

from uuid import uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pantry.fusefs.names import CollectionIndex, TypeDirectory, parse_id
from pantry.model.collections import CollectionInfo, CollectionType


def index(*infos: CollectionInfo) -> CollectionIndex:
    return CollectionIndex(infos)


def run(name: str, *types: str) -> CollectionInfo:
    return CollectionInfo(name=name, type=CollectionType.RUN, dataset_types=types)


def chain(name: str, *children: str) -> CollectionInfo:
    return CollectionInfo(name=name, type=CollectionType.CHAINED, children=children)


def test_slashes_are_directories() -> None:
    found = index(run("u/anna/a"), run("u/anna/b"), run("u/ben"), run("LSSTCam"))
    assert found.below(()) == ("LSSTCam", "u")
    assert found.below(("u",)) == ("anna", "ben")
    assert found.is_directory(("u", "anna"))
    assert not found.is_directory(("u", "carl"))


def test_a_path_can_mean_several_things_at_once() -> None:
    found = index(run("u/a", "b"), run("u/a/b", "c"), run("u/a/b/c", "d"))
    assert found.below(("u", "a")) == ("b",)
    assert found.dataset_types(("u", "a")) == ("b",)
    assert found.type_directories(("u", "a", "b", "c")) == (
        TypeDirectory("u/a", "b", ("c",), True),
        TypeDirectory("u/a/b", "c", (), True),
    )


def test_a_chain_shows_what_its_children_have_and_survives_a_circle() -> None:
    found = index(run("r", "raw"), run("s", "calexp"), chain("c", "r", "d"), chain("d", "s", "c", "gone"))
    assert found.dataset_types(("c",)) == ("calexp", "raw")
    assert found.type_directories(("c", "raw")) == (TypeDirectory("c", "raw", (), False),)


def test_a_calibration_collection_has_directories_of_its_types() -> None:
    found = index(CollectionInfo(name="calib", type=CollectionType.CALIBRATION, dataset_types=("bias",)))
    assert found.is_directory(("calib",))
    assert found.dataset_types(("calib",)) == ("bias",)
    assert found.is_directory(("calib", "bias"))
    place = TypeDirectory("calib", "bias", ("Cam", "open_open"), False)
    assert found.type_directories(("calib", "bias", "Cam", "open_open")) == (place,)


def test_several_repositories_have_the_union_and_no_fixed_names() -> None:
    def of(name: str, repository: str, *types: str, children: tuple[str, ...] = ()) -> CollectionInfo:
        kind = CollectionType.CHAINED if children else CollectionType.RUN
        return CollectionInfo(name=name, type=kind, dataset_types=types, children=children, repository=repository)

    found = index(of("r", "a", "raw"), of("r", "b", "calexp"), of("c", "a", children=("r",)), of("x", "b", "other"))
    assert found.dataset_types(("r",)) == ("calexp", "raw")
    # The chain is of the first one, and has nothing of the second.
    assert found.dataset_types(("c",)) == ("raw",)
    assert found.type_directories(("r", "raw")) == (TypeDirectory("r", "raw", (), False),)


parts = st.sampled_from(["a", "b", "c"])
paths = st.lists(parts, min_size=1, max_size=4).map(tuple)


@given(st.dictionaries(paths, st.frozensets(parts, max_size=3), max_size=8), paths)
def test_directories_are_what_the_collections_spell_out(
    collections: dict[tuple[str, ...], frozenset[str]], path: tuple[str, ...]
) -> None:
    """Against the slow definition: every directory, spelled out."""
    found = index(*(run("/".join(name), *sorted(types)) for name, types in collections.items()))
    directories = {name[:depth] for name in collections for depth in range(len(name) + 1)} | {
        (*name, kind) for name, types in collections.items() for kind in types
    }
    assert found.is_directory(path) == (path in directories)
    listed = {*found.below(path), *found.dataset_types(path)}
    assert listed == {directory[-1] for directory in directories if directory and directory[:-1] == path}
    assert {(place.collection, place.dataset_type, place.parts) for place in found.type_directories(path)} == {
        ("/".join(name), path[len(name)], path[len(name) + 1 :])
        for name, types in collections.items()
        if len(name) < len(path) and path[: len(name)] == name and path[len(name)] in types
    }


def test_an_id_has_one_spelling() -> None:
    dataset = uuid4()
    assert parse_id(str(dataset)) == dataset
    for other in (dataset.hex, str(dataset).upper(), f"{{{dataset}}}", dataset.urn, "x", ""):
        if other != str(dataset):
            assert parse_id(other) is None


@given(st.text(max_size=40))
def test_no_name_breaks_the_parser(name: str) -> None:
    found = parse_id(name)
    assert found is None or str(found) == name


@pytest.mark.parametrize("path", [(), ("nothing",), ("a", "b", "c")])
def test_an_empty_repository_has_nothing(path: tuple[str, ...]) -> None:
    found = index()
    assert found.below(path) == ()
    assert found.type_directories(path) == ()
