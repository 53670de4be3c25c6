from __future__ import annotations

import pytest

from pantry.errors import LimitExceededError
from pantry.fusefs.caching import CachingShares
from pantry.wire.envelope import Behalf

ANNA, BEN = Behalf(1000, 1000), Behalf(1001, 1001)


def test_a_mount_of_ones_own_has_nothing_to_share() -> None:
    shares = CachingShares(many_users=False)
    assert all(shares.take_file(None) for _ in range(10_000))


def test_without_room_everybody_reads_directly() -> None:
    assert not CachingShares(many_users=True).take_file(ANNA)


def test_each_user_has_a_share_of_the_files() -> None:
    shares = CachingShares(many_users=True)
    shares.set_background(2048)
    assert sum(shares.take_file(ANNA) for _ in range(1000)) == 128
    assert shares.take_file(BEN)
    assert not shares.take_file(Behalf(1000, 50, (50,)))
    shares.give_file_back(ANNA)
    assert shares.take_file(ANNA)
    assert not shares.take_file(ANNA)


def test_each_user_has_a_share_of_the_waiting_reads() -> None:
    shares = CachingShares(many_users=True)
    shares.set_background(256)
    waiting = [shares.waiting(ANNA) for _ in range(64)]
    for one in waiting:
        one.__enter__()
    with pytest.raises(LimitExceededError), shares.waiting(ANNA):
        pass
    with shares.waiting(BEN):
        pass
    waiting[0].__exit__(None, None, None)
    with shares.waiting(ANNA):
        pass
