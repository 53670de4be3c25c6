"""Datasets that are deleted, and the names of their files until these are gone."""

from __future__ import annotations

import time
from contextlib import closing
from uuid import UUID, uuid4

import pytest
import sqlalchemy as sa
from tests.unit.registry.world import CAMERA, EXPOSURES, create, fill, put_all_raws, rows_of, stored

from pantry.daemon.registry import Registry
from pantry.daemon.registry.engine import Database
from pantry.daemon.registry.file_marks import FileBeingRemovedError
from pantry.daemon.registry.removed_files import ABANDONED_NS, RemovedFile
from pantry.errors import DatasetNotFoundError, TransientBackendError
from pantry.model.collections import CollectionType
from pantry.model.datasets import DatasetType
from pantry.model.timespan import Timespan

FIRST = {"instrument": CAMERA, "exposure": EXPOSURES[0], "detector": 0}
VALUES = (CAMERA, 0, EXPOSURES[0])
CLAIM = "taken over"
DIMENSIONS = ("instrument", "detector", "exposure")


def paths(registry: Registry, *tokens: str) -> set[str]:
    return {file.path for file in registry.claim_removed_files(tokens, CLAIM)}


def test_removed_datasets_leave_everything_and_their_names_are_taken(registry: Registry) -> None:
    registry.register_collection("tag", CollectionType.TAGGED)
    ids = put_all_raws(registry, "run")
    registry.associate("tag", ids)
    planned = registry.plan_removal([ids[0].bytes, ids[1].bytes])
    assert (planned.datasets, planned.missing, planned.kept, len(planned.removed)) == (2, [], 0, 2)
    assert len(rows_of(registry, collections=("run",))) == len(ids), "a plan changes nothing"
    assert paths(registry, "t") == set()
    first = registry.get_dataset(ids[0])
    assert first.ref is not None
    assert first.file is not None

    done = registry.remove_datasets([one.bytes for one in ids[:2]], "t")
    assert done == planned
    for name in ("run", "tag"):
        assert {row["id"] for row in rows_of(registry, collections=(name,))} == set(ids[2:])
    assert registry.get_dataset(ids[0]).ref is None
    assert paths(registry, "t") == {file.path for file in done.removed}
    assert paths(registry, "another") == set(), "left to whoever removes it"

    # Before the files are gone, nobody may have their names: not prepared, and not committed either.
    data_id = first.ref.data_id
    values = [data_id[name] for name in DIMENSIONS]
    with pytest.raises(FileBeingRemovedError, match="being deleted"):
        registry.prepare_put("raw", "run", data_id.required)
    for rows in ([values], [values, (CAMERA, 0, EXPOSURES[1])]):
        with pytest.raises(FileBeingRemovedError, match="being deleted"):
            registry.prepare_ingest("raw", "run", DIMENSIONS, rows)
    new = [(uuid4(), data_id, stored(first.file.path))]
    with pytest.raises(FileBeingRemovedError):
        registry.insert_datasets("run", "raw", new)
    registry.prepare_put("raw", "elsewhere", data_id.required)
    registry.forget_removed(registry.claim_removed_files(["t"], CLAIM))
    assert registry.prepare_put("raw", "run", data_id.required).path == first.file.path
    registry.insert_datasets("run", "raw", new)


def test_all_or_none_are_removed(registry: Registry) -> None:
    ids = put_all_raws(registry, "run")
    unknown = uuid4().bytes
    with pytest.raises(DatasetNotFoundError, match="1 of 2 datasets are not there"):
        registry.remove_datasets([ids[0].bytes, unknown], "t")
    assert len(rows_of(registry, collections=("run",))) == len(ids)
    assert paths(registry, "t") == set()
    done = registry.remove_datasets([ids[0].bytes, unknown, ids[0].bytes], "t", missing_ok=True)
    assert (done.datasets, done.missing) == (1, [unknown])
    assert registry.remove_datasets([ids[0].bytes], "t", missing_ok=True).datasets == 0


def age(url: str, by_ns: int) -> None:
    """Let time pass since files were given to anybody."""
    engine = sa.create_engine(url)
    with engine.begin() as connection:
        connection.execute(sa.text("UPDATE removed_file SET since_ns = since_ns - :by"), {"by": by_ns})
    engine.dispose()


def test_what_nobody_goes_on_with_is_anybodys(registry_url: str) -> None:
    with closing(create(registry_url)) as one, closing(Registry.open(registry_url)) as other:
        fill(one)
        (id_,) = put_all_raws(one, "run")[:1]
        (file,) = one.remove_datasets([id_.bytes], "one's").removed
        assert other.claim_removed_files([], "other's") == []
        age(registry_url, ABANDONED_NS - 60 * 10**9)
        assert other.claim_removed_files([], "other's") == []
        # As long as its daemon comes back to it, it stays that one's.
        assert one.claim_removed_files(["one's"], CLAIM) == [RemovedFile(file.path, "one's")]
        age(registry_url, ABANDONED_NS - 60 * 10**9)
        assert other.claim_removed_files([], "other's") == []
        age(registry_url, 2 * 60 * 10**9)
        assert other.claim_removed_files([], "other's") == [RemovedFile(file.path, "other's")]
        # And now it is the other's: the first neither gets it nor frees its name.
        assert one.claim_removed_files(["one's"], CLAIM) == []
        one.forget_removed([RemovedFile(file.path, "one's")])
        assert other.count_removed_files(["one's", "other's"]) == {"other's": 1}
        other.forget_removed([RemovedFile(file.path, "other's")])
        assert other.count_removed_files(["one's", "other's"]) == {}


def test_the_time_is_that_of_the_databases_server(
    registry_url: str, registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    (id_,) = put_all_raws(registry, "run")[:1]
    monkeypatch.setattr(time, "time_ns", lambda: 1)  # a node whose clock is wrong
    registry.remove_datasets([id_.bytes], "t")
    monkeypatch.undo()
    wrong = registry_url.startswith("sqlite")
    assert bool(registry.claim_removed_files([], CLAIM)) is wrong, "else nobody else is given it yet"


def test_files_are_given_in_slices(registry: Registry) -> None:
    ids = put_all_raws(registry, "run")
    expected = {one.path for one in registry.remove_datasets([one.bytes for one in ids], "t").removed}
    found: list[RemovedFile] = []
    while more := registry.claim_removed_files(["t"], CLAIM, after=found[-1].path if found else "", count=5):
        assert len(more) <= 5
        found += more
    assert len(found) == len(expected)
    assert {file.path for file in found} == expected
    assert registry.count_removed_files(["t", CLAIM]) == {"t": len(expected)}


def test_a_closed_registry_stays_closed(registry_url: str) -> None:
    registry = create(registry_url)
    registry.close()
    with pytest.raises(TransientBackendError, match="closed"):
        registry.count_removed_files([])
    with pytest.raises(TransientBackendError, match="closed"):
        registry.forget_removed([])


def test_a_file_goes_with_the_last_that_has_it(registry: Registry) -> None:
    ids = [uuid4() for _ in range(3)]
    new = [(id_, (CAMERA, number, EXPOSURES[0]), stored("run/one")) for number, id_ in enumerate(ids)]
    registry.imports.insert("run", "raw", new)
    done = registry.remove_datasets([one.bytes for one in ids[:2]], "t")
    assert (done.datasets, done.removed, done.kept) == (2, [], 1)
    assert (registry.count_sharers("run/one"), registry.count_sharers("run/other")) == (1, 0)
    done = registry.remove_datasets([ids[2].bytes], "t")
    assert ([file.path for file in done.removed], done.kept) == (["run/one"], 0)


def test_a_file_goes_when_all_that_have_it_go_at_once(registry: Registry) -> None:
    ids = [uuid4() for _ in range(2)]
    new = [(id_, (CAMERA, number, EXPOSURES[0]), stored("run/one")) for number, id_ in enumerate(ids)]
    registry.imports.insert("run", "raw", new)
    assert [file.path for file in registry.remove_datasets([one.bytes for one in ids], "t").removed] == ["run/one"]


@pytest.mark.parametrize("how", ["ingest", "import"])
def test_files_in_place_stay(registry: Registry, how: str) -> None:
    id_, other = uuid4(), uuid4()
    new = [(id_, VALUES, stored("their/file"))]
    if how == "ingest":
        registry.insert_datasets("run", "raw", new, in_place=True)
    else:
        registry.imports.insert("run", "raw", new, in_place=True)
    # And so does a file of our own that somebody took in again, in place.
    registry.insert_datasets("mine", "raw", [(other, VALUES, stored("mine/file"))])
    registry.insert_datasets("theirs", "raw", [(uuid4(), VALUES, stored("mine/file"))], in_place=True)
    done = registry.remove_datasets([id_.bytes, other.bytes], "t")
    assert (done.datasets, done.removed, done.kept) == (2, [], 2)
    assert paths(registry, "t") == set()


def test_components_go_with_their_composite(registry: Registry) -> None:
    for name in ("bag", "bag.image", "bag.notes", "bags"):
        registry.register_dataset_type(DatasetType(name=name, dimensions=("exposure",), storage_class="Bytes"))
    ids: dict[tuple[str, str, int], UUID] = {}
    for run in ("run", "other"):
        for name in ("bag", "bag.image", "bag.notes", "bags"):
            for exposure in EXPOSURES[:2]:
                key = (run, name, exposure)
                ids[key] = uuid4()
                path = stored("/".join(map(str, key)))
                registry.insert_datasets(run, name, [(ids[key], (CAMERA, exposure), path)])
    done = registry.remove_datasets([ids["run", "bag", EXPOSURES[0]].bytes], "t")
    assert done.datasets == 3
    gone = {key for key, id_ in ids.items() if registry.get_dataset(id_).ref is None}
    assert gone == {("run", name, EXPOSURES[0]) for name in ("bag", "bag.image", "bag.notes")}


def test_validity_ends(registry: Registry) -> None:
    registry.register_collection("calib", CollectionType.CALIBRATION)
    id_ = uuid4()
    registry.insert_datasets("run", "bias", [(id_, (CAMERA, 0), stored("bias"))])
    registry.certify("calib", [id_], Timespan(0, 10))
    registry.remove_datasets([id_.bytes], "t")
    registry.forget_removed(registry.claim_removed_files(["t"], CLAIM))
    other = uuid4()
    registry.insert_datasets("run", "bias", [(other, (CAMERA, 0), stored("bias"))])
    registry.certify("calib", [other], Timespan(0, 10))


def test_a_registry_of_before_keeps_the_files_that_it_had(registry_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    registry = create(registry_url)
    fill(registry)
    before, after = uuid4(), uuid4()
    registry.insert_datasets("run", "raw", [(before, VALUES, stored("run/before"))])
    registry.close()
    engine = sa.create_engine(registry_url)
    with engine.begin() as connection:
        for table in ("file_mark", "removed_file"):
            connection.execute(sa.text(f"DROP TABLE {table}"))
    engine.dispose()
    registry = Registry.open(registry_url)
    assert registry.plan_removal([before.bytes]).kept == 1
    registry.prepare_put("raw", "run", FIRST | {"detector": 1})
    done = registry.remove_datasets([before.bytes], "t")
    assert (done.removed, done.kept) == ([], 1)
    # From then on nobody looks again whether it has the tables.
    registry.prepare_put("raw", "run", FIRST | {"detector": 1})
    with monkeypatch.context() as patched:
        patched.setattr(Database, "has_table", None)
        registry.prepare_put("raw", "run", FIRST | {"detector": 1})
    registry.insert_datasets("run", "raw", [(after, VALUES, stored("run/after"))])
    assert [file.path for file in registry.remove_datasets([after.bytes], "t").removed] == ["run/after"]
    registry.close()
