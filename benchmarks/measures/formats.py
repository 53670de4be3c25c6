"""Put, get, and get of a part, format by format: against the peer, and against the bare call of the library."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from functools import partial

from benchmarks.bench import Bench
from benchmarks.formats import FORMATS, Format
from benchmarks.measures.metadata import milliseconds
from benchmarks.rows import Measurement, Row, make_row
from benchmarks.timing import in_turns

_FULL_PX = 8192
_SMALL = 0.01


def formats(bench: Bench) -> list[Row]:
    size = 1.0 if bench.sizes.image_px >= _FULL_PX else _SMALL
    rows: list[Row] = []
    for name, one in FORMATS.items():
        rows += _of(bench, name, one, size)
    return rows


def _of(bench: Bench, name: str, one: Format, size: float) -> list[Row]:
    peer = bench.peer if one.with_peer and bench.peer_python_or_none else None
    for worker in [bench.ours] + ([peer] if peer else []):
        worker.ask("register_format", name=name, storage_class=one.storage_class)
    numbers = itertools.count()
    path = str(bench.directory / f"bare-{name}")

    def put(worker_name: str) -> float:
        if worker_name == "bare":
            return float(bench.ours.ask("bare", name=name, action="put", path=path, size=size))
        worker = bench.ours if worker_name == "ours" else bench.peer
        run = f"format-{name}-{next(numbers)}"
        worker.ask("register_run", run=run)
        latest[worker_name] = run
        return float(worker.ask("put_object", name=name, run=run, size=size))

    def get(worker_name: str, part: bool) -> float:
        if worker_name == "bare":
            return float(bench.ours.ask("bare", name=name, action="part" if part else "get", path=path, size=size))
        worker = bench.ours if worker_name == "ours" else bench.peer
        return float(worker.ask("get_object", name=name, run=latest[worker_name], part=part))

    latest: dict[str, str] = {}
    actions: dict[str, Callable[[str], float]] = {"put": put, "get": partial(get, part=False)}
    if one.part:
        actions["part"] = partial(get, part=True)
    rows: list[Row] = []
    for action, measure in actions.items():
        names = ["ours", "bare"] if action != "part" or one.read_part else ["ours"]
        names += ["peer"] if peer else []
        for who in names:
            measure(who)  # libraries are loaded, files are cached
        found = in_turns(bench.sizes.rounds, {who: partial(measure, who) for who in names})
        taken = {who: values.map(milliseconds) for who, values in found.items()}
        what = f"{name}: {action}" + (f" of {one.part}" if action == "part" else "")
        rows.append(
            make_row(
                f"{what}, against the library",
                ours=taken["ours"],
                peer=taken.get("bare"),
                unit="ms",
                goal="",
                compared="Butler, which also hashes and registers, against the bare call on a local file, both warm",
            )
        )
        if one.with_peer:  # of others, the Gen3 Butler has no formatter on PyPI
            rows.append(
                make_row(
                    f"{what}, against Gen3",
                    ours=taken["ours"],
                    peer=taken.get("peer"),
                    unit="ms",
                    goal="",
                    compared="the same object, or the same part",
                )
            )
    return rows


MEASUREMENTS = (Measurement("formats", "put, get and parts of each format", formats),)
