"""``python -m benchmarks``: measure, print the table, write ``build/bench.json``."""

from __future__ import annotations

import argparse
import os
import signal
import sys
import time
import traceback
from collections.abc import Sequence
from pathlib import Path
from types import FrameType

from rich.console import Console

from benchmarks.bench import QUICK, Bench, Sizes
from benchmarks.channel import REPOSITORY_ROOT
from benchmarks.measures import MEASUREMENTS
from benchmarks.peer_venv import find_peer_python
from benchmarks.report import print_table, write_json
from benchmarks.rows import Measurement, Row, SkippedError, unmeasured

_FILE_COLUMNS = 130
_BUSY_LOAD = 1.0


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; the exit status is 1 if a measurement failed, and says nothing of goals."""
    options = _parser().parse_args(arguments)
    console = Console() if sys.stdout.isatty() else Console(width=_FILE_COLUMNS)
    if options.list:
        for measurement in MEASUREMENTS:
            console.print(f"{measurement.name:18} {measurement.title}", highlight=False)
        return 0
    chosen = [one for one in MEASUREMENTS if not options.only or one.name in options.only]
    peer_python = "" if options.no_peer else find_peer_python(options.peer_python)
    load_before = os.getloadavg()[0]  # afterwards it is our own
    signal.signal(signal.SIGTERM, _interrupt)  # so that everything is ended and removed
    sizes = QUICK if options.quick else Sizes()
    rows: list[Row] = []
    failed = False
    with Bench(Path(options.build), peer_python=peer_python, sizes=sizes, keep=options.keep) as bench:
        for measurement in chosen:
            begun = time.monotonic()
            found, ok = _measure(measurement, bench)
            failed = failed or not ok
            rows += found
            console.print(f"{measurement.name}: {time.monotonic() - begun:.1f} s", style="dim", highlight=False)
    if options.quick:
        console.print("[yellow]--quick: sizes too small for the figures to mean anything[/yellow]")
    if load_before > _BUSY_LOAD:
        console.print(f"[yellow]The machine was busy before (load {load_before:.1f}): expect wide spreads[/yellow]")
    write_json(rows, Path(options.output or Path(options.build) / "bench.json"))
    print_table(rows, console)
    return 1 if failed else 0


def _measure(measurement: Measurement, bench: Bench) -> tuple[list[Row], bool]:
    try:
        return measurement.run(bench), True
    except SkippedError as exc:
        return [unmeasured(measurement.title, f"not measured: {exc}")], True
    except Exception as exc:
        traceback.print_exc()
        last_line = (str(exc).strip().splitlines() or [""])[-1].strip()
        return [unmeasured(measurement.title, f"failed: {type(exc).__name__}: {last_line}")], False


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def _parser() -> argparse.ArgumentParser:
    names = [one.name for one in MEASUREMENTS]
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description="Measure Pantry against its peers.")
    parser.add_argument("--only", action="append", choices=names, metavar="NAME", help="only this one; repeatable")
    parser.add_argument("--list", action="store_true", help="list the measurements and leave")
    parser.add_argument("--quick", action="store_true", help="small sizes, to see that everything works")
    parser.add_argument(
        "--peer-python",
        default="",
        metavar="PATH",
        help="a Python that has lsst.daf.butler; otherwise .venv-peer is made (needs the network once)",
    )
    parser.add_argument("--no-peer", action="store_true", help="leave out what needs lsst.daf.butler")
    parser.add_argument(
        "--build", default=str(REPOSITORY_ROOT / "build"), metavar="DIR", help="for temporary files [%(default)s]"
    )
    parser.add_argument("--output", default="", metavar="FILE", help="the rows as JSON [DIR/bench.json]")
    parser.add_argument("--keep", action="store_true", help="leave the temporary files, with all logs")
    return parser


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:  # everything is ended and removed by now
        sys.exit(130)
