"""Small datasets and the registry, one client at a time."""

from __future__ import annotations

import statistics

from benchmarks import scene
from benchmarks.bench import Bench
from benchmarks.channel import Worker
from benchmarks.rows import Measurement, Row, make_row, series
from benchmarks.timing import in_turns


def get(bench: Bench) -> list[Row]:
    bench.ingested()
    wanted = scene.keys(bench.sizes.files)[-bench.sizes.calls :]

    def side(worker: Worker) -> float:
        return statistics.median(worker.ask("get", run="raw0", wanted=wanted))

    side(bench.ours)
    side(bench.peer)
    found = in_turns(bench.sizes.rounds, {"ours": lambda: side(bench.ours), "peer": lambda: side(bench.peer)})
    return [
        make_row(
            "get by data id, small JSON, warm",
            ours=found["ours"].map(milliseconds),
            peer=found["peer"].map(milliseconds),
            unit="ms",
            goal="<= 0.2",
            compared=f"one Butler.get of a 300-byte JSON by data id, median of {len(wanted)} calls in a running "
            f"process, {bench.sizes.files:,} datasets in the run; ours from the daemon's cache, the peer's from disk",
        )
    ]


def put(bench: Bench) -> list[Row]:
    calls = bench.sizes.calls
    wanted = scene.keys(calls)
    rounds = iter(range(1000))

    def side(worker: Worker) -> float:
        run = f"put{next(rounds)}"
        worker.ask("register_run", run=run)
        return statistics.median(worker.ask("put", run=run, wanted=wanted))

    found = in_turns(bench.sizes.rounds, {"ours": lambda: side(bench.ours), "peer": lambda: side(bench.peer)})
    return [
        make_row(
            "put small JSON",
            ours=found["ours"].map(milliseconds),
            peer=found["peer"].map(milliseconds),
            unit="ms",
            goal="<= 0.34",
            compared=f"one Butler.put of a 300-byte JSON into a local repository with SQLite, median of {calls} calls; "
            "ours is hashed, journalled and all or nothing",
        )
    ]


def query(bench: Bench) -> list[Row]:
    bench.ingested()
    count = bench.sizes.files

    def side(worker: Worker) -> float:
        return float(worker.ask("query", run="raw0", expected=count))

    side(bench.ours)
    side(bench.peer)
    found = in_turns(bench.sizes.rounds, {"ours": lambda: side(bench.ours), "peer": lambda: side(bench.peer)})
    return [
        make_row(
            f"{count:,} refs by query",
            ours=found["ours"].map(milliseconds),
            peer=found["peer"].map(milliseconds),
            unit="ms",
            goal="<= 0.25",
            compared="query_datasets of one dataset type in one run, to a complete list of DatasetRef",
        )
    ]


def ingest(bench: Bench) -> list[Row]:
    taken = bench.ingested(bench.sizes.few_rounds)
    count = bench.sizes.files
    _ = bench.peer_python
    return [
        make_row(
            f"ingest in place, {count:,} files",
            ours=series([count / ours for ours, _ in taken]),
            peer=series([count / peer for _, peer in taken]),
            unit="files/s",
            goal=">= 10",
            compared="ingest of equal files that lie in the repository's root already (ours in_place, the peer's "
            "transfer=None); the call only, with its arguments made before (the peer's refs and FileDatasets); "
            "ours also hashes every file",
        )
    ]


def milliseconds(seconds: float) -> float:
    return seconds * 1000


MEASUREMENTS = (
    Measurement("ingest", "ingest of many files in place", ingest),
    Measurement("get", "get of a small JSON by data id", get),
    Measurement("put", "put of a small JSON", put),
    Measurement("query", "a query that gives many refs", query),
)
