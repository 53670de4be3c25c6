"""Several writers at once."""

from __future__ import annotations

import time
from contextlib import ExitStack

from benchmarks import scene
from benchmarks.bench import Bench
from benchmarks.channel import Worker
from benchmarks.rows import Measurement, Row, make_row
from benchmarks.timing import in_turns

WRITERS = 4


def four_writers(bench: Bench) -> list[Row]:
    calls = bench.sizes.calls
    rounds = iter(range(1000))
    stalls: dict[str, float] = {"ours": 0.0, "peer": 0.0}
    _ = bench.ours, bench.peer  # the repositories are there
    with ExitStack() as stack:
        workers = {
            "ours": [stack.enter_context(bench.our_worker(bench.daemon.env)) for _ in range(WRITERS)],
            "peer": [stack.enter_context(bench.peer_worker()) for _ in range(WRITERS)],
        }
        for ours, peer in zip(workers["ours"], workers["peer"], strict=True):
            ours.ask("open_repository", name="bench")
            peer.ask("open_repository", root=str(bench.peer_root))

        def side(name: str, first: Worker) -> float:
            run = f"writers{next(rounds)}"
            first.ask("register_run", run=run)
            begun = time.perf_counter()
            for number, worker in enumerate(workers[name]):
                first_exposure = number * (calls // scene.DETECTORS + 1)
                worker.send("put", run=run, wanted=scene.keys(calls, first_exposure=first_exposure))
            taken = [worker.receive() for worker in workers[name]]
            elapsed_s = time.perf_counter() - begun
            stalls[name] = max(stalls[name], *(max(one) for one in taken))
            return WRITERS * calls / elapsed_s

        for name in workers:  # the first put of a process makes its caches
            side(name, bench.ours if name == "ours" else bench.peer)
            stalls[name] = 0.0
        found = in_turns(
            bench.sizes.few_rounds,
            {"ours": lambda: side("ours", bench.ours), "peer": lambda: side("peer", bench.peer)},
        )
    compared = f"{WRITERS} processes put {calls} small JSON each at once into one local repository with SQLite"
    return [
        make_row(
            f"{WRITERS} writers at once, rate",
            ours=found["ours"],
            peer=found["peer"],
            unit="puts/s",
            goal=">= 5",
            compared=f"{compared}; all puts over the time of the slowest process",
        ),
        make_row(
            f"{WRITERS} writers at once, longest stall",
            ours=stalls["ours"],
            peer=stalls["peer"],
            unit="s",
            goal="ours <= 0.5 s",
            compared=f"{compared}; the longest single put of all rounds",
        ),
    ]


MEASUREMENTS = (Measurement("writers", f"{WRITERS} processes that put at once", four_writers),)
