"""Metadata that dataset types declare, in the registry."""

from __future__ import annotations

import sqlite3
from typing import Any
from uuid import UUID, uuid4

import pytest
from tests.unit.registry.world import CAMERA, EXPOSURES, RAW, stored

from pantry.daemon.registry import Registry
from pantry.errors import (
    ConflictingDefinitionError,
    DatasetExistsError,
    DatasetNotFoundError,
    DatasetTypeError,
    InvalidQueryError,
    InvalidRequestError,
)
from pantry.model.datasets import DatasetType
from pantry.model.metadata import MetadataEntry
from pantry.wire.operations.metadata import QueryMetadata
from pantry.wire.operations.registry import QueryDatasets

ENTRIES = tuple(
    MetadataEntry.parse(text)
    for text in (
        "exptime:float=EXPTIME [s] # exposure time",
        "imgtype:string=IMGTYPE",
        "seqnum:int=SEQNUM",
        "good:bool=GOOD",
        "select:int=SELECT",
    )
)
FRAME = DatasetType(name="frame", dimensions=("exposure", "detector"), storage_class="FitsHDUList", metadata=ENTRIES)


@pytest.fixture
def frames(registry: Registry) -> Registry:
    assert registry.register_dataset_type(FRAME)[1]
    return registry


def add(registry: Registry, run: str, rows: list[tuple[int, dict[str, Any]]]) -> list[UUID]:
    """Insert frames of detector 0, by the number of their exposure."""
    ids = [uuid4() for _ in rows]
    new = [
        (id_, (CAMERA, 0, EXPOSURES[number]), stored(f"{run}/{number}"))
        for id_, (number, _) in zip(ids, rows, strict=True)
    ]
    columns = {entry.name: [values.get(entry.name) for _, values in rows] for entry in ENTRIES}
    registry.insert_datasets(run, "frame", new, columns)  # type: ignore[arg-type]
    return ids


def query(*collections: str, types: tuple[str, ...] = ("frame",), **options: Any) -> QueryDatasets:
    return QueryDatasets(repository="r", dataset_types=types, collections=collections or ("a",), **options)


def exposures(registry: Registry, asked: QueryDatasets) -> list[int]:
    found = []
    for batch in registry.query_datasets(asked):
        column = batch.columns[batch.required.index("exposure")]
        found += [int(value) - EXPOSURES[0] for value in column]  # type: ignore[arg-type]
    return found


ROWS: list[tuple[int, dict[str, Any]]] = [
    (0, {"exptime": 30.0, "imgtype": "OBJECT", "seqnum": 7, "good": True, "select": 1}),
    (1, {"exptime": 15.0, "imgtype": "FLAT", "seqnum": 3, "good": False}),
    (2, {"exptime": 60.0, "imgtype": "OBJECT", "seqnum": 5}),
    (3, {}),
]


@pytest.mark.parametrize(
    ("where", "expected"),
    [
        ("frame.exptime > 20", {0, 2}),
        ("exptime > 20", {0, 2}),
        ("frame.exptime > 20 AND frame.imgtype = 'OBJECT' AND frame.seqnum IN (4..6)", {2}),
        ("frame.exptime > 20 OR frame.imgtype = 'FLAT'", {0, 1, 2}),
        ("NOT frame.exptime > 20", {1}),
        ("frame.good", {0}),
        ("NOT frame.good", {1}),
        ("frame.exptime IS NULL", {3}),
        ("frame.select = 1", {0}),
        ("GLOB(frame.imgtype, 'OB*')", {0, 2}),
        ("frame.exptime > exposure.exposure_time", {0, 2}),
        ("frame.seqnum * 2 = 14 AND detector = 0", {0}),
    ],
)
def test_conditions(frames: Registry, where: str, expected: set[int]) -> None:
    add(frames, "a", ROWS)
    assert set(exposures(frames, query(where=where))) == expected
    assert frames.count_datasets(query(where=where)) == {"frame": len(expected)}


def test_order_puts_absent_values_last(frames: Registry) -> None:
    add(frames, "a", ROWS)
    assert exposures(frames, query(order_by=("frame.exptime",))) == [1, 0, 2, 3]
    assert exposures(frames, query(order_by=("-exptime",), limit=2)) == [2, 0]


def test_the_condition_is_about_what_find_first_gives(frames: Registry) -> None:
    add(frames, "a", [(0, {"exptime": 10.0}), (1, {"exptime": 40.0})])
    add(frames, "b", [(0, {"exptime": 40.0}), (2, {"exptime": 40.0})])
    assert sorted(exposures(frames, query("a", "b", where="frame.exptime > 20"))) == [1, 2]
    assert sorted(exposures(frames, query("b", "a", where="frame.exptime > 20"))) == [0, 1, 2]
    both = query("a", "b", where="frame.exptime > 20", find_first=False)
    assert sorted(exposures(frames, both)) == [0, 1, 2]


def test_values_come_by_columns(frames: Registry) -> None:
    ids = add(frames, "a", ROWS)
    (batch,) = frames.query_metadata(QueryMetadata(query=query(order_by=("exposure",)), entries=("good", "exptime")))
    assert batch.columns == {"good": [True, False, None, None], "exptime": [30.0, 15.0, 60.0, None]}
    assert [type(value) for value in batch.columns["good"]] == [bool, bool, type(None), type(None)]
    assert batch.refs.ids == b"".join(id_.bytes for id_ in ids)
    assert frames.get_metadata(ids[1]) == {
        "exptime": 15.0, "imgtype": "FLAT", "seqnum": 3, "good": False, "select": None,
    }  # fmt: skip


def test_wrong_names_are_explained(frames: Registry) -> None:
    add(frames, "a", ROWS)
    with pytest.raises(InvalidQueryError, match=r"'frame' declares no metadata 'exptim'") as caught:
        exposures(frames, query(where="frame.exptim > 3"))
    assert "frame.exptime" in caught.value.hint
    with pytest.raises(InvalidQueryError, match="unknown name 'exptim'") as caught:
        exposures(frames, query(where="exptim > 3"))
    assert "frame.exptime" in caught.value.hint
    with pytest.raises(InvalidQueryError, match="'raw' declares no metadata 'exptime'"):
        exposures(frames, query(types=("raw",), where="raw.exptime > 3"))
    with pytest.raises(InvalidQueryError, match="declares no metadata"):
        list(frames.query_metadata(QueryMetadata(query=query(types=("raw",)))))
    with pytest.raises(InvalidQueryError, match="nothing_such"):
        list(frames.query_metadata(QueryMetadata(query=query(), entries=("nothing_such",))))
    # With several types the bare name could mean any of them.
    with pytest.raises(InvalidQueryError, match="unknown name 'exptime'"):
        exposures(frames, query(types=("frame", "raw"), where="exptime > 3"))


def test_a_glob_passes_over_types_without_metadata(frames: Registry) -> None:
    ids = add(frames, "a", ROWS[:1])
    frames.insert_datasets("a", "raw", [(uuid4(), (CAMERA, 0, EXPOSURES[0]), stored("raw"))])
    batches = list(frames.query_metadata(QueryMetadata(query=query(types=("*",)))))
    assert [batch.refs.ids for batch in batches] == [ids[0].bytes]


def test_the_definition_is_immutable_and_survives(frames: Registry, registry_url: str) -> None:
    assert frames.register_dataset_type(FRAME)[1] is False
    for other in ((), ENTRIES[:2], (*ENTRIES[:-1], MetadataEntry.parse("select:float=SELECT"))):
        changed = DatasetType(
            name="frame", dimensions=("exposure", "detector"), storage_class="FitsHDUList", metadata=other
        )
        with pytest.raises(ConflictingDefinitionError, match="metadata"):
            frames.register_dataset_type(changed)
    again = Registry.open(registry_url)
    try:
        (known,) = again.list_dataset_types(["frame"])
        assert known.metadata == ENTRIES
    finally:
        again.close()


def test_all_or_none(frames: Registry) -> None:
    add(frames, "a", [(0, {"exptime": 1.0})])
    with pytest.raises(DatasetExistsError):
        add(frames, "a", [(1, {"exptime": 2.0}), (0, {"exptime": 3.0})])
    (batch,) = frames.query_metadata(QueryMetadata(query=query(), entries=("exptime",)))
    assert batch.columns["exptime"] == [1.0]


def test_it_goes_with_the_dataset(frames: Registry) -> None:
    (first, second) = add(frames, "a", ROWS[:2])
    frames.delete_datasets([second])
    with pytest.raises(DatasetNotFoundError):
        frames.get_metadata(second)
    # The next dataset gets the same key in the table of datasets, and none of the old values.
    new = [(uuid4(), (CAMERA, 0, EXPOSURES[1]), stored("x"))]
    frames.insert_datasets("a", "frame", new)
    assert set(frames.get_metadata(new[0][0]).values()) == {None}
    assert frames.get_metadata(first)["seqnum"] == 7


def test_recording_later(frames: Registry) -> None:
    ids = [id_.bytes for id_ in add(frames, "a", ROWS)]
    columns: dict[str, list[Any]] = {"exptime": [1, 2.5], "imgtype": ["A", None]}
    assert frames.record_metadata("frame", ids[:2][::-1], columns) == 2
    assert frames.get_metadata(UUID(bytes=ids[1])) == {
        "exptime": 1.0, "imgtype": "A", "seqnum": None, "good": None, "select": None,
    }  # fmt: skip
    assert frames.get_metadata(UUID(bytes=ids[2]))["exptime"] == 60.0
    before = frames.get_metadata(UUID(bytes=ids[0]))
    with pytest.raises(InvalidRequestError, match=r"'EXPTIME' is 'x' \(str\).*type float"):
        frames.record_metadata("frame", ids[:2], {"exptime": [5.0, "x"]})
    with pytest.raises(DatasetNotFoundError, match="1 of 2"):
        frames.record_metadata("frame", [ids[0], uuid4().bytes], {"exptime": [5.0, 6.0]})
    with pytest.raises(InvalidRequestError, match="no metadata"):
        frames.record_metadata("raw", ids[:1], {})
    with pytest.raises(InvalidRequestError, match="one value for each"):
        frames.record_metadata("frame", ids[:2], {"exptime": [5.0]})
    assert frames.get_metadata(UUID(bytes=ids[0])) == before


def test_an_element_wins_over_a_dataset_type_of_its_name(registry: Registry) -> None:
    registry.register_dataset_type(
        DatasetType(
            name="exposure", dimensions=("exposure",), storage_class="FitsHDUList", metadata=(ENTRIES[0], ENTRIES[2])
        )
    )
    id_ = uuid4()
    new = [(id_, (CAMERA, EXPOSURES[0]), stored("e"))]
    registry.insert_datasets("a", "exposure", new, {"exptime": [1.0], "seqnum": [9]})
    asked = query(types=("exposure",), where="exposure.exposure_time = 15 AND seqnum = 9")
    assert exposures(registry, asked) == [0]
    with pytest.raises(InvalidQueryError):
        exposures(registry, query(types=("exposure",), where="exposure.exptime = 1"))


def test_a_registry_without_any_is_as_before(registry: Registry, registry_url: str) -> None:
    """No table is made before it is needed: what was made before this can be read, and is not changed."""
    assert registry.list_dataset_types(["raw"])[0] == registry.register_dataset_type(RAW)[0]
    if registry_url.startswith("sqlite"):
        with sqlite3.connect(registry_url.removeprefix("sqlite:///")) as database:
            names = {row[0] for row in database.execute("SELECT name FROM sqlite_master")}
        assert not [name for name in names if name.startswith("metadata")]


@pytest.mark.parametrize(
    "text",
    ["exptime", "Exptime:float=X", "exptime:double=X", "exptime:float=", "a b:int=X", "region:int=X", "x:int=A\nB"],
)
def test_bad_entries(text: str) -> None:
    with pytest.raises(DatasetTypeError):
        MetadataEntry.parse(text)


def test_entries_have_distinct_names() -> None:
    with pytest.raises(DatasetTypeError, match="distinct"):
        DatasetType(name="x", dimensions=(), storage_class="FitsHDUList", metadata=(ENTRIES[0], ENTRIES[0]))
