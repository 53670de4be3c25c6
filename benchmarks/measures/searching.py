"""Questions to the registry about one dataset, one visit, and a chain."""

from __future__ import annotations

import statistics
from collections.abc import Callable

from benchmarks import scene
from benchmarks.bench import Bench
from benchmarks.channel import Worker
from benchmarks.measures.metadata import milliseconds
from benchmarks.rows import Measurement, Row, make_row
from benchmarks.timing import in_turns

CHAIN = "chain"
CHAIN_RUNS = 20


def search(bench: Bench) -> list[Row]:
    bench.ingested()
    count = bench.sizes.files
    _make_chain(bench)
    wanted = scene.keys(count)[-bench.sizes.calls :]
    return [
        _row(
            bench,
            f"{count:,} refs with dimension records",
            lambda worker: float(worker.ask("query", run="raw0", expected=count, records=True)),
            "<= 0.25",
            "query_datasets(with_dimension_records=True) of one type in one run, and a look at the records of exposure "
            "and detector of each: whole records on both sides",
        ),
        _row(
            bench,
            f"one exposure of {count:,} datasets",
            lambda worker: float(worker.ask("query", run="raw0", expected=scene.DETECTORS, exposure=1)),
            "<= 0.25",
            f"query_datasets by where, {scene.DETECTORS} refs of one exposure in a run",
        ),
        _row(
            bench,
            f"find-first over {CHAIN_RUNS} runs",
            lambda worker: float(worker.ask("query", run=CHAIN, expected=count)),
            "<= 0.25",
            f"query_datasets(find_first=True) over a chain: the run of {count:,} datasets behind {CHAIN_RUNS - 1} "
            f"with {scene.DETECTORS} of the same data ids each",
        ),
        _row(
            bench,
            "find_dataset, fully specified",
            lambda worker: statistics.median(worker.ask("find", run="raw0", wanted=wanted)),
            "<= 0.2",
            f"one find_dataset by a complete data id, median of {len(wanted)} calls, {count:,} datasets in the run",
        ),
    ]


def _make_chain(bench: Bench) -> None:
    runs = [f"part{number}" for number in range(CHAIN_RUNS - 1)]
    exposures = bench.sizes.files // scene.DETECTORS
    for number, run in enumerate(runs):
        keys = scene.keys(scene.DETECTORS, first_exposure=number % exposures)
        for worker, root in ((bench.ours, bench.our_root), (bench.peer, bench.peer_root)):
            worker.ask("ingest", run=run, files=list(scene.write_files(root / run, keys)))
    for worker in (bench.ours, bench.peer):
        worker.ask("make_chain", name=CHAIN, runs=[*runs, "raw0"])


def _row(bench: Bench, name: str, ask: Callable[[Worker], float], goal: str, compared: str) -> Row:
    ask(bench.ours)
    ask(bench.peer)
    found = in_turns(bench.sizes.rounds, {"ours": lambda: ask(bench.ours), "peer": lambda: ask(bench.peer)})
    ours, peer = found["ours"].map(milliseconds), found["peer"].map(milliseconds)
    return make_row(name, ours=ours, peer=peer, unit="ms", goal=goal, compared=compared)


MEASUREMENTS = (Measurement("search", "finding one dataset, one exposure, the first in a chain", search),)
