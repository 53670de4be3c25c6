"""The bytes of large objects, without the mount."""

from __future__ import annotations

import os
import subprocess
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from benchmarks.bench import BUCKET, Bench
from benchmarks.channel import Worker
from benchmarks.mounts import rclone_program
from benchmarks.rows import Measurement, Row, SkippedError, figure, make_row, series
from benchmarks.scene import Key
from benchmarks.sky import COMPRESSED, PLAIN, REPOSITORY, RUN
from benchmarks.timing import in_turns, read_through

MIB = 1024 * 1024


def warm_descriptor(bench: Bench) -> list[Row]:
    sky = bench.sky
    path = sky.read()["path"]
    size = sky.size_bytes[PLAIN]
    reading: dict[str, list[float]] = {"ours": [], "peer": []}

    def rate(name: str, answer: dict[str, Any]) -> float:
        assert answer["bytes"] == size
        reading[name].append(size / (answer["s"] - answer["open_s"]) / MIB)
        return float(size / answer["s"] / MIB)

    def ours() -> float:
        return rate("ours", sky.read())

    def plain() -> float:
        return rate("peer", sky.worker.ask("read_plain", path=path))

    ours(), plain()
    reading["ours"].clear(), reading["peer"].clear()
    found = in_turns(3 * bench.sizes.rounds, {"ours": ours, "peer": plain})
    compared = f"a file of {size / MIB:.0f} MiB whose pages are warm, read in 1 MiB steps"
    return [
        make_row(
            "warm read by descriptor, open included",
            ours=found["ours"],
            peer=found["peer"],
            unit="MiB/s",
            goal=">= 0.95",
            compared=f"{compared}: Butler.open by data id and read of its descriptor, against open and read of that "
            "cached file by its path in the same process",
        ),
        make_row(
            "warm read by descriptor, the read alone",
            ours=series(reading["ours"]),
            peer=series(reading["peer"]),
            unit="MiB/s",
            goal="",
            compared=f"{compared}: as the row above, from the moment that the file is open",
        ),
    ]


def cold_object(bench: Bench) -> list[Row]:
    sky = bench.sky
    size = sky.size_bytes[PLAIN]
    key = sky.object_keys[PLAIN]
    target = bench.directory / "downloaded"

    def ours() -> float:
        sky.evict()
        os.sync()
        return size / sky.read()["s"] / MIB

    def boto3() -> float:
        os.sync()
        answer = bench.boto3.ask("download", bucket=BUCKET, key=key, path=str(target))
        assert answer["bytes"] == size
        return size / answer["s"] / MIB

    def rclone() -> float:
        os.sync()
        taken_s = _rclone_copy(bench.rclone_config, key, target, size)
        return size / taken_s / MIB

    sides = {"ours": ours, "boto3": boto3}
    if rclone_program():
        sides["rclone"] = rclone
    for side in sides.values():
        side()
    found = in_turns(5 if bench.sizes.few_rounds > 1 else 1, sides)
    peers = {name: values for name, values in found.items() if name != "ours"}
    best = max(peers, key=lambda name: peers[name].median)
    others = ", ".join(f"{name} {figure(values.median)} MiB/s" for name, values in peers.items())
    return [
        make_row(
            "cold whole object from S3",
            ours=found["ours"],
            peer=found[best],
            unit="MiB/s",
            goal=">= 0.9",
            compared=f"an object of {size / MIB:.0f} MiB from SeaweedFS on loopback to a local file, which is then "
            "read once through: Butler.open with an empty cache (hash checked), against the best of boto3 "
            f"download_fileobj and rclone copyto, here {best} ({others})",
        )
    ]


def _rclone_copy(config: Path, key: str, target: Path, size: int) -> float:
    target.unlink(missing_ok=True)
    argv = [rclone_program(), "copyto", f"bench:{BUCKET}/{key}", str(target), "--config", str(config)]
    begun = time.perf_counter()
    subprocess.run(argv, check=True, capture_output=True)
    assert read_through(target) == size
    taken_s = time.perf_counter() - begun
    target.unlink()
    return taken_s


def cut_out(bench: Bench) -> list[Row]:
    sky = bench.sky
    side_px = sky.image_px
    rows_px = max(1, round(side_px / 100))
    square_px = side_px // 10
    begin = side_px // 2 + 17
    square = [begin, begin, begin + square_px, begin + square_px]
    return [
        _cut_out(bench, PLAIN, [0, begin, side_px, begin + rows_px], "in rows, plain", "<= 0.03"),
        _cut_out(bench, COMPRESSED, square, "square, compressed tiles", "<= 0.03"),
        _cut_out(bench, PLAIN, square, "square, plain", ""),
    ]


def _cut_out(bench: Bench, key: Key, box: list[int], what: str, goal: str) -> Row:
    sky = bench.sky
    sky.evict()
    before = sky.status()
    pixels = sky.worker.ask("cut_out", run=RUN, key=key, box=box)
    after = sky.status()
    assert pixels == (box[2] - box[0]) * (box[3] - box[1])
    size = sky.size_bytes[key]
    n_requests = after["fetches"] - before["fetches"]
    remark = "" if goal else "; only reported, since a narrow box of a plain image lies in as many rows as it is high"
    return make_row(
        f"cut-out of 1 % of an image, {what}",
        ours=(after["fetched_bytes"] - before["fetched_bytes"]) / MIB,
        peer=size / MIB,
        unit="MiB",
        goal=goal,
        compared=f"bytes fetched from S3 ({n_requests} requests) by get with bbox={tuple(box)} of a {sky.image_px} x "
        f"{sky.image_px} image with an empty cache, against the bytes of its file{remark}",
    )


def many_readers(bench: Bench) -> list[Row]:
    sky = bench.sky
    processes, threads = bench.sizes.reader_processes, bench.sizes.reader_threads
    asked = {"name": REPOSITORY, "run": RUN, "key": PLAIN, "head_bytes": min(MIB, sky.size_bytes[PLAIN])}

    def fetches(n_threads: int, workers: list[Worker]) -> tuple[int, float]:
        sky.evict()
        before = sky.status()["fetches"]
        begun = time.perf_counter()
        for worker in workers:
            worker.send("read_in_threads", threads=n_threads, **asked)
        wrong = [line for worker in workers for line in worker.receive()]
        taken_s = time.perf_counter() - begun
        if wrong:
            raise RuntimeError(f"{len(wrong)} of the readers failed: {wrong[:3]}")
        return sky.status()["fetches"] - before, taken_s

    with ExitStack() as stack:
        workers = [stack.enter_context(bench.our_worker(sky.daemon.env)) for _ in range(processes)]
        for worker in workers:
            worker.ask("open_repository", name=REPOSITORY)
        alone, alone_s = fetches(1, workers[:1])
        together, together_s = fetches(threads, workers)
    if not alone:
        raise SkippedError("the daemon counted no requests for one reader")
    return [
        make_row(
            f"{processes * threads} cold readers of one object",
            ours=float(together),
            peer=float(alone),
            unit="requests",
            goal="== 1",
            compared=f"requests that the daemon sent upstream for {processes * threads} readers ({processes} processes "
            f"with {threads} threads, a connection each) of a {sky.size_bytes[PLAIN] / MIB:.0f} MiB object that is not "
            f"cached ({together_s:.2f} s), against those for one reader ({alone_s:.2f} s)",
        )
    ]


MEASUREMENTS = (
    Measurement("descriptor", "warm read from the daemon's descriptor", warm_descriptor),
    Measurement("cold-object", "whole object from S3 with an empty cache", cold_object),
    Measurement("cut-out", "bytes fetched for 1 % of an image", cut_out),
    Measurement("readers", "requests upstream for many readers of one object", many_readers),
)
