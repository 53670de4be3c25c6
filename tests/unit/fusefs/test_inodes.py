from __future__ import annotations

import os
from collections.abc import Iterator
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pantry.fusefs import inodes
from pantry.fusefs.inodes import ROOT_INODE, InodeTable
from pantry.fusefs.slots import Slots
from pantry.fusefs.tree import Directory, File, Root


@pytest.fixture
def slots() -> Iterator[Slots]:
    made = Slots.create()
    yield made
    made.close()


def node(key: str) -> Directory:
    return Directory("r", (key,))


def enter(table: InodeTable, key: str) -> int:
    number = table.number_of(node(key))
    table.count(number, node(key))
    return number


def test_numbers_are_the_same_in_another_table(slots: Slots) -> None:
    other = Slots.create()
    first, second = InodeTable(slots), InodeTable(other)
    keys = [f"f/{number}" for number in range(1000)]
    numbers = [enter(first, key) for key in keys]
    assert [enter(second, key) for key in reversed(keys)] == numbers[::-1]
    assert len(set(numbers)) == 1000
    assert all(ROOT_INODE < number < 2**63 for number in numbers)
    assert first.number_of(Root()) == ROOT_INODE
    other.close()


def test_numbers_do_not_change_between_versions(slots: Slots) -> None:
    """A number once given is kept by programs that recorded it; the hash is part of what is promised."""
    assert InodeTable(slots).number_of(Directory("dp1", ("u", "a"))) == 3145212461830216439


def test_keys_that_meet_get_different_numbers(slots: Slots, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inodes, "_hash", lambda key: 0)
    table = InodeTable(slots)
    numbers = [enter(table, key) for key in "abc"]
    assert numbers == [3, 4, 5]
    assert [enter(table, key) for key in "abc"] == numbers
    table.forget(3, 2)
    table.forget(4, 2)
    assert table[5] == node("c")


def test_a_newer_node_by_the_same_key_replaces_the_older(slots: Slots) -> None:
    table = InodeTable(slots)
    old = File("r", UUID(int=1), 5, 7, "h")
    new = File("r", UUID(int=1), 5, 8, "h")
    number = table.number_of(old)
    table.count(number, old)
    assert table.number_of(new) == number
    table.count(number, new)
    assert table[number] == new
    assert not table.forget(number, 1)
    assert table.forget(number, 1)


@given(st.lists(st.tuples(st.sampled_from("abcd"), st.integers(-3, 3))))
def test_a_node_lives_as_long_as_it_is_referenced(steps: list[tuple[str, int]]) -> None:
    """And a table that takes over says the same as the one before it, at any time."""
    slots = Slots.create()
    table = InodeTable(slots)
    model: dict[str, int] = {}
    for key, step in steps:
        if step > 0:
            for _ in range(step):
                enter(table, key)
            model[key] = model.get(key, 0) + step
        elif step < 0 and model.get(key, 0):
            references = min(-step, model[key])
            gone = table.forget(table.number_of(node(key)), references)
            model[key] -= references
            assert gone == (model[key] == 0)
        assert len(table) == 1 + sum(1 for count in model.values() if count)
    assert not table.forget(ROOT_INODE, 5)
    assert table[ROOT_INODE] == Root()

    heirs = Slots(os.dup(slots.fd))
    heir = InodeTable(heirs)
    for slot in list(heirs.left()):
        heir.take_over(slot)
    for key, count in model.items():
        number = table.number_of(node(key))
        if count:
            assert heir[number] == node(key)
            assert not heir.forget(number, count - 1)
            assert heir.forget(number, 1)
        else:
            with pytest.raises(KeyError):
                heir[number]
    slots.close()
    heirs.close()
