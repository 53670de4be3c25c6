"""How files are open, against the kernel's rule: all opens of an inode pass through by one backing file, or none."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from pantry.fusefs.modes import OpenModes


class Backing:
    """Registers files as the kernel does, and refuses what it would refuse."""

    def __init__(self, refused: frozenset[int] = frozenset()) -> None:
        self.registered: set[int] = set()
        self.last = 0
        self.refused = refused

    def open_backing(self, fd: int) -> int:
        if fd in self.refused:
            raise OSError(40, "ELOOP")
        self.last += 1
        self.registered.add(self.last)
        return self.last

    def close_backing(self, number: int) -> None:
        self.registered.remove(number)


_STEPS = st.lists(st.tuples(st.sampled_from("oc"), st.integers(1, 4), st.booleans()), max_size=60)


@given(_STEPS, st.frozensets(st.integers(1, 4), max_size=1))
def test_the_kernel_never_sees_two_modes_of_one_file(
    steps: list[tuple[str, int, bool]], refused: frozenset[int]
) -> None:
    backing = Backing(refused)
    modes = OpenModes(backing)
    modes.enabled = True
    opens: dict[int, list[int]] = {}
    for step, inode, complete in steps:
        if step == "o":
            number = modes.open(inode, inode, complete=complete)
            others = opens.setdefault(inode, [])
            assert not others or {number} == set(others)
            if not others:
                assert bool(number) == (complete and inode not in refused)
            others.append(number)
            if step == "o" and len(opens[inode]) == 2:
                # A successor that is told of all opens decides alike.
                heir = OpenModes(backing)
                for one in opens[inode]:
                    heir.take_over(inode, one)
                assert heir.backing_of(inode) == number
        elif opens.get(inode):
            modes.close(inode, opens[inode].pop(0))
        assert backing.registered == {number for numbers in opens.values() for number in numbers if number}


def test_nothing_passes_through_before_the_test_did() -> None:
    modes = OpenModes(Backing())
    assert modes.open(1, 5, complete=True) == 0
    modes.enabled = True
    assert modes.open(1, 5, complete=True) == 0
    modes.close(1, 0)
    modes.close(1, 0)
    assert modes.open(1, 5, complete=True) == 1
