"""Reading through the mount."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from benchmarks.bench import BUCKET, Bench
from benchmarks.fio import read_rate
from benchmarks.mounts import Mount, PantryMount, mounted
from benchmarks.rows import Measurement, Row, Series, make_row, series
from benchmarks.scene import DATASET_TYPE, INSTRUMENT
from benchmarks.shelf import REPOSITORY as SHELF
from benchmarks.shelf import RUN as SHELF_RUN
from benchmarks.shelf import Shelf
from benchmarks.sky import PLAIN, REPOSITORY, RUN
from benchmarks.timing import in_turns, read_through, timed

MIB = 1024 * 1024
PAGE_BYTES = 4096
WITHOUT_PASSTHROUGH = ("--no-passthrough",)


def _our_mount(bench: Bench, options: tuple[str, ...] = ()) -> PantryMount:
    return PantryMount(bench.sky.daemon, bench.mount_point("ours"), bench.directory / "mount.log", options)


def _our_image(mount_point: Path) -> Path:
    below = mount_point / REPOSITORY / RUN / DATASET_TYPE / INSTRUMENT / str(PLAIN[0])
    return below / f"{DATASET_TYPE}_{INSTRUMENT}_{PLAIN[0]}_{PLAIN[1]}.fits"


class _Side(NamedTuple):
    """One of the mounts that read the same object."""

    empty: Callable[[], object]
    """Empty its cache."""
    start: Callable[[], Mount]
    image: Callable[[Path], Path]
    """Where the object is, below the mount point."""
    cached: Callable[[], Path]
    """Its file in the cache, when it was read."""


class _Rates(NamedTuple):
    cold: float
    first: float
    second: float


def sequential(bench: Bench) -> list[Row]:
    """Read a large file through each mount: cold, and from its cache."""
    sky = bench.sky
    size = sky.size_bytes[PLAIN]
    key = sky.object_keys[PLAIN]

    def emptied(cache: str) -> Callable[[], object]:
        return lambda: shutil.rmtree(bench.directory / cache, ignore_errors=True)

    def peer_image(mount_point: Path) -> Path:
        return mount_point / key

    def our_file() -> Path:
        return Path(sky.read()["path"])

    sides = {
        "ours": _Side(sky.evict, lambda: _our_mount(bench, WITHOUT_PASSTHROUGH), _our_image, our_file),
        "passthrough": _Side(sky.evict, lambda: _our_mount(bench), _our_image, our_file),
        "rclone mount": _Side(
            emptied("rclone-sky"),
            lambda: bench.mount_rclone("sky"),
            peer_image,
            lambda: bench.directory / "rclone-sky" / "vfs" / "bench" / BUCKET / key,
        ),
        "s3fs": _Side(
            emptied("s3fs-sky"),
            lambda: bench.mount_s3fs("sky"),
            peer_image,
            lambda: bench.directory / "s3fs-sky" / BUCKET / key,
        ),
    }

    def rate(path: Path) -> float:
        begun = time.perf_counter()
        assert read_through(path) == size
        return size / (time.perf_counter() - begun) / MIB

    def one_round(side: _Side) -> _Rates:
        """Read cold, then from the local cache through a new mount, then once more."""
        side.empty()
        with mounted(side.start) as mount:
            cold = rate(side.image(mount.mount_point))
        os.sync()
        read_through(side.cached())  # the caches' files are in the page cache
        with mounted(side.start) as mount:
            return _Rates(cold, rate(side.image(mount.mount_point)), rate(side.image(mount.mount_point)))

    rounds: dict[str, list[_Rates]] = {name: [] for name in sides}
    for number in range(bench.sizes.few_rounds):
        for name in list(sides) if number % 2 == 0 else list(sides)[::-1]:
            rounds[name].append(one_round(sides[name]))

    def column(name: str, place: int) -> Series:
        return series([rates[place] for rates in rounds[name]])

    compared = f"a file of {size / MIB:.0f} MiB read from begin to end in 1 MiB steps through our mount and through"
    return [
        make_row(
            f"sequential read {said}, {what}, against {peer}",
            ours=column(ours, place),
            peer=column(peer, place),
            unit="MiB/s",
            goal=">= 2" if (ours, what) == ("ours", "first") else "",
            compared=f"{compared} {peer} with its cache of whole files, each freshly mounted; {how}",
        )
        for place, what, how in (
            (1, "first", "file complete in the local cache, whose pages are warm; first read through the mount"),
            (2, "second", "as the first, read once more through the same mount"),
            (0, "cold", "file in S3 only"),
        )
        for ours, said in (("ours", "without passthrough"), ("passthrough", "with passthrough"))
        for peer in ("rclone mount", "s3fs")
    ]


def fio(bench: Bench) -> list[Row]:
    """Read a warm file by fio through the mount, and the cached file itself."""
    sky = bench.sky
    native = Path(sky.read()["path"])
    rows = []
    for options, said, goals in (
        ((), "with passthrough", (">= 0.9", ">= 0.95")),
        (WITHOUT_PASSTHROUGH, "without passthrough", ("", "")),
    ):
        with mounted(lambda options=options: _our_mount(bench, options)) as mount:
            ours = _our_image(mount.mount_point)
            for path in (native, ours):
                read_through(path)  # the pages are warm
            for pattern, block_bytes, what, goal in (
                ("randread", PAGE_BYTES, "random 4 KiB", goals[0]),
                ("read", MIB, "sequential 1 MiB", goals[1]),
            ):

                def rate(path: Path, pattern: str = pattern, block_bytes: int = block_bytes) -> float:
                    return read_rate(path, pattern=pattern, block_bytes=block_bytes, seconds=bench.sizes.fio_s)

                found = in_turns(
                    bench.sizes.rounds,
                    {"ours": lambda ours=ours, rate=rate: rate(ours), "peer": lambda rate=rate: rate(native)},
                )
                rows.append(
                    make_row(
                        f"fio, {what} {said}",
                        ours=found["ours"],
                        peer=found["peer"],
                        unit="reads/s",
                        goal=goal,
                        compared=f"fio --ioengine=psync --invalidate=0 --rw={pattern} on a warm file of "
                        f"{sky.size_bytes[PLAIN] / MIB:.0f} MiB through our mount, against the cached file itself",
                    )
                )
    return rows


def opens(bench: Bench) -> list[Row]:
    """Open, read 4 KiB of and close many small files that are in the caches."""
    shelf = bench.shelf

    def start() -> PantryMount:
        return PantryMount(shelf.daemon, bench.mount_point("opens"), bench.directory / "mount.log")

    def below(mount: Mount) -> list[Path]:
        # The keys in the bucket and the paths in our mount are the same.
        return [mount.mount_point / SHELF / SHELF_RUN / Shelf.place_of(key) for key in shelf.keys]

    def read_all(paths: list[Path]) -> None:
        for path in paths:
            fd = os.open(path, os.O_RDONLY)
            assert os.read(fd, PAGE_BYTES)
            os.close(fd)

    sides: dict[str, Callable[[], float]] = {}
    native = shelf.cached()
    with (
        mounted(start) as ours,
        mounted(lambda: bench.mount_rclone("shelf")) as rclone,
        mounted(lambda: bench.mount_s3fs("shelf")) as s3fs,
    ):
        for name, paths in (
            ("ours", below(ours)),
            ("native", native),
            ("rclone mount", below(rclone)),
            ("s3fs", below(s3fs)),
        ):
            read_all(paths)  # fills the caches
            sides[name] = lambda paths=paths: len(paths) / timed(lambda: read_all(paths))
        found = in_turns(bench.sizes.rounds, sides)
    return [
        make_row(
            f"opens of small files, against {peer}",
            ours=found["ours"],
            peer=found[peer],
            unit="opens/s",
            goal="",
            compared=f"{len(native):,} files of a few hundred bytes, all in the cache and read before, opened, read "
            f"and closed one after the other by one program: through our mount, against {peer}",
        )
        for peer in ("native", "rclone mount", "s3fs")
    ]


MEASUREMENTS = (
    Measurement("mount-sequential", "sequential reads through the mount", sequential),
    Measurement("mount-fio", "fio through the mount", fio),
    Measurement("mount-opens", "opens through the mount", opens),
)
