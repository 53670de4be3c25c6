"""What a fresh process costs."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping

from benchmarks import scene
from benchmarks.bench import Bench
from benchmarks.channel import REPOSITORY_ROOT
from benchmarks.rows import Measurement, Row, make_row, series
from benchmarks.timing import in_turns, timed

MIB = 1024 * 1024

_IMPORT = """
import json, resource, time
def resident():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * resource.getpagesize()
before = resident()
begun = time.perf_counter()
{statement}
print(json.dumps([time.perf_counter() - begun, resident() - before]))
"""
_OUR_IMPORT = "import pantry.client; from pantry.client import Butler"
_PEER_IMPORT = "from lsst.daf.butler import Butler"


def imports(bench: Bench) -> list[Row]:
    sides = {
        "ours": (sys.executable, _OUR_IMPORT, bench.compiling(os.environ)),
        "peer": (bench.peer_python, _PEER_IMPORT, bench.compiling(bench.peer_env)),
    }
    memory: dict[str, list[float]] = {name: [] for name in sides}

    def once(name: str) -> float:
        python, statement, env = sides[name]
        taken_s, grown_bytes = json.loads(_run(python, _IMPORT.format(statement=statement), env))
        memory[name].append(grown_bytes / MIB)
        return float(taken_s)

    for name in sides:
        once(name)  # compiles, and brings the files into the page cache
        memory[name].clear()
    found = in_turns(bench.sizes.rounds, {name: lambda name=name: once(name) for name in sides})
    compared = f"in a fresh process, files warm and compiled: `{_OUR_IMPORT}`, against `{_PEER_IMPORT}`"
    return [
        make_row(
            "import, time",
            ours=found["ours"].map(_ms),
            peer=found["peer"].map(_ms),
            unit="ms",
            goal="<= 0.05",
            compared=f"time of the import statement {compared}",
        ),
        make_row(
            "import, memory",
            ours=series(memory["ours"]),
            peer=series(memory["peer"]),
            unit="MiB",
            goal="<= 0.25",
            compared=f"growth of the resident memory over the bare interpreter by the import {compared}",
        ),
    ]


def first_get(bench: Bench) -> list[Row]:
    bench.ingested()
    key = scene.keys(bench.sizes.files)[7]
    values = scene.data_id(key)
    get = f"assert b.get({scene.DATASET_TYPE!r}, {values!r}, collections='raw0')['detector'] == {key[1]}"
    ours = f"from pantry.client import Butler; b = Butler('bench'); {get}"
    peer = f"from lsst.daf.butler import Butler; b = Butler.from_config({str(bench.peer_root)!r}); {get}"
    sides = {
        "ours": lambda: timed(lambda: _run(sys.executable, ours, bench.compiling(bench.daemon.env))),
        "peer": lambda: timed(lambda: _run(bench.peer_python, peer, bench.compiling(bench.peer_env))),
    }
    for side in sides.values():
        side()
    found = in_turns(bench.sizes.rounds, sides)
    return [
        make_row(
            "fresh process to first get",
            ours=found["ours"].map(_ms),
            peer=found["peer"].map(_ms),
            unit="ms",
            goal="<= 0.1",
            compared="from the start of a Python process to its end: import, make a Butler, get one small JSON; "
            "our daemon runs and has the file cached, the peer reads its own disk",
        )
    ]


def _run(python: str, code: str, env: Mapping[str, str]) -> str:
    done = subprocess.run(
        [python, "-c", code], env=dict(env), cwd=REPOSITORY_ROOT, check=False, capture_output=True, text=True
    )
    if done.returncode:
        raise RuntimeError(f"{python} -c {code!r}:\n{done.stderr}")
    return done.stdout


def _ms(seconds: float) -> float:
    return seconds * 1000


MEASUREMENTS = (
    Measurement("import", "time and memory of importing the client", imports),
    Measurement("first-get", "a fresh process up to its first get", first_get),
)
