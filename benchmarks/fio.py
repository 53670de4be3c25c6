"""fio, Debian's program that reads as fast as it can and counts."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

from benchmarks.rows import SkippedError

_WORDS = ("--name=read", "--readonly", "--ioengine=psync", "--invalidate=0", "--time_based", "--gtod_reduce=1")


def read_rate(path: Path, *, pattern: str, block_bytes: int, seconds: float) -> float:
    """Read a file by one process for some time, whatever of it is in memory, and give reads per second.

    Parameters
    ----------
    path : Path
        What to read.
    pattern : str
        ``read`` for one after the other, ``randread`` for any.
    block_bytes : int
        Length of one read, in bytes.
    seconds : float
        For how long.
    """
    program = shutil.which("fio")
    if program is None:
        raise SkippedError("fio is not installed (apt-get install fio)")
    argv = [program, *_WORDS, f"--rw={pattern}", f"--bs={block_bytes}", f"--runtime={round(seconds * 1000)}ms"]
    argv += [f"--filename={path}", "--output-format=json"]
    done = subprocess.run(argv, check=True, capture_output=True, text=True)
    answer: dict[str, Any] = json.loads(done.stdout)
    (job,) = answer["jobs"]
    assert job["error"] == 0, job
    return float(job["read"]["iops"])
