"""The objects of each format, which both sides put and get, and the bare calls of the formats' libraries."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from benchmarks import scene


class Format(NamedTuple):
    """What is measured of one format.

    Attributes
    ----------
    storage_class : str
        Ours; the peer's has the same name.
    make : callable
        Gives the object for a size factor between 0 and 1.
    write, read : callable
        The bare calls of the library: to a path, and from one.
    part : dict
        Read parameters of a part, empty if there is none.
    read_part : callable or None
        The bare call for the same part.
    with_peer : bool
        Whether the Gen3 Butler has it.
    """

    storage_class: str
    make: Callable[[float], Any]
    write: Callable[[Any, str], object]
    read: Callable[[str], Any]
    part: dict[str, Any] = {}
    read_part: Callable[[str], Any] | None = None
    with_peer: bool = False


def _table(rows: int) -> Any:
    from astropy.table import Table

    random = np.random.default_rng(1)
    found = Table({f"c{number}": random.random(rows) for number in range(8)})
    found["id"] = np.arange(rows)
    found["c0"].unit = "nJy"
    return found


def _arrow(size: float) -> Any:
    import pyarrow as pa

    table = _table(round(1_000_000 * size))
    return pa.table({name: np.asarray(table[name]) for name in table.colnames})


def _image(size: float) -> Any:
    from astropy.nddata import CCDData

    side = round(4096 * size**0.5)
    return CCDData(np.random.default_rng(2).normal(1000, 5, (side, side)).astype("f4"), unit="adu")


def _read_image(path: str) -> Any:
    from astropy.nddata import CCDData

    return CCDData.read(path, format="fits", memmap=False)


def _read_box(path: str) -> Any:
    from astropy.io import fits

    with fits.open(path, memmap=False) as hdus:
        return hdus[0].section[10:110, 20:120]


def _read_table(kind: str) -> Callable[[str], Any]:
    def read(path: str) -> Any:
        from astropy.table import Table

        return Table.read(path, format=kind, **({"memmap": False} if kind == "fits" else {}))

    return read


def _write_parquet(table: Any, path: str) -> None:
    import pyarrow.parquet as pq

    pq.write_table(table, path, compression="zstd")


def _read_parquet(path: str) -> Any:
    import pyarrow.parquet as pq

    return pq.read_table(path)


def _read_column(path: str) -> Any:
    import pyarrow.parquet as pq

    return pq.read_table(path, columns=["c3"])


def _write_hdf5(array: Any, path: str) -> None:
    import h5py

    with h5py.File(path, "w") as file:
        file.create_dataset("data", data=array)


def _read_hdf5(path: str, rows: slice = slice(None)) -> Any:
    import h5py

    with h5py.File(path, "r") as file:
        return file["data"][rows]


def _read_json(path: str) -> Any:
    with open(path) as file:
        return json.load(file)


def _write_json(obj: Any, path: str) -> None:
    with open(path, "w") as file:
        json.dump(obj, file)


FORMATS: dict[str, Format] = {
    "fits_image": Format(
        "CCDData",
        _image,
        lambda image, path: image.write(path, format="fits", overwrite=True),
        _read_image,
        {"bbox": (20, 10, 120, 110)},
        _read_box,
    ),
    "fits_table": Format(
        "FitsTable",
        lambda size: _table(round(1_000_000 * size)),
        lambda table, path: table.write(path, format="fits", overwrite=True),
        _read_table("fits"),
        {"rows": (1000, 1100)},
    ),
    "parquet": Format(
        "ArrowTable", _arrow, _write_parquet, _read_parquet, {"columns": ["c3"]}, _read_column, with_peer=True
    ),
    "hdf5": Format(
        "NumpyArray",
        lambda size: np.random.default_rng(3).random((round(1_000_000 * size), 8)),
        _write_hdf5,
        _read_hdf5,
        {"rows": (1000, 1100)},
        lambda path: _read_hdf5(path, slice(1000, 1100)),
    ),
    "ecsv": Format(
        "AstropyTable",
        lambda size: _table(round(20_000 * size)),
        lambda table, path: table.write(path, format="ascii.ecsv", overwrite=True),
        _read_table("ascii.ecsv"),
        with_peer=True,
    ),
    "votable": Format(
        "VOTable",
        lambda size: _table(round(20_000 * size)),
        lambda table, path: table.write(path, format="votable", tabledata_format="binary2", overwrite=True),
        _read_table("votable"),
    ),
    "json": Format(
        "StructuredDataDict",
        lambda size: {f"key{number}": number * 0.1 for number in range(round(100_000 * size))},
        _write_json,
        _read_json,
        with_peer=True,
    ),
}


def put_object(butler: Any, name: str, run: str, size: float) -> float:
    """Put the object of a format into a run, and return the seconds that it took; making it is not timed."""
    obj = FORMATS[name].make(size)
    begun = time.perf_counter()
    butler.put(obj, f"format_{name}", scene.data_id((0, 0)), run=run)
    return time.perf_counter() - begun


def get_object(butler: Any, name: str, run: str, part: bool) -> float:
    """Get it back, or a part of it."""
    parameters = {key: tuple(value) if key != "columns" else value for key, value in FORMATS[name].part.items()}
    begun = time.perf_counter()
    found = butler.get(
        f"format_{name}", scene.data_id((0, 0)), collections=run, parameters=parameters if part else None
    )
    assert found is not None
    return time.perf_counter() - begun


def bare(name: str, action: str, path: str, size: float) -> float:
    """Do the same by the library alone: ``put`` to a path, ``get`` or ``part`` from it."""
    chosen = FORMATS[name]
    if action == "put":
        obj = chosen.make(size)
        begun = time.perf_counter()
        chosen.write(obj, path)
    else:
        read = chosen.read if action == "get" else chosen.read_part
        assert read is not None
        begun = time.perf_counter()
        assert read(path) is not None
    return time.perf_counter() - begun
