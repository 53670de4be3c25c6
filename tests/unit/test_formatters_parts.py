"""Parts of images and tables: by the sky, by rows, by time, in combination; and components."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from astropy import units as u
from astropy.coordinates import SkyCoord
from astropy.io import fits
from astropy.nddata import CCDData, StdDevUncertainty
from astropy.table import Table
from astropy.time import Time
from astropy.wcs import WCS

from pantry.client.formatters import convert
from pantry.errors import FormatterError

from .formatters_support import read, read_counting, write

TABLES = ["csv", "ecsv", "fits_table", "hdf5", "parquet", "votable"]
WIDTH, HEIGHT = 300, 200
SCALE_DEG = 0.01


def sky(ra: float = 359.9, dec: float = 60.0, angle: float = 30.0) -> WCS:
    wcs = WCS(naxis=2)
    wcs.wcs.ctype = ["RA---TAN", "DEC--TAN"]
    wcs.wcs.crval = [ra, dec]
    wcs.wcs.crpix = [WIDTH / 2, HEIGHT / 2]
    turn = np.radians(angle)
    wcs.wcs.cd = SCALE_DEG * np.array([[-np.cos(turn), np.sin(turn)], [np.sin(turn), np.cos(turn)]])
    return wcs


@pytest.fixture
def image(tmp_path: Path) -> tuple[Path, CCDData]:
    pixels = np.arange(WIDTH * HEIGHT, dtype="f4").reshape(HEIGHT, WIDTH)
    ccd = CCDData(
        pixels,
        unit="adu",
        wcs=sky(),
        mask=pixels % 5 == 0,
        uncertainty=StdDevUncertainty(pixels + 1),
        psf=np.ones((3, 3)),
        meta=fits.Header({"OBJECT": "M 5"}),
    )
    write("fits_image", ccd, tmp_path / "image.fits")
    return tmp_path / "image.fits", ccd


def inside(wcs: WCS, region: Any) -> np.ndarray[Any, Any]:
    """Tell for every pixel whether its middle is in a region, the slow way."""
    y, x = np.mgrid[:HEIGHT, :WIDTH]
    return region(wcs.pixel_to_world(x, y).icrs)


@pytest.mark.parametrize("radius", [0.05, 0.3, 2.0])
@pytest.mark.parametrize(("ra", "dec"), [(359.9, 60.0), (0.3, 60.4), (1.9, 59.5)])
def test_a_circle_has_all_its_pixels_and_no_more_rows_than_needed(
    image: tuple[Path, CCDData], ra: float, dec: float, radius: float
) -> None:
    path, ccd = image
    middle = SkyCoord(ra, dec, unit="deg")
    wanted = inside(ccd.wcs, lambda sky: sky.separation(middle).deg <= radius)
    if not wanted.any():
        pytest.fail("the test has no pixel in the circle")
    found = read("fits_image", path, circle=(ra, dec, radius))
    rows, columns = np.flatnonzero(wanted.any(axis=1)), np.flatnonzero(wanted.any(axis=0))
    box = ccd.data[max(rows[0] - 1, 0) : rows[-1] + 2, max(columns[0] - 1, 0) : columns[-1] + 2]
    assert set(ccd.data[wanted]) <= set(found.data.ravel()) <= set(box.ravel())
    assert found.wcs.world_to_pixel(middle) == pytest.approx(
        np.array(ccd.wcs.world_to_pixel(middle)) - (found.data[0, 0] % WIDTH, found.data[0, 0] // WIDTH), abs=1e-6
    )
    again = read("fits_image", path, circle=(ra * u.deg, dec * u.deg, radius * 60 * u.arcmin))
    np.testing.assert_array_equal(again.data, found.data)


def test_a_box_on_the_sky_across_zero_right_ascension(image: tuple[Path, CCDData]) -> None:
    path, ccd = image
    wanted = inside(ccd.wcs, lambda s: (((s.ra.deg - 359.8) % 360) <= 0.4) & (s.dec.deg >= 59.9) & (s.dec.deg <= 60.1))
    found = read("fits_image", path, sky_box=(359.8, 0.2, 59.9, 60.1))
    assert set(ccd.data[wanted]) <= set(found.data.ravel())
    assert found.data.size < 6 * wanted.sum()
    # With a box of pixels beside it: what both have.
    both = read("fits_image", path, sky_box=(359.8, 0.2, 59.9, 60.1), bbox=(150, 0, WIDTH, HEIGHT))
    np.testing.assert_array_equal(both.data, found.data[:, found.data[0] % WIDTH >= 150])


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"circle": (100, -20, 0.1)}, "no pixel of it is in this circle"),
        ({"circle": (179.9, -60, 1)}, "no pixel of it is in this circle"),  # the far side of the sky
        ({"circle": (0, 60)}, "is not \\(ra, dec, radius\\)"),
        ({"circle": "abc"}, "is not \\(ra, dec, radius\\)"),
        ({"circle": (0, 60, -1)}, "the radius between 0 and 90"),
        ({"circle": (0 * u.m, 60, 1)}, "is not \\(ra, dec, radius\\)"),
        ({"sky_box": (0, 1, 61, 60)}, "dec_min is less than dec_max"),
        ({"circle": (0, 60, 1), "sky_box": (0, 1, 60, 61)}, "give one of them"),
        ({"circle": (359.9, 60.0, 0.05), "bbox": (0, 0, 5, 5)}, "no pixel in common"),
    ],
)
def test_parts_of_the_sky_that_are_not_there(
    image: tuple[Path, CCDData], parameters: dict[str, Any], message: str
) -> None:
    with pytest.raises(FormatterError, match=message):
        read("fits_image", image[0], **parameters)


def test_all_of_an_image_that_lies_within_half_of_the_sky(image: tuple[Path, CCDData]) -> None:
    assert read("fits_image", image[0], circle=(320, 40, 80)).data.shape == (HEIGHT, WIDTH)
    assert read("fits_image", image[0], sky_box=(0, 360, -90, 90)).data.shape == (HEIGHT, WIDTH)


def test_an_image_without_a_wcs_has_no_circle(tmp_path: Path) -> None:
    write("fits_image", np.zeros((5, 5)), tmp_path / "x")
    with pytest.raises(FormatterError, match="no celestial WCS"):
        read("fits_image", tmp_path / "x", circle=(0, 0, 1))


@pytest.mark.req("DMS-MWBT-REQ-0034")
def test_components_of_one_image_file(image: tuple[Path, CCDData]) -> None:
    path, ccd = image
    bare = read("fits_image", path, "image", bbox=(3, 4, 9, 9))
    np.testing.assert_array_equal(bare.data, ccd.data[4:9, 3:9])
    assert (bare.mask, bare.uncertainty, bare.unit) == (None, None, u.adu)
    np.testing.assert_array_equal(read("fits_image", path, "variance", bbox=(3, 4, 9, 9)), (bare.data + 1) ** 2)
    assert read("fits_image", path, "mask", circle=(359.9, 60, 0.1)).dtype == bool
    assert read("fits_image", path, "metadata")["OBJECT"] == "M 5"
    assert read("fits_image", path, "hdu.UNCERT").data.shape == (HEIGHT, WIDTH)
    np.testing.assert_array_equal(read("fits_image", path, "psf"), np.ones((3, 3)))
    _, cost = read_counting("fits_image", path, "psf")
    assert cost < 0.3 * path.stat().st_size


def test_an_image_of_the_lsst_pipelines(tmp_path: Path) -> None:
    pixels = np.arange(12.0).reshape(3, 4)
    planes = [fits.ImageHDU(pixels + i, name=name) for i, name in enumerate(["IMAGE", "VARIANCE"])]
    mask = fits.ImageHDU((pixels * 1000).astype("i4"), name="MASK")
    fits.HDUList([fits.PrimaryHDU(), *planes, mask]).writeto(tmp_path / "x")
    found = read("fits_image", tmp_path / "x", bbox=(1, 1, 3, 3))
    bits = read("fits_image", tmp_path / "x", "mask", bbox=(1, 1, 3, 3))
    np.testing.assert_array_equal(bits, pixels[1:3, 1:3] * 1000)  # a CCDData has only yes or no
    np.testing.assert_array_equal(found.uncertainty.array, pixels[1:3, 1:3] + 1)
    np.testing.assert_array_equal(read("fits_image", tmp_path / "x", "variance"), pixels + 1)


def test_some_hdus(image: tuple[Path, CCDData]) -> None:
    found = read("fits_hdus", image[0], hdus=["MASK", 0])
    assert [hdu.name for hdu in found] == ["MASK", "PRIMARY"]
    assert found[1].data.shape == (HEIGHT, WIDTH)
    _, cost = read_counting("fits_hdus", image[0], hdus=["PSFIMAGE"])
    assert cost < 0.3 * image[0].stat().st_size
    with pytest.raises(FormatterError, match="no HDU 'nope'"):
        read("fits_hdus", image[0], hdus=["nope"])


DAYS = np.array([3.0, 1.0, 4.0, 1.5, 9.0, 2.0, 6.0])


def table(name: str) -> Table:
    found = Table({"id": np.arange(7), "flux": np.arange(7) * 1.5, "mjdTai": 61_000 + DAYS, "word": list("abcdefg")})
    if name != "csv":
        found["flux"].unit = u.nJy
        found["when"] = Time(61_000 + DAYS, format="mjd", scale="tai")
        found["pair"] = np.arange(14.0).reshape(7, 2)
    return found


def ids(name: str, file: Path, **parameters: Any) -> list[int]:
    found = convert(read(name, file, **parameters), "astropy.table.Table")
    columns = parameters.get("columns")
    assert columns is None or found.colnames == columns
    return [int(one) for one in found["id"]]


SPAN = (Time(61_001.5, format="mjd", scale="tai"), Time(61_004.0, format="mjd", scale="tai"))


@pytest.mark.req("DMS-MWBT-REQ-0033")
@pytest.mark.parametrize("name", TABLES)
def test_rows_and_times(name: str, tmp_path: Path) -> None:
    path = tmp_path / "x"
    write(name, table(name), path)
    assert ids(name, path, rows=[5, 0, 5, 2]) == [5, 0, 5, 2]
    assert ids(name, path, rows=np.array([6])) == [6]
    assert ids(name, path, rows=[]) == []
    assert ids(name, path, rows=slice(None, None, -2)) == [6, 4, 2, 0]
    assert ids(name, path, rows=(1, 3), columns=["id", "word"]) == [1, 2]
    # The begin is in it, the end is not; the scale by the name of the column.
    by_number = {"timespan": SPAN, "time_column": "mjdTai"}
    assert ids(name, path, **by_number) == [0, 3, 5]
    assert ids(name, path, **by_number, rows=[5, 4, 0]) == [5, 0]
    assert ids(name, path, **by_number, rows=(1, 5), columns=["id"]) == [3]
    assert ids(name, path, timespan=(None, SPAN[0]), time_column="mjdTai") == [1]
    if name != "csv":  # the only column of times
        assert ids(name, path, timespan=SPAN) == [0, 3, 5]
    for bad, message in (
        ({"rows": [7]}, "has 7 rows"),
        ({"rows": [0.5]}, "not rows of a table"),
        ({"timespan": SPAN, "time_column": "nope"}, "no column 'nope'"),
        ({"timespan": SPAN, "time_column": "word"}, "scale of the times"),
        ({"timespan": 5, "time_column": "mjdTai"}, "not a timespan"),
        ({"time_column": "mjdTai"}, "time_column without timespan"),
        ({"nope": 1}, "unknown read parameters nope"),
    ):
        with pytest.raises(FormatterError, match=message) as caught:
            read(name, path, **bad)
        assert caught.value.hint or "rows" in bad
    assert read(name, path, "rowcount") == 7
    assert read(name, path, "columns") == table(name).colnames
    schema = read(name, path, "schema")
    assert isinstance(schema, pa.Schema)
    assert {"id", "flux", "word"} <= set(schema.names)
    if name != "csv":
        assert schema.field("flux").metadata[b"unit"] == b"nJy"


def test_timestamps_of_arrow_and_pandas(tmp_path: Path) -> None:
    frame = pd.DataFrame({"id": range(7), "t": pd.to_datetime(DAYS * 86400e9).astype("datetime64[us]")})
    write("parquet", frame, tmp_path / "x")
    span = ("1970-01-02T12:00:00", "1970-01-05")
    with pytest.raises(FormatterError, match="scale of the times in 't'") as caught:
        read("parquet", tmp_path / "x", timespan=span)
    assert "time_scale='tai'" in caught.value.hint
    assert ids("parquet", tmp_path / "x", timespan=span, time_scale="tai") == [0, 3, 5]


def test_rows_of_an_array_and_of_scattered_groups(tmp_path: Path) -> None:
    values = np.arange(4_000_000.0).reshape(-1, 4)
    write("hdf5", {"cube": values, "t": table("hdf5")}, tmp_path / "x")
    found, cost = read_counting("hdf5", tmp_path / "x", path="cube", rows=[999_999, 3, 500_000])
    np.testing.assert_array_equal(found, values[[999_999, 3, 500_000]])
    assert cost < 0.05 * values.nbytes
    assert ids("hdf5", tmp_path / "x", path="t", timespan=SPAN) == [0, 3, 5]
    with pytest.raises(FormatterError, match="timespan need one dataset"):
        read("hdf5", tmp_path / "x", timespan=SPAN)
    with pytest.raises(FormatterError, match="only tables have a timespan"):
        read("hdf5", tmp_path / "x", path="cube", timespan=SPAN)
    big = pa.table({f"c{i}": np.arange(1_000_000) + i for i in range(8)})
    write("parquet", big, tmp_path / "p")
    part, cost = read_counting("parquet", tmp_path / "p", columns=["c3"], rows=[900_000, 5])
    assert part["c3"].to_pylist() == [900_003, 8]
    assert cost < 0.06 * (tmp_path / "p").stat().st_size
    write("fits_table", convert(big, "astropy.table.Table"), tmp_path / "f")
    part, cost = read_counting("fits_table", tmp_path / "f", rows=[900_000, 5, 6])
    assert part["c3"].tolist() == [900_003, 8, 9]
    assert cost < 0.01 * (tmp_path / "f").stat().st_size
