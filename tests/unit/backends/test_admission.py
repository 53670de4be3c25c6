"""Threads are given out fairly: a user's share first, then the node's."""

from __future__ import annotations

import threading

import trio

from pantry.backends.admission import Admission, acting_uid


def test_one_user_does_not_take_all_threads() -> None:
    async def check() -> None:
        admission = Admission(user_limit=2, node_limit=3)
        gate = threading.Event()
        started: list[int] = []
        both = trio.Event()

        def block() -> None:
            started.append(acting_uid.get())
            if len(started) == 2:
                trio.from_thread.run_sync(both.set)
            gate.wait()

        async def act(uid: int) -> None:
            acting_uid.set(uid)
            await admission.call(block)

        async with trio.open_nursery() as nursery:
            for _ in range(5):
                nursery.start_soon(act, 1)
            await both.wait()
            acting_uid.set(2)
            # Three of user 1 wait, and yet the thread that is left is user 2's at once.
            assert await admission.call(lambda: list(started)) == [1, 1]
            gate.set()
        assert len(started) == 5
        assert admission._users == {}

    trio.run(check)
