"""The data that both sides get: an instrument with detectors and exposures, small JSON files. Standard library only."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

INSTRUMENT = "BenchCam"
PHYSICAL_FILTER = "r_1"
BAND = "r"
DAY_OBS = 20250101
DATASET_TYPE = "bench"
DIMENSIONS = ("instrument", "detector", "exposure")
DETECTORS = 100

Key = tuple[int, int]
"""Exposure and detector."""


def keys(count: int, *, first_exposure: int = 0) -> list[Key]:
    """Give ``count`` data ids, all detectors of one exposure before the next exposure."""
    return [(first_exposure + number // DETECTORS, number % DETECTORS) for number in range(count)]


def data_id(key: Key) -> dict[str, int | str]:
    """Write a key as a data id."""
    return {"instrument": INSTRUMENT, "exposure": key[0], "detector": key[1]}


def content(key: Key, run: str) -> dict[str, object]:
    """Give a small JSON document, about 300 bytes, like a task's metadata; no two are equal."""
    return {
        "run": run,
        "exposure": key[0],
        "detector": key[1],
        "seeing_arcsec": 0.7 + key[1] / 1000,
        "background": [float(number) for number in range(20)],
        "flags": {"saturated": False, "good": True},
        "task": "characterizeImage",
    }


def file_name(key: Key) -> str:
    """Name of a key's file, in a directory of its exposure."""
    return f"{DATASET_TYPE}_{INSTRUMENT}_{key[0]}_{key[1]}.json"


def write_files(directory: Path, wanted: list[Key]) -> Iterator[tuple[str, Key]]:
    """Write a file for each key; gives path and key."""
    for key in wanted:
        below = directory / DATASET_TYPE / INSTRUMENT / str(key[0])
        if key[1] == 0 or not below.exists():
            below.mkdir(parents=True, exist_ok=True)
        path = below / file_name(key)
        path.write_text(json.dumps(content(key, directory.name)))
        yield str(path), key
