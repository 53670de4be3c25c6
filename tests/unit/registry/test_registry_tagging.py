from __future__ import annotations

from uuid import uuid4

import pytest
from tests.unit.registry.world import CAMERA, find_raw, put, put_all_raws, put_raw, rows_of

from pantry.daemon.registry import Registry
from pantry.errors import CollectionTypeError, ConflictError, DatasetNotFoundError, DatasetTypeError
from pantry.model.collections import CollectionType
from pantry.model.timespan import Timespan
from pantry.wire.operations.registry import FindDataset


@pytest.fixture
def tagged(registry: Registry) -> Registry:
    registry.register_collection("tag", CollectionType.TAGGED)
    registry.register_collection("calib", CollectionType.CALIBRATION)
    return registry


def test_association_selects_and_replaces(tagged: Registry) -> None:
    in_a, in_b = put_raw(tagged, "a"), put_raw(tagged, "b")
    assert tagged.associate("tag", [in_a]) == 1
    assert find_raw(tagged, "tag") == in_a
    assert tagged.associate("tag", [in_b, in_b]) == 1
    assert find_raw(tagged, "tag") == in_b
    assert find_raw(tagged, "a") == in_a
    assert tagged.disassociate("tag", [in_a]) == 0
    assert tagged.disassociate("tag", [in_b]) == 1
    assert find_raw(tagged, "tag") is None


def test_only_what_is_there_and_unambiguous_is_associated(tagged: Registry) -> None:
    in_a, in_b = put_raw(tagged, "a"), put_raw(tagged, "b")
    with pytest.raises(ConflictError, match="same type and data id"):
        tagged.associate("tag", [in_a, in_b])
    with pytest.raises(DatasetNotFoundError):
        tagged.associate("tag", [in_a, uuid4()])
    with pytest.raises(CollectionTypeError, match="RUN"):
        tagged.associate("a", [in_b])
    with pytest.raises(CollectionTypeError):
        tagged.disassociate("a", [in_a])
    assert find_raw(tagged, "tag") is None


def test_many_are_associated_at_once(tagged: Registry) -> None:
    ids = put_all_raws(tagged, "run")
    assert tagged.associate("tag", ids) == len(ids)
    assert {row["id"] for row in rows_of(tagged, collections=("tag",))} == set(ids)
    assert {row["run"] for row in rows_of(tagged, collections=("tag",))} == {"run"}


def found(registry: Registry, time: int) -> str | None:
    query = FindDataset(
        repository="r",
        dataset_type="bias",
        data_id={"instrument": CAMERA, "detector": 0},
        collections=("calib",),
        timespan=Timespan(time, time + 1),
    )
    ref = registry.find_dataset(query).ref
    return ref.run if ref else None


def test_validity_does_not_overlap(tagged: Registry) -> None:
    one = put(tagged, "bias", "one", instrument=CAMERA, detector=0)
    two = put(tagged, "bias", "two", instrument=CAMERA, detector=0)
    assert tagged.certify("calib", [one], Timespan(10, 20)) == 1
    for span in (Timespan(0, 11), Timespan(19, 30), Timespan(12, 13), Timespan(0, 30)):
        with pytest.raises(ConflictError, match="bias valid"):
            tagged.certify("calib", [two], span)
    tagged.certify("calib", [two], Timespan(20, 30))
    tagged.certify("calib", [one], Timespan(0, 10))
    assert [found(tagged, time) for time in (0, 15, 25, 30)] == ["one", "one", "two", None]


def test_what_cannot_be_certified(tagged: Registry) -> None:
    raw = put_raw(tagged, "run")
    with pytest.raises(DatasetTypeError, match="raw is not a calibration"):
        tagged.certify("calib", [raw], Timespan(0, 1))
    bias = put(tagged, "bias", "run", instrument=CAMERA, detector=0)
    with pytest.raises(CollectionTypeError):
        tagged.certify("tag", [bias], Timespan(0, 1))
    with pytest.raises(ConflictError, match="empty"):
        tagged.certify("calib", [bias], Timespan(1, 1))
    with pytest.raises(ConflictError, match="same type"):
        tagged.certify("calib", [bias, put(tagged, "bias", "other", instrument=CAMERA, detector=0)], Timespan(0, 1))


def test_decertification_cuts(tagged: Registry) -> None:
    bias = put(tagged, "bias", "run", instrument=CAMERA, detector=0)
    tagged.certify("calib", [bias], Timespan(0, 100))
    assert tagged.decertify("calib", "bias", Timespan(40, 60), [{"instrument": CAMERA, "detector": 1}]) == 0
    assert tagged.decertify("calib", "bias", Timespan(40, 60), [{"instrument": CAMERA, "detector": 0}]) == 1
    assert [found(tagged, time) for time in (39, 40, 59, 60, 99)] == ["run", None, None, "run", "run"]
    assert tagged.decertify("calib", "bias", Timespan(0, 200)) == 2
    assert found(tagged, 0) is None
