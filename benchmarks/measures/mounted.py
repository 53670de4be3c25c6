"""Reading through the mount."""

from __future__ import annotations

import os
import random
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from benchmarks.bench import BUCKET, Bench
from benchmarks.processes import PantryMount, RcloneMount
from benchmarks.rows import Measurement, Row, Series, make_row, series
from benchmarks.scene import DATASET_TYPE, INSTRUMENT
from benchmarks.sky import PLAIN, REPOSITORY, RUN
from benchmarks.timing import in_turns, read_through, timed

MIB = 1024 * 1024
PAGE_BYTES = 4096


@contextmanager
def _mounted(start: Callable[[], Any]) -> Iterator[Path]:
    mount = start()
    try:
        yield mount.mount_point
    finally:
        mount.stop()


def _our_image(mount_point: Path) -> Path:
    below = mount_point / REPOSITORY / RUN / DATASET_TYPE / INSTRUMENT / str(PLAIN[0])
    return below / f"{DATASET_TYPE}_{INSTRUMENT}_{PLAIN[0]}_{PLAIN[1]}.fits"


def sequential(bench: Bench) -> list[Row]:
    sky = bench.sky
    size = sky.size_bytes[PLAIN]
    rclone_cache = bench.directory / "rclone-cache"
    config = bench.rclone_config

    def ours() -> PantryMount:
        return PantryMount(sky.daemon, bench.mount_point("ours"), bench.directory / "mount.log")

    def rclone() -> RcloneMount:
        log = bench.directory / "rclone-mount.log"
        return RcloneMount(config, f"bench:{BUCKET}", bench.mount_point("rclone"), rclone_cache, log)

    def rate(path: Path) -> float:
        begun = time.perf_counter()
        assert read_through(path) == size
        return size / (time.perf_counter() - begun) / MIB

    def one_round(start: Callable[[], Any], image: Callable[[Path], Path], cached: Callable[[], Path]) -> list[float]:
        """Read cold, then from the local cache through a new mount, then once more."""
        with _mounted(start) as mount_point:
            cold = rate(image(mount_point))
        os.sync()
        read_through(cached())  # both caches' files are in the page cache
        with _mounted(start) as mount_point:
            first = rate(image(mount_point))
            second = rate(image(mount_point))
        return [cold, first, second]

    def our_round() -> list[float]:
        sky.evict()
        return one_round(ours, _our_image, lambda: Path(sky.read()["path"]))

    def rclone_round() -> list[float]:
        shutil.rmtree(rclone_cache, ignore_errors=True)
        key = sky.object_keys[PLAIN]
        return one_round(
            rclone, lambda mount_point: mount_point / key, lambda: rclone_cache / "vfs" / "bench" / BUCKET / key
        )

    rounds: dict[str, list[list[float]]] = {"ours": [], "rclone": []}
    for number in range(bench.sizes.few_rounds):
        for name in ("ours", "rclone") if number % 2 == 0 else ("rclone", "ours"):
            rounds[name].append(our_round() if name == "ours" else rclone_round())

    def column(name: str, number: int) -> Series:
        return series([values[number] for values in rounds[name]])

    compared = f"a file of {size / MIB:.0f} MiB read from begin to end in 1 MiB steps through our mount and through"
    compared += " `rclone mount --vfs-cache-mode full`, each freshly mounted"
    named = (
        ("first", 1, ">= 2", "; file complete in the local cache, whose pages are warm; first read through the mount"),
        ("second", 2, "", "; as the first, read once more through the same mount"),
        ("cold", 0, "", "; file in S3 only"),
    )
    return [
        make_row(
            f"sequential read through the mount, {what}",
            ours=column("ours", number),
            peer=column("rclone", number),
            unit="MiB/s",
            goal=goal,
            compared=compared + how,
        )
        for what, number, goal, how in named
    ]


def random_reads(bench: Bench) -> list[Row]:
    sky = bench.sky
    size = sky.size_bytes[PLAIN]
    native = Path(sky.read()["path"])
    count = bench.sizes.random_reads
    generator = random.Random(7)
    places = [generator.randrange(size // PAGE_BYTES) * PAGE_BYTES for _ in range(count)]

    def rate(path: Path) -> float:
        fd = os.open(path, os.O_RDONLY)
        try:
            os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_RANDOM)
            buffers = [bytearray(PAGE_BYTES)]
            begun = time.perf_counter()
            for place in places:
                os.preadv(fd, buffers, place)
            return count / (time.perf_counter() - begun)
        finally:
            os.close(fd)

    def ours() -> float:
        with _mounted(
            lambda: PantryMount(sky.daemon, bench.mount_point("ours"), bench.directory / "mount.log")
        ) as mount_point:
            return rate(_our_image(mount_point))

    rate(native)
    found = in_turns(bench.sizes.few_rounds, {"ours": ours, "peer": lambda: rate(native)})
    return [
        make_row(
            "random 4 KiB reads through the mount",
            ours=found["ours"],
            peer=found["peer"],
            unit="reads/s",
            goal=">= 0.9",
            compared=f"{count:,} reads of 4 KiB at random places of a {size / MIB:.0f} MiB file that is complete in "
            "the cache, its pages warm: through a fresh mount, against the cached file itself",
        )
    ]


def find(bench: Bench) -> list[Row]:
    bench.ingested()
    native = bench.our_root / "raw0"
    start = lambda: PantryMount(bench.daemon, bench.mount_point("find"), bench.directory / "mount.log")  # noqa: E731

    def names(directory: Path) -> int:
        done = subprocess.run(["find", str(directory), "-type", "f"], check=True, capture_output=True)
        return done.stdout.count(b"\n")

    with _mounted(start) as mount_point:
        ours = mount_point / "bench" / "raw0"
        first_s = timed(lambda: names(ours))
        assert names(ours) == names(native) == bench.sizes.files, (names(ours), names(native))
        found = in_turns(
            bench.sizes.rounds,
            {"ours": lambda: timed(lambda: names(ours)), "peer": lambda: timed(lambda: names(native))},
        )
    count = bench.sizes.files
    return [
        make_row(
            f"find over {count:,} names, second time",
            ours=found["ours"].map(lambda s: count / s),
            peer=found["peer"].map(lambda s: count / s),
            unit="names/s",
            goal=">= 0.5",
            compared="`find DIR -type f` over a run in our mount, which was walked before "
            f"(the first walk took {first_s:.2f} s), against the same tree on the native file system",
        )
    ]


MEASUREMENTS = (
    Measurement("mount-sequential", "sequential reads through the mount", sequential),
    Measurement("mount-random", "random 4 KiB reads through the mount", random_reads),
    Measurement("find", "find through the mount", find),
)
