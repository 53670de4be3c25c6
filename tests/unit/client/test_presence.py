"""Which ranges of a file are there, against a set of bytes."""

from __future__ import annotations

import os
import uuid

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pantry.client.butler.batches import data_ids, refs, uuids
from pantry.client.butler.opened import Presence
from pantry.errors import ProtocolError
from pantry.model.datasets import DatasetType
from pantry.wire.operations import DataIdBatch, RefBatch

GRAIN = Presence.GRAIN_BYTES
SIZE = 10 * GRAIN + 17

ranges = st.lists(st.tuples(st.integers(0, SIZE + GRAIN), st.integers(0, SIZE + GRAIN)), max_size=12)


@given(ranges)
def test_what_is_missing_is_asked_for_once(asked: list[tuple[int, int]]) -> None:
    presence = Presence(SIZE)
    grains: set[int] = set()
    for start, stop in asked:
        missing = presence.missing(start, stop)
        wanted = set(range(start // GRAIN, -(-min(stop, SIZE) // GRAIN))) if start < min(stop, SIZE) else set()
        got = {grain for begin, end in missing for grain in range(begin // GRAIN, -(-end // GRAIN))}
        assert got == wanted - grains
        for begin, end in missing:
            assert begin % GRAIN == 0
            assert end % GRAIN == 0 or end == SIZE
            presence.add(begin, end)
        grains |= got
        assert presence.missing(start, stop) == ()
        assert presence.ranges == sorted(presence.ranges)
        assert all(left[1] < right[0] for left, right in zip(presence.ranges, presence.ranges[1:], strict=False))
    assert presence.is_whole == (len(grains) == 11)


def test_an_empty_file_is_whole() -> None:
    assert Presence(0).is_whole
    assert Presence(0).missing(0, 5) == ()


@given(st.lists(st.uuids(), max_size=20))
def test_uuids(ids: list[uuid.UUID]) -> None:
    made = uuids(b"".join(one.bytes for one in ids))
    assert made == ids
    assert [str(one) for one in made] == [str(one) for one in ids]
    assert [one.is_safe for one in made] == [uuid.SafeUUID.unknown] * len(ids)


def test_batches_of_unequal_columns_are_refused() -> None:
    kind = DatasetType(name="t", dimensions=("a",), storage_class="Bytes")
    good = {"dataset_type": kind, "required": ("a",), "implied": (), "ids": os.urandom(32), "runs": ["r"]}
    assert len(refs(RefBatch(**good, columns=[[1, 2]], run_index=[0, 0]))) == 2  # type: ignore[arg-type]
    for columns, index in (([[1]], [0, 0]), ([[1, 2]], [0]), ([[1, 2]], [0, 1]), ([[1, 2]], [0, -1]), ([], [0, 0])):
        with pytest.raises(ProtocolError):
            refs(RefBatch(**good, columns=columns, run_index=index))  # type: ignore[arg-type]
    with pytest.raises(ProtocolError):
        uuids(b"short")


def test_data_ids() -> None:
    found = data_ids(DataIdBatch(("a",), ("b",), [[1, 2], ["g", None]]))
    assert [one.mapping for one in found] == [{"a": 1, "b": "g"}, {"a": 2, "b": None}]
    assert [len(one) for one in data_ids(DataIdBatch((), (), []))] == [0]
    assert data_ids(DataIdBatch(("a",), (), [[]])) == []
