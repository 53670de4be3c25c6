"""Walking over many names through the mount."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from benchmarks.bench import Bench
from benchmarks.mounts import PantryMount, PeerMount, mounted
from benchmarks.rows import Measurement, Row, Series, make_row, series
from benchmarks.shelf import REPOSITORY as SHELF
from benchmarks.shelf import RUN as SHELF_RUN
from benchmarks.timing import timed


class _Program(NamedTuple):
    title: str
    argv: Sequence[str]
    files: Callable[[bytes], int]
    """How many files its output names."""


FIND = _Program("find", ("find", ".", "-type", "f"), lambda output: output.count(b"\n"))
LIST = _Program("ls -lR", ("ls", "-lR", "."), lambda output: output.count(b"\n-r"))


class _Walks(NamedTuple):
    """Names per second, and MiB that the mount's processes had after it."""

    first: Series
    second: Series
    memory_mib: float


def _walk(program: _Program, directory: Path, files: int) -> float:
    def run() -> None:
        # Written to a pipe, or find and ls would know that nobody reads it.
        done = subprocess.run(program.argv, cwd=directory, check=True, stdout=subprocess.PIPE)
        assert program.files(done.stdout) == files, (program.title, program.files(done.stdout), files)

    return files / timed(run)


def _walk_mount(
    program: _Program, start: Callable[[], PantryMount | PeerMount], below: str, files: int, rounds: int
) -> _Walks:
    found: list[tuple[float, float]] = []
    memory_mib = 0.0
    for _ in range(rounds):
        with mounted(start) as mount:
            directory = mount.mount_point / below
            found.append((_walk(program, directory, files), _walk(program, directory, files)))
            memory_mib = max(memory_mib, mount.memory_mib())
    first, second = zip(*found, strict=True)
    return _Walks(series(first), series(second), memory_mib)


def _rows(bench: Bench, program: _Program, goal: str) -> list[Row]:
    native = bench.walked
    files, rounds = bench.sizes.names, bench.sizes.few_rounds
    _walk(program, native, files)
    own = series([_walk(program, native, files) for _ in range(rounds)])
    log = bench.directory / "mount.log"
    ours = _walk_mount(
        program,
        lambda: PantryMount(bench.daemon, bench.mount_point("find"), log),
        "bench/names",
        files,
        rounds,
    )
    compared = f"`{' '.join(program.argv)}` over a run of {files:,} files in our mount, whose two processes had "
    compared += f"{ours.memory_mib:.0f} MiB afterwards, against"
    rows = [
        make_row(
            f"{program.title}, {when} time, against native",
            ours=walks,
            peer=own,
            unit="names/s",
            goal=goal if when == "second" else "",
            compared=f"{compared} the same tree on the native file system, walked before",
        )
        for when, walks in (("first", ours.first), ("second", ours.second))
    ]
    objects = bench.shelf.objects
    for peer, start in (
        ("rclone mount", lambda: bench.mount_rclone("walk")),
        ("s3fs", lambda: bench.mount_s3fs("walk")),
    ):
        theirs = _walk_mount(program, start, f"{SHELF}/{SHELF_RUN}", objects, 1)
        rows += [
            make_row(
                f"{program.title}, {when} time, against {peer}",
                ours=our_walks,
                peer=their_walks.median,
                unit="names/s",
                goal="",
                compared=f"{compared} {peer} over {objects:,} such objects in S3, which had {theirs.memory_mib:.0f} "
                "MiB afterwards",
            )
            for when, our_walks, their_walks in (
                ("first", ours.first, theirs.first),
                ("second", ours.second, theirs.second),
            )
        ]
    return rows


MEASUREMENTS = (
    Measurement("find", "find through the mount", lambda bench: _rows(bench, FIND, ">= 0.5")),
    Measurement("ls", "ls -lR through the mount", lambda bench: _rows(bench, LIST, "")),
)
