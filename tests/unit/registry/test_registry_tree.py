from __future__ import annotations

from pathlib import PurePosixPath
from uuid import UUID, uuid4

import pytest
from tests.unit.registry.world import CAMERA, DETECTORS, EXPOSURES, HASH, put, put_all_raws, put_raw, record, stored

from pantry.daemon.registry import Registry
from pantry.errors import MissingCollectionError, MissingDatasetTypeError
from pantry.model.collections import CollectionType
from pantry.model.datasets import DatasetType
from pantry.model.timespan import Timespan
from pantry.wire.operations.browse import ListTree, TreeEntry


def tree(
    registry: Registry, *parts: str, collection: str = "run", dataset_type: str = "raw", name: str = ""
) -> list[TreeEntry]:
    query = ListTree(repository="r", collection=collection, dataset_type=dataset_type, parts=parts, name=name)
    return [entry for batch in registry.list_tree(query) for entry in batch.entries]


def levels(registry: Registry, *parts: str) -> set[str]:
    query = ListTree(repository="r", collection="run", dataset_type="raw", parts=parts)
    return {batch.level for batch in registry.list_tree(query)}


def test_directories_of_values_then_files(registry: Registry) -> None:
    ids = put_all_raws(registry, "run")
    put_raw(registry, "other")
    assert tree(registry) == [TreeEntry(CAMERA, CAMERA)]
    assert tree(registry, CAMERA) == [TreeEntry(str(exposure), exposure) for exposure in EXPOSURES]
    files = tree(registry, CAMERA, str(EXPOSURES[0]))
    assert [file.name for file in files] == [f"raw_{CAMERA}_{EXPOSURES[0]}_{detector}.fits" for detector in DETECTORS]
    assert [file.id for file in files] == ids[:4]
    assert (files[0].size_bytes, files[0].modified_ns, files[0].hash) == (10, 1_700_000_000_000_000_000, HASH)
    assert levels(registry) == {"instrument"}
    assert levels(registry, CAMERA) == {"exposure"}
    assert levels(registry, CAMERA, str(EXPOSURES[0])) == {""}


def test_only_what_is_in_the_collection(registry: Registry) -> None:
    put_all_raws(registry, "other")
    put_raw(registry, "run", EXPOSURES[2], 2)
    put_raw(registry, "run", EXPOSURES[4], 1)
    assert [entry.value for entry in tree(registry, CAMERA)] == [EXPOSURES[2], EXPOSURES[4]]
    assert len(tree(registry, CAMERA, str(EXPOSURES[2]))) == 1
    assert tree(registry, CAMERA, str(EXPOSURES[3])) == []


def test_a_chain_shows_the_first(registry: Registry) -> None:
    old, new = put_raw(registry, "old"), put_raw(registry, "new")
    second = put_raw(registry, "old", EXPOSURES[1])
    registry.register_collection("chain", CollectionType.CHAINED)
    registry.redefine_chain("chain", ["new", "old"])
    assert [entry.value for entry in tree(registry, CAMERA, collection="chain")] == list(EXPOSURES[:2])
    assert [entry.id for entry in tree(registry, CAMERA, str(EXPOSURES[0]), collection="chain")] == [new]
    assert [entry.id for entry in tree(registry, CAMERA, str(EXPOSURES[1]), collection="chain")] == [second]
    registry.redefine_chain("chain", ["old", "new"])
    assert [entry.id for entry in tree(registry, CAMERA, str(EXPOSURES[0]), collection="chain")] == [old]


def test_one_name_is_looked_up(registry: Registry) -> None:
    put_all_raws(registry, "run")
    exposure = str(EXPOSURES[1])
    assert tree(registry, name=CAMERA) == [TreeEntry(CAMERA, CAMERA)]
    assert tree(registry, CAMERA, name=exposure) == [TreeEntry(exposure, EXPOSURES[1])]
    every = tree(registry, CAMERA, exposure)
    for file in every:
        assert tree(registry, CAMERA, exposure, name=file.name) == [file]
    for wrong in (
        "raw",
        f"raw_{CAMERA}_{exposure}_94.fit",
        f"raw_{CAMERA}_{exposure}_094.fits",
        f"raw_{CAMERA}_{exposure}_94",
        "%",
        ".",
        "raw_%",
    ):
        assert tree(registry, CAMERA, exposure, name=wrong) == []
    for wrong in ("Other", "%41", "..", "%"):
        assert tree(registry, name=wrong) == []
    for wrong in ("5", f"0{exposure}", f"+{exposure}", "x", str(2**70)):
        assert tree(registry, CAMERA, name=wrong) == []


def test_no_such_directory(registry: Registry) -> None:
    put_all_raws(registry, "run")
    for parts in (("Other",), (CAMERA, "x"), (CAMERA, "5"), (CAMERA, str(EXPOSURES[0]), "94"), ("%zz",)):
        assert tree(registry, *parts) == []
    with pytest.raises(MissingCollectionError):
        tree(registry, collection="rum")
    with pytest.raises(MissingDatasetTypeError):
        tree(registry, dataset_type="row")
    assert tree(registry, dataset_type="coadd") == []


def test_types_without_dimensions_are_one_file(registry: Registry) -> None:
    id_ = put(registry, "config", "run")
    (file,) = tree(registry, dataset_type="config")
    assert (file.name, file.id) == ("config.json", id_)
    assert tree(registry, dataset_type="config", name="config.json") == [file]
    assert tree(registry, dataset_type="config", name="config.yaml") == []
    assert tree(registry, "x", dataset_type="config") == []


@pytest.mark.parametrize("value", ["r.MP9601", "x.fits", ".hidden", "a b/c", "%", "ü", "..", "1.5"])
@pytest.mark.parametrize("extension", [".fits", "", ".gz", ".fits.fz"])
def test_values_with_dots_and_slashes(registry: Registry, value: str, extension: str) -> None:
    kind = DatasetType(name="flat", dimensions=("physical_filter",), storage_class="FitsArray")
    registry.register_dataset_type(kind)
    registry.insert_dimension_records([record("physical_filter", instrument=CAMERA, name=value, band="r")])
    prepared = registry.prepare_put("flat", "run", {"instrument": CAMERA, "physical_filter": value}, extension)
    new = uuid4()
    registry.insert_datasets("run", "flat", [(new, prepared.data_id, stored(prepared.path))])
    (file,) = tree(registry, CAMERA, dataset_type="flat")
    assert file.name == PurePosixPath(prepared.path).name
    assert tree(registry, CAMERA, dataset_type="flat", name=file.name) == [file]
    assert registry.get_dataset(new).name == file.name


def test_a_file_ingested_in_place_gets_the_usual_name(registry: Registry) -> None:
    values = registry.prepare_put(
        "raw", "run", {"instrument": CAMERA, "exposure": EXPOSURES[0], "detector": 94}
    ).data_id
    registry.insert_datasets("run", "raw", [(uuid4(), values, stored("some/where/else/a.b_94.fits.fz"))])
    (file,) = tree(registry, CAMERA, str(EXPOSURES[0]))
    assert file.name == f"raw_{CAMERA}_{EXPOSURES[0]}_94.fits.fz"
    assert tree(registry, CAMERA, str(EXPOSURES[0]), name=file.name) == [file]


def test_entries_come_in_batches(registry: Registry, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pantry.daemon.registry.tree.BATCH_ENTRIES", 3)
    put_all_raws(registry, "run")
    query = ListTree(repository="r", collection="run", dataset_type="raw", parts=(CAMERA,))
    assert [len(batch.entries) for batch in registry.list_tree(query)] == [3, 3]
    files = ListTree(repository="r", collection="run", dataset_type="raw", parts=(CAMERA, str(EXPOSURES[0])))
    assert [len(batch.entries) for batch in registry.list_tree(files)] == [3, 1]


DAY_NS = 86_400_000_000_000
FIRST, SECOND = Timespan.between(None, 100 * DAY_NS), Timespan(100 * DAY_NS, 200 * DAY_NS)


@pytest.fixture
def calibrated(registry: Registry) -> dict[str, UUID]:
    """Biases of two runs: 2 valid all the time from one of them, 94 from one after the other."""
    for name in ("calib", "other"):
        registry.register_collection(name, CollectionType.CALIBRATION)
    registry.register_collection("chain", CollectionType.CHAINED)
    made = {f"{run}/{n}": put(registry, "bias", run, instrument=CAMERA, detector=n) for run in "ab" for n in (2, 94)}
    registry.certify("calib", [made["a/2"]], FIRST)
    registry.certify("calib", [made["a/2"]], SECOND)
    registry.certify("calib", [made["a/94"]], FIRST)
    registry.certify("calib", [made["b/94"]], SECOND)
    registry.certify("other", [made["b/2"]], SECOND)
    return made


def shown(
    registry: Registry, *parts: str, collection: str = "calib", dataset_type: str = "bias"
) -> dict[str, UUID | None]:
    """Names in a directory, each looked up again."""
    found = tree(registry, *parts, collection=collection, dataset_type=dataset_type)
    for entry in found:
        again = tree(registry, *parts, collection=collection, dataset_type=dataset_type, name=entry.name)
        assert again == [entry]
    names = [entry.name for entry in found]
    assert len(set(names)) == len(names)
    return {entry.name: entry.id for entry in found}


def test_calibrations_are_below_their_times_of_validity(registry: Registry, calibrated: dict[str, UUID]) -> None:
    assert shown(registry) == {CAMERA: None}
    first, second = "open_19700411T000000", "19700411T000000_19700720T000000"
    assert shown(registry, CAMERA) == {first: None, second: None}
    name = f"bias_{CAMERA}_{{}}.fits"
    assert shown(registry, CAMERA, first) == {name.format(2): calibrated["a/2"], name.format(94): calibrated["a/94"]}
    assert shown(registry, CAMERA, second) == {name.format(2): calibrated["a/2"], name.format(94): calibrated["b/94"]}
    # The file is called as in its run.
    assert shown(registry, CAMERA, collection="a") == shown(registry, CAMERA, first)
    for wrong in ("open_open", "open_19700411", "x", "open_19700411T000000_", f"{first}x", "bias"):
        assert tree(registry, CAMERA, wrong, collection="calib", dataset_type="bias") == []
        assert tree(registry, CAMERA, collection="calib", dataset_type="bias", name=wrong) == []
    assert tree(registry, CAMERA, first, "x", collection="calib", dataset_type="bias") == []
    assert tree(registry, CAMERA, first, collection="a", dataset_type="bias") == []


def test_a_chain_has_files_and_times_of_validity(registry: Registry, calibrated: dict[str, UUID]) -> None:
    registry.redefine_chain("chain", ("b", "calib", "other"))
    second = "19700411T000000_19700720T000000"
    found = shown(registry, CAMERA, collection="chain")
    assert list(found) == [f"bias_{CAMERA}_2.fits", f"bias_{CAMERA}_94.fits", "open_19700411T000000", second]
    assert found[f"bias_{CAMERA}_2.fits"] == calibrated["b/2"]
    # Of two collections with the same time, the first.
    below = shown(registry, CAMERA, second, collection="chain")
    assert below[f"bias_{CAMERA}_2.fits"] == calibrated["a/2"]
    registry.redefine_chain("chain", ("other", "calib"))
    below = shown(registry, CAMERA, second, collection="chain")
    assert below == {f"bias_{CAMERA}_2.fits": calibrated["b/2"], f"bias_{CAMERA}_94.fits": calibrated["b/94"]}
    assert shown(registry, collection="chain") == {CAMERA: None}


def test_times_of_validity_come_in_batches(registry: Registry, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pantry.daemon.registry.tree.BATCH_ENTRIES", 3)
    registry.register_collection("calib", CollectionType.CALIBRATION)
    made = put(registry, "bias", "a", instrument=CAMERA, detector=2)
    for number in range(7):
        registry.certify("calib", [made], Timespan(number * DAY_NS + 1, (number + 1) * DAY_NS))
    query = ListTree(repository="r", collection="calib", dataset_type="bias", parts=(CAMERA,))
    assert [len(batch.entries) for batch in registry.list_tree(query)] == [3, 3, 1]
