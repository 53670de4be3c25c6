"""Processes that list, look at, open and read the files of a mount, as many times as they are told."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

PROGRAMS = 4

_PROGRAM = """
import os, random, sys
point, seed = sys.argv[1], int(sys.argv[2])
rng = random.Random(seed)
files = [os.path.join(directory, name) for directory, _, names in os.walk(point) for name in names]
directories = sorted({os.path.dirname(path) for path in files})
def look():
    assert os.stat(rng.choice(files)).st_size
def read():
    with open(rng.choice(files), "rb", buffering=0) as file:
        assert len(file.read(4096)) == 4096
def list_names():
    with os.scandir(rng.choice(directories)) as found:
        assert sum(1 for _ in found)
def tell():
    assert len(os.getxattr(rng.choice(files), rng.choice(("user.pantry.uuid", "user.pantry.hash")))) >= 32
def miss():
    try:
        os.stat(rng.choice(directories) + f"/none-{rng.randrange(1000)}")
    except FileNotFoundError:
        return
    raise AssertionError("found what is not there")
kinds = (look, read, list_names, tell, miss)
print(len(files), flush=True)
for line in sys.stdin:
    for _ in range(int(line)):
        rng.choices(kinds, (4, 4, 1, 2, 1))[0]()
    print("done", flush=True)
"""


class BusyPrograms:
    """Programs that do something at random with the files below a directory; they start by listing all of it."""

    def __init__(self, running: list[subprocess.Popen[str]]) -> None:
        self._running = running
        self.files = [int(self._line(program)) for program in running]

    def do(self, operations: int) -> None:
        """Do so many operations, shared among the programs, and return when they are done."""
        for program in self._running:
            assert program.stdin is not None
            program.stdin.write(f"{json.dumps(operations // len(self._running))}\n")
            program.stdin.flush()
        for program in self._running:
            assert self._line(program) == "done\n"

    @staticmethod
    def _line(program: subprocess.Popen[str]) -> str:
        assert program.stdout is not None
        assert program.stderr is not None
        line = program.stdout.readline()
        assert line, program.stderr.read()
        return line


@contextmanager
def busy_programs(point: Path) -> Iterator[BusyPrograms]:
    running = [
        subprocess.Popen(
            [sys.executable, "-c", _PROGRAM, str(point), str(seed)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )
        for seed in range(PROGRAMS)
    ]  # fmt: skip
    try:
        yield BusyPrograms(running)
    finally:
        for program in running:
            program.kill()
            program.communicate()
