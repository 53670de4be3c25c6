from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

from pantry.daemon.group_commit import GroupCommit


class Log:
    """Commits by noting batches; the first one waits until it may go on."""

    def __init__(self) -> None:
        self.batches: list[list[int]] = []
        self.inside, self.gate = threading.Event(), threading.Event()

    def __call__(self, jobs: list[int]) -> None:
        first = not self.batches
        self.batches.append(jobs)
        if first:
            self.inside.set()
            assert self.gate.wait(30)


def wait_for_jobs(group: GroupCommit[int], count: int) -> None:
    for _ in range(30_000):
        if group.waiting == count:
            return
        threading.Event().wait(0.001)
    raise AssertionError(f"{group.waiting} of {count} jobs came")


def test_jobs_that_come_during_a_commit_share_the_next_one() -> None:
    log = Log()
    group = GroupCommit(log, most=5)
    with ThreadPoolExecutor(8) as pool:
        running = [pool.submit(group.run, [0])]
        assert log.inside.wait(30)
        for number in range(1, 8):
            running.append(pool.submit(group.run, [number]))
            wait_for_jobs(group, number)
        log.gate.set()
        assert all(one.result() for one in running)
    assert log.batches == [[0], [1, 2, 3, 4, 5], [6, 7]]


def test_run_returns_when_all_of_its_own_are_committed() -> None:
    log = Log()
    log.gate.set()
    group = GroupCommit(log, most=2)
    assert group.run([1, 2, 3, 4, 5])
    assert log.batches == [[1, 2], [3, 4], [5]]
    assert group.run([])
    assert len(log.batches) == 3


def test_closing_commits_what_was_given_and_takes_no_more() -> None:
    log = Log()
    group = GroupCommit(log, most=5)
    with ThreadPoolExecutor(4) as pool:
        running = [pool.submit(group.run, [0])]
        assert log.inside.wait(30)
        running.append(pool.submit(group.run, [1]))
        wait_for_jobs(group, 1)
        closing = pool.submit(group.close)
        log.gate.set()
        closing.result()
        assert all(one.result() for one in running)
    assert log.batches == [[0], [1]]
    assert not group.run([2])
    assert log.batches == [[0], [1]]
