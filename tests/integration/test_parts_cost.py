"""What a part of a cold file costs: about the bytes of that part, for every format that can be read in parts."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from astropy.io import fits
from astropy.wcs import WCS
from tests.fault.proxy import FaultProxy
from tests.integration.observatory import INSTRUMENT, furnish
from tests.servers.pantryd import PantryDaemon
from tests.servers.seaweedfs import SeaweedServer

from pantry.client import Butler
from pantry.wire.operations import EvictObjects, GetCacheStatus

WHERE = {"instrument": INSTRUMENT, "exposure": 1, "detector": 0}
COLUMNS = 50
MB = 1_000_000


class Larder:
    """A repository in S3, read through a daemon with the usual chunks, and a proxy that counts."""

    def __init__(self, butler: Butler, proxy: FaultProxy, directory: Path) -> None:
        self.butler = butler
        self.proxy = proxy
        self.directory = directory
        self.size_bytes = 0
        self._before = 0

    def store(self, name: str, storage_class: str) -> Path:
        """Register a type, and give the path of a file that `stored` then ingests."""
        self.butler.register_dataset_type(name, ["instrument", "exposure", "detector"], storage_class)
        return self.directory / name

    def stored(self, path: Path) -> None:
        self.size_bytes = path.stat().st_size
        self.butler.ingest(path.name, [(str(path), WHERE)], run="u/parts", transfer="copy")
        self.butler.connection.call(EvictObjects(everything=True))
        self.proxy.clear()
        self._before = self.butler.connection.call(GetCacheStatus()).fetched_bytes

    def get(self, name: str, **parameters: Any) -> Any:
        return self.butler.get(name, WHERE, collections="u/parts", parameters=parameters)

    def cost(self) -> float:
        """The share of the file that came since `stored`."""
        came = self.butler.connection.call(GetCacheStatus()).fetched_bytes - self._before
        on_the_way = self.proxy.bytes_answered()
        assert came <= on_the_way <= came + 10_000, "the daemon does not count what comes"
        print(f"{came} of {self.size_bytes} bytes in {self.proxy.count('GET')} requests")
        return came / self.size_bytes


@pytest.fixture
def larder(
    make_daemon: Callable[..., PantryDaemon],
    seaweed: SeaweedServer,
    storage_config: dict[str, Any],
    s3_root: str,
    tmp_path: Path,
) -> Iterator[Larder]:
    with FaultProxy(("127.0.0.1", seaweed.port)) as proxy:
        storage_config["storage"][0]["options"]["endpoint_url"] = proxy.endpoint_url
        daemon = make_daemon(storage_config)
        with Butler.create("larder", s3_root, socket=daemon.socket) as butler:
            furnish(butler, n_exposures=1, n_detectors=1)
            yield Larder(butler, proxy, tmp_path)
    for path in tmp_path.iterdir():
        path.unlink()


@pytest.mark.parametrize("side", [7200, pytest.param(14_500, marks=pytest.mark.soak)])
def test_one_percent_of_a_tile_compressed_image_costs_three(larder: Larder, side: int) -> None:
    pixels = np.random.default_rng(1).normal(1000, 30, (side, side)).astype(np.int16)
    path = larder.store("image", "CCDData")
    fits.CompImageHDU(pixels, compression_type="RICE_1", tile_shape=(128, 128)).writeto(path)
    larder.stored(path)
    # Not along the tiles.
    x0, y0, length = side // 3, side // 2, side // 10
    part = larder.get("image", bbox=(x0, y0, x0 + length, y0 + length))
    assert np.array_equal(part.data, pixels[y0 : y0 + length, x0 : x0 + length])
    assert larder.cost() <= 0.03


@pytest.mark.parametrize("rows", [300_000, pytest.param(1_200_000, marks=pytest.mark.soak)])
def test_one_column_of_fifty_costs_four_percent(larder: Larder, rows: int) -> None:
    random = np.random.default_rng(2)
    path = larder.store("table", "ArrowTable")
    columns = {f"c{number:02d}": random.random(rows, dtype=np.float32) for number in range(COLUMNS)}
    pq.write_table(pa.table(columns), path, row_group_size=1 << 17, compression="zstd")
    larder.stored(path)
    assert np.array_equal(larder.get("table", columns=["c17"])["c17"].to_numpy(), columns["c17"])
    assert larder.cost() <= 0.04


@pytest.mark.parametrize("rows", [200_000, pytest.param(1_000_000, marks=pytest.mark.soak)])
def test_one_dataset_of_an_hdf5_file_costs_about_its_bytes(larder: Larder, rows: int) -> None:
    random = np.random.default_rng(3)
    path = larder.store("arrays", "HDF5")
    columns = {f"d{number:02d}": random.random(rows) for number in range(COLUMNS)}
    with h5py.File(path, "w") as file:
        for name, values in columns.items():
            file.create_dataset(f"group/{name}", data=values)
    larder.stored(path)
    assert np.array_equal(larder.get("arrays", path="group/d31"), columns["d31"])
    assert larder.cost() <= 1.5 / COLUMNS


@pytest.mark.parametrize("side", [1000, pytest.param(2000, marks=pytest.mark.soak)])
def test_one_hdu_costs_about_its_bytes(larder: Larder, side: int) -> None:
    random = np.random.default_rng(4)
    count = 16
    amplifiers = [random.integers(0, 30_000, (side, side), dtype=np.int16) for _ in range(count)]
    path = larder.store("raw", "FitsHDUList")
    hdus = [fits.ImageHDU(pixels, name=f"AMP{number}") for number, pixels in enumerate(amplifiers)]
    fits.HDUList([fits.PrimaryHDU(), *hdus]).writeto(path)
    larder.stored(path)
    found = larder.butler.get("raw.hdu.AMP9", WHERE, collections="u/parts")
    assert np.array_equal(found.data, amplifiers[9])
    # Its own bytes, and the headers before it, each in a chunk of its own.
    assert larder.cost() <= 1.5 / count


def test_the_header_of_a_large_image_costs_next_to_nothing(larder: Larder) -> None:
    path = larder.store("image", "CCDData")
    fits.PrimaryHDU(np.zeros((4000, 4000), np.float32), fits.Header([("OBJECT", "M 31")])).writeto(path)
    larder.stored(path)
    assert larder.butler.get("image.header", WHERE, collections="u/parts")["OBJECT"] == "M 31"
    assert larder.cost() <= 0.01


@pytest.mark.req("DMS-MWBT-REQ-0033")
def test_a_circle_on_the_sky_costs_about_its_pixels(larder: Larder) -> None:
    side = 2048
    wcs = WCS(naxis=2)
    wcs.wcs.ctype, wcs.wcs.crval = ["RA---TAN", "DEC--TAN"], [10.0, -30.0]
    wcs.wcs.crpix, wcs.wcs.cdelt = [side / 2, side / 2], [-0.2 / 3600, 0.2 / 3600]
    pixels = np.random.default_rng(5).integers(0, 30_000, (side, side), dtype=np.int32)
    path = larder.store("image", "CCDData")
    fits.PrimaryHDU(pixels, wcs.to_header()).writeto(path)
    larder.stored(path)
    part = larder.get("image", circle=(10.01, -30.01, 10 / 3600))  # 100 pixels across
    assert part.data.shape[0] <= 104
    x, y = (round(float(one)) for one in wcs.world_to_pixel_values(10.01, -30.01))
    assert pixels[y, x] in part.data
    assert larder.cost() <= 104 / side * 1.3


@pytest.mark.req("DMS-MWBT-REQ-0033")
def test_rows_and_an_hour_of_a_large_table_cost_about_their_row_groups(larder: Larder) -> None:
    rows, group = 1_000_000, 1 << 15
    random = np.random.default_rng(6)
    path = larder.store("table", "ArrowTable")
    columns: dict[str, Any] = {f"c{number:02d}": random.random(rows, dtype=np.float32) for number in range(10)}
    table = pa.table({"midpointMjdTai": 61_000 + np.arange(rows) / rows, **columns})
    pq.write_table(table, path, row_group_size=group, compression="zstd")
    larder.stored(path)
    scattered = [rows - 1, 5, 6]
    found = larder.get("table", rows=scattered, columns=["c03"])
    assert np.array_equal(found["c03"].to_numpy(), columns["c03"][scattered])
    assert larder.cost() <= 0.03
    hour = ("2025-11-21T12:00:00", "2025-11-21T13:00:00")  # MJD 61000.5
    found = larder.get("table", timespan=hour, time_column="midpointMjdTai", columns=["c07"])
    assert np.array_equal(found["c07"].to_numpy(), columns["c07"][rows // 2 : rows // 2 + -(-rows // 24)])
    # The column of times, and of another one three row groups.
    assert larder.cost() <= 0.03 + 1.3 * 8 / 48


def test_handles_read_what_is_asked_of_them_when_it_is(larder: Larder) -> None:
    path = larder.store("raw", "FitsHDUList")
    amplifiers = [np.full((1000, 1000), number, np.int16) for number in range(16)]
    hdus = [fits.ImageHDU(pixels, name=f"AMP{number}") for number, pixels in enumerate(amplifiers)]
    fits.HDUList([fits.PrimaryHDU(None, fits.Header([("OBJECT", "M 5")])), *hdus]).writeto(path)
    larder.stored(path)
    handle = larder.butler.get_deferred("raw", WHERE, collections="u/parts")
    assert handle.dataId == handle.ref.data_id
    assert larder.cost() == 0
    assert handle.get(component="header")["OBJECT"] == "M 5"
    found = handle.get(parameters={"hdus": ["AMP3", "AMP12"]})
    assert [hdu.data[0, 0] for hdu in found] == [3, 12]
    assert larder.cost() <= 3.5 / 16
