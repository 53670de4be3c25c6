from __future__ import annotations

import gc
import gzip
import io
import subprocess
import warnings
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import pytest
from astropy import units as u
from astropy.io import fits
from astropy.nddata import CCDData, StdDevUncertainty
from astropy.wcs import WCS
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from pantry.client.formatters import convert, fits_pieces, formatter_by_name
from pantry.errors import FormatterError

from .formatters_support import read, read_counting, round_trip, write


@pytest.fixture
def ccd() -> CCDData:
    wcs = WCS(naxis=2)
    wcs.wcs.ctype = ["RA---TAN", "DEC--TAN"]
    wcs.wcs.crval = [10.0, 20.0]
    wcs.wcs.crpix = [5.0, 6.0]
    wcs.wcs.cdelt = [-1e-4, 1e-4]
    pixels = np.arange(12_000, dtype=np.float32).reshape(100, 120)
    return CCDData(
        pixels,
        unit="adu",
        wcs=wcs,
        mask=pixels % 7 == 0,
        uncertainty=StdDevUncertainty(pixels + 1),
        meta={"OBJECT": "M 5"},
    )


def test_ccd_data_round_trip(ccd: CCDData, tmp_path: Path) -> None:
    found = round_trip("fits_image", ccd, tmp_path / "f.fits")
    np.testing.assert_array_equal(found.data, ccd.data)
    np.testing.assert_array_equal(found.mask, ccd.mask)
    np.testing.assert_array_equal(found.uncertainty.array, ccd.uncertainty.array)
    assert found.unit == u.adu
    assert found.meta["OBJECT"] == "M 5"
    np.testing.assert_allclose(found.wcs.wcs_pix2world([[1, 2]], 0), ccd.wcs.wcs_pix2world([[1, 2]], 0))
    with fits.open(tmp_path / "f.fits", checksum=True) as hdus:
        hdus.verify("exception")


def test_cutout_and_its_components(ccd: CCDData, tmp_path: Path) -> None:
    path = tmp_path / "f.fits"
    write("fits_image", ccd, path)
    found = read("fits_image", path, bbox=(30, 40, 35, 60))
    np.testing.assert_array_equal(found.data, ccd.data[40:60, 30:35])
    np.testing.assert_array_equal(found.mask, ccd.mask[40:60, 30:35])
    np.testing.assert_array_equal(found.uncertainty.array, ccd.uncertainty.array[40:60, 30:35])
    np.testing.assert_allclose(found.wcs.wcs_pix2world([[0, 0]], 0), ccd.wcs.wcs_pix2world([[30, 40]], 0))
    np.testing.assert_array_equal(read("fits_image", path, "mask", bbox=(0, 0, 2, 2)), ccd.mask[:2, :2])
    assert read("fits_image", path, "header")["OBJECT"] == "M 5"
    assert read("fits_image", path, "wcs").wcs.crval[0] == 10.0
    assert read("fits_image", path, "uncertainty").uncertainty_type == "std"


@pytest.mark.parametrize("dtype", ["u1", "i2", "u2", "i4", "u4", "i8", "f4", ">f8"])
def test_arrays_round_trip(dtype: str, tmp_path: Path) -> None:
    pixels = np.arange(600, dtype=dtype).reshape(20, 30) if dtype != "u1" else np.ones((20, 30), dtype)
    found = convert(round_trip("fits_image", pixels, tmp_path / "f.fits"), "numpy.ndarray")
    np.testing.assert_array_equal(found, pixels)
    cut = read("fits_image", tmp_path / "f.fits", bbox=(1, 2, 3, 5)).data
    np.testing.assert_array_equal(cut, pixels[2:5, 1:3])


def test_cutout_of_one_percent_reads_few_bytes(tmp_path: Path) -> None:
    path = tmp_path / "f.fits"
    pixels = np.arange(2000 * 2000, dtype=np.int32).reshape(2000, 2000)
    write("fits_image", pixels, path)
    found, count = read_counting("fits_image", path, bbox=(700, 900, 900, 1100))
    np.testing.assert_array_equal(found.data, pixels[900:1100, 700:900])
    assert count < 0.12 * path.stat().st_size  # buffered: rows of 8 kB, of which 800 bytes are wanted
    _, count = read_counting("fits_image", path, "wcs")
    assert count < 20_000


@pytest.mark.parametrize("bbox", [(0, 0, 0, 5), (0, 0, 31, 5), (-1, 0, 3, 3), (0, 0, 5), "abcd", (0.5, 0, 2, 2)])
def test_bad_boxes(bbox: object, tmp_path: Path) -> None:
    write("fits_image", np.zeros((20, 30)), tmp_path / "f")
    with pytest.raises(FormatterError, match="bbox"):
        read("fits_image", tmp_path / "f", bbox=bbox)


def test_hdu_by_name_and_compressed_images(tmp_path: Path) -> None:
    pixels = np.arange(6400, dtype=np.int32).reshape(80, 80)
    hdus = fits.HDUList([fits.PrimaryHDU()])
    hdus += [fits.ImageHDU(pixels + i, name=f"Segment1{i}") for i in range(3)]
    hdus.append(fits.CompImageHDU(pixels, name="COMP", compression_type="RICE_1"))
    path = tmp_path / "f"
    write("fits_hdus", hdus, path)
    np.testing.assert_array_equal(
        read("fits_image", path, hdu="Segment12", bbox=(1, 2, 4, 6)).data, pixels[2:6, 1:4] + 2
    )
    np.testing.assert_array_equal(read("fits_image", path, hdu="COMP", bbox=(1, 2, 4, 6)).data, pixels[2:6, 1:4])
    np.testing.assert_array_equal(read("fits_image", path).data, pixels)
    with pytest.raises(FormatterError, match="no HDU 'SegmentXX'") as caught:
        read("fits_image", path, hdu="SegmentXX")
    assert "1:SEGMENT10" in caught.value.hint


def test_hdu_list_outlives_its_source_and_closes_itself(ccd: CCDData, tmp_path: Path) -> None:
    found = round_trip("fits_hdus", ccd.to_hdu(), tmp_path / "f")
    (tmp_path / "f").unlink()
    np.testing.assert_array_equal(found[0].data, ccd.data)
    assert found["MASK"].header["EXTNAME"] == "MASK"
    with warnings.catch_warnings():
        warnings.simplefilter("error", ResourceWarning)
        del found
        gc.collect()


def test_hdu_components(ccd: CCDData, tmp_path: Path) -> None:
    write("fits_hdus", ccd.to_hdu(), tmp_path / "f")
    np.testing.assert_array_equal(read("fits_hdus", tmp_path / "f", "hdu.MASK").data.astype(bool), ccd.mask)
    np.testing.assert_array_equal(read("fits_hdus", tmp_path / "f", "hdu.0").data, ccd.data)
    assert read("fits_hdus", tmp_path / "f", "header")["OBJECT"] == "M 5"
    assert read("fits_hdus", tmp_path / "f", "metadata")["OBJECT"] == "M 5"
    with pytest.raises(FormatterError, match="no HDU"):
        read("fits_hdus", tmp_path / "f", "hdu.9")


@pytest.mark.filterwarnings("ignore:.*truncated.*")
@pytest.mark.parametrize("name", ["fits_image", "fits_hdus"])
def test_truncated_files_are_refused(name: str, tmp_path: Path) -> None:
    path = tmp_path / "f"
    write("fits_image", np.zeros((200, 200)), path)
    path.write_bytes(path.read_bytes()[:100_000])
    with pytest.raises(FormatterError, match=r"f is truncated|cannot be read"):
        read(name, path)


def test_refused_uncertainty(tmp_path: Path) -> None:
    from astropy.nddata import UnknownUncertainty

    image: Any = CCDData(np.zeros((3, 3)), unit="adu", uncertainty=UnknownUncertainty(np.zeros((3, 3))))
    with pytest.raises(FormatterError, match="UnknownUncertainty"):
        write("fits_image", image, tmp_path / "f")


def test_gzip_by_content(ccd: CCDData, tmp_path: Path) -> None:
    from astropy.table import Table

    path = tmp_path / "f.fits"
    write("fits_image", ccd, path)
    path.write_bytes(gzip.compress(path.read_bytes()))
    np.testing.assert_array_equal(read("fits_image", path, bbox=(3, 4, 9, 9)).data, ccd.data[4:9, 3:9])
    np.testing.assert_array_equal(read("fits_hdus", path)[0].data, ccd.data)
    write("fits_table", Table({"a": np.arange(5000)}), path)
    path.write_bytes(gzip.compress(path.read_bytes()))
    assert read("fits_table", path, rows=(3, 5))["a"].tolist() == [3, 4]
    write("fits_image", ccd, path)
    path.write_bytes(gzip.compress(path.read_bytes())[:9000])
    with pytest.raises(FormatterError, match="cannot be read"):
        read("fits_image", path)


def test_a_read_image_written_again_is_standard(ccd: CCDData, tmp_path: Path) -> None:
    path = tmp_path / "f.fits"
    ccd.meta.update({"CD1_1": -1e-4, "CD1_2": 0.0, "CD2_1": 0.0, "CD2_2": 1e-4, "PC1_2": 0.5})
    write("fits_image", ccd, path)
    write("fits_image", read("fits_image", path, bbox=(5, 5, 50, 60)), path)
    np.testing.assert_allclose(read("fits_image", path, "wcs").wcs.get_pc(), ccd.wcs.wcs.get_pc(), atol=1e-12)
    done = subprocess.run(["fitsverify", "-q", path], capture_output=True, text=True, check=False)
    assert done.stdout.startswith("verification OK")


@given(
    hnp.arrays(
        st.sampled_from(
            ["u1", "i1", "<i2", "<u2", ">i2", ">u2", "<i4", "<u4", ">u4", "<i8", "<u8", ">u8", "<f4", ">f4", "<f8"]
        ),
        hnp.array_shapes(min_dims=1, max_dims=3, max_side=40),
    ),
    st.sampled_from(["as it is", "transposed", "every other"]),
)
def test_pixels_in_pieces_are_what_astropy_writes(pixels: Any, layout: str) -> None:
    """Of any type and layout, over the ends of pieces; checksums too, which astropy checks as it opens."""
    pixels = {"as it is": pixels, "transposed": pixels.T, "every other": pixels[::2]}[layout]
    hdus = [fits.PrimaryHDU(pixels, fits.Header([("A", 1)])), fits.ImageHDU(pixels, name="MASK")]
    ours, theirs = io.BytesIO(), io.BytesIO()
    with mock.patch.object(fits_pieces, "_PIECE_BYTES", 96):
        fits_pieces.write_images(fits.HDUList(hdus), ours)
    fits.HDUList([hdu.copy() for hdu in hdus]).writeto(theirs, checksum=True)
    assert len(ours.getvalue()) == len(theirs.getvalue())
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with fits.open(io.BytesIO(ours.getvalue()), checksum=True) as found:
            found.verify("exception")
            for hdu in found:
                np.testing.assert_array_equal(hdu.data, pixels)
                assert hdu.header["CHECKSUM"].isalnum()
    with fits.open(io.BytesIO(ours.getvalue())) as found, fits.open(io.BytesIO(theirs.getvalue())) as expected:
        for hdu, other in zip(found, expected, strict=True):
            assert {**hdu.header, "CHECKSUM": ""} == {**other.header, "CHECKSUM": ""}


def test_nobody_sees_pixels_turned_round_while_they_are_written() -> None:
    pixels = np.arange(12, dtype="f4").reshape(3, 4)
    seen: list[bool] = []

    class Watching(io.BytesIO):
        def write(self, content: Any, /) -> int:
            seen.append(bool((pixels == np.arange(12).reshape(3, 4)).all()))
            return super().write(content)

    formatter_by_name("fits_image").write(pixels, Watching())
    assert seen
    assert all(seen)
