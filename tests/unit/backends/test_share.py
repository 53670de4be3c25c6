"""One storage's share of the threads."""

from __future__ import annotations

import threading

import pytest
import trio
import trio.testing

from pantry.backends.admission import Admission
from pantry.backends.share import Share
from pantry.errors import OriginUnavailableError


def test_a_storage_that_hangs_has_its_share_and_refuses_when_nothing_ends() -> None:
    release = threading.Event()

    async def check() -> None:
        admission = Admission(user_limit=4, node_limit=4)
        share = Share("file:///hung", admission, most=2, silent_s=30)
        clock = trio.lowlevel.current_clock()
        assert isinstance(clock, trio.testing.MockClock)
        refused: list[OriginUnavailableError] = []

        async def third() -> None:
            with pytest.raises(OriginUnavailableError) as caught:
                await share.call(release.wait)
            refused.append(caught.value)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(share.call, release.wait)
            nursery.start_soon(share.call, release.wait)
            await trio.testing.wait_all_tasks_blocked()  # tasks do not begin in the order of their start
            nursery.start_soon(third)
            try:
                await trio.testing.wait_all_tasks_blocked()
                assert admission.running_total == 2
                assert await admission.call(lambda: "of another storage") == "of another storage"
                clock.jump(29)
                await trio.testing.wait_all_tasks_blocked()
                assert not refused
                clock.jump(2)
                await trio.testing.wait_all_tasks_blocked()
                assert len(refused) == 1
            finally:
                release.set()  # else a failure would wait for the threads for ever
        assert await share.call(lambda: 5) == 5

    trio.run(check, clock=trio.testing.MockClock())
