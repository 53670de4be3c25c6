"""Datasets taken to where there is no daemon: staging against cp, bundles against the repository."""

from __future__ import annotations

import os
import shutil
import statistics
import subprocess
from pathlib import Path

from benchmarks import scene
from benchmarks.bench import Bench
from benchmarks.measures.metadata import milliseconds
from benchmarks.rows import Measurement, Row, make_row
from benchmarks.timing import in_turns, timed


def staging(bench: Bench) -> list[Row]:
    bench.ingested()
    count, source = bench.sizes.files, bench.our_root / "raw0"
    rows = []
    for transfer, options, name in (("copy", "-r", "copies"), ("hardlink", "-rl", "hard links")):

        def ours(transfer: str = transfer) -> float:
            target = _fresh(bench.directory / "staged")
            return count / bench.ours.ask("stage", run="raw0", directory=str(target), transfer=transfer, expected=count)

        def peer(options: str = options) -> float:
            target = _fresh(bench.directory / "copied")
            return count / timed(lambda: subprocess.run(["cp", options, str(source), str(target)], check=True))

        ours(), peer()
        found = in_turns(bench.sizes.few_rounds, {"ours": ours, "peer": peer})
        rows.append(
            make_row(
                f"stage {count:,} small files: {name}",
                ours=found["ours"],
                peer=found["peer"],
                unit="files/s",
                goal=">= 0.5" if transfer == "copy" else "",
                compared=f"query, stage and comparison of each hash, of a repository in a directory of the same disk, "
                f"against cp {options} of that directory",
            )
        )
    return rows


def bundles(bench: Bench) -> list[Row]:
    bench.ingested()
    count = bench.sizes.files
    wanted = scene.keys(count)[-bench.sizes.calls :]
    directory = _fresh(bench.directory / "bundle")
    made_s = bench.ours.ask("make_bundle", run="raw0", directory=str(directory), expected=count)
    with bench.our_worker({**os.environ, "PANTRY_SOCKET": "/nonexistent"}) as job:
        opened_s = job.ask("open_bundle", directory=str(directory))

        def ours() -> float:
            return statistics.median(job.ask("get", run="raw0", wanted=wanted))

        def peer() -> float:
            return statistics.median(bench.ours.ask("get", run="raw0", wanted=wanted))

        ours(), peer()
        found = in_turns(bench.sizes.rounds, {"ours": ours, "peer": peer})
    return [
        make_row(
            "get from a bundle, small JSON, warm",
            ours=found["ours"].map(milliseconds),
            peer=found["peer"].map(milliseconds),
            unit="ms",
            goal="",
            compared=f"one Butler.get by data id from a bundle of {count:,} datasets, against the same through the "
            f"daemon; the bundle was made in {made_s:.2f} s and opened in {1000 * opened_s:.1f} ms",
        )
    ]


def _fresh(directory: Path) -> Path:
    shutil.rmtree(directory, ignore_errors=True)
    os.sync()
    return directory


MEASUREMENTS = (
    Measurement("staging", "staging many small files, against cp", staging),
    Measurement("bundles", "gets from a bundle, against gets through the daemon", bundles),
)
