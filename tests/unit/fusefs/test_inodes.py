from __future__ import annotations

from typing import NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pantry.fusefs import inodes
from pantry.fusefs.inodes import ROOT_INODE, InodeTable


class Thing(NamedTuple):
    key: str


ROOT = Thing("root")


def enter(table: InodeTable[Thing], key: str) -> int:
    number = table.number_of(Thing(key))
    table.count(number, Thing(key))
    return number


def test_numbers_are_the_same_in_another_table() -> None:
    first, second = InodeTable(ROOT), InodeTable(ROOT)
    keys = [f"f/{number}" for number in range(1000)]
    numbers = [enter(first, key) for key in keys]
    assert [enter(second, key) for key in reversed(keys)] == numbers[::-1]
    assert len(set(numbers)) == 1000
    assert all(ROOT_INODE < number < 2**63 for number in numbers)
    assert enter(first, "root") == ROOT_INODE


def test_numbers_do_not_change_between_versions() -> None:
    """A number once given is kept by programs that recorded it; the hash is part of what is promised."""
    assert InodeTable(ROOT).number_of(Thing("d/dp1/u/a")) == 3145212461830216439


def test_keys_that_meet_get_different_numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inodes, "_hash", lambda key: 0)
    table = InodeTable(ROOT)
    numbers = [enter(table, key) for key in "abc"]
    assert numbers == [2, 3, 4]
    assert [enter(table, key) for key in "abc"] == numbers
    table.forget([(2, 2), (3, 2)])
    assert table[4] == Thing("c")


@given(st.lists(st.tuples(st.sampled_from("abcd"), st.integers(-3, 3))))
def test_a_node_lives_as_long_as_it_is_referenced(steps: list[tuple[str, int]]) -> None:
    table = InodeTable(ROOT)
    model: dict[str, int] = {}
    for key, step in steps:
        if step > 0:
            for _ in range(step):
                enter(table, key)
            model[key] = model.get(key, 0) + step
        elif step < 0 and model.get(key, 0):
            references = min(-step, model[key])
            gone = table.forget([(table.number_of(Thing(key)), references)])
            model[key] -= references
            assert bool(gone) == (model[key] == 0)
        assert len(table) == 1 + sum(1 for count in model.values() if count)
    table.forget([(ROOT_INODE, 5)])
    assert table[ROOT_INODE] == ROOT
