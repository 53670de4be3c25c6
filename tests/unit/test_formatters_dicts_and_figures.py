"""FITS of several HDUs from dicts, and plots."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import fitsio
import numpy as np
import pytest
from astropy import units as u
from astropy.io import fits
from astropy.table import Table
from matplotlib.figure import Figure

from pantry.client.formatters import WriteRequest, convert, formatter_by_name
from pantry.errors import ConfigError, FormatterError

from .formatters_support import read, round_trip, write


def test_a_dict_as_fits_and_back(tmp_path: Path) -> None:
    content: dict[str, Any] = {
        "flux": np.arange(6, dtype="f4").reshape(2, 3),
        "Sources": Table({"id": np.array([1, 2], "u8"), "ra": [1.0, np.nan] * u.deg}, meta={"nested": {"a": [1]}}),
        "cube": np.zeros((2, 3, 4), "u2"),
        "about": fits.Header({"OBJECT": "M 5"}),
    }
    path = tmp_path / "f.fits"
    write("fits_hdus", content, path)
    found = convert(read("fits_hdus", path), "dict")
    assert list(found) == list(content)
    for name in ("flux", "cube"):
        np.testing.assert_array_equal(found[name], content[name])
        assert found[name].dtype.newbyteorder("=") == content[name].dtype
    assert found["Sources"]["ra"].unit == u.deg
    assert found["Sources"]["id"].dtype == np.uint64
    assert found["Sources"].meta["nested"] == {"a": [1]}
    assert found["about"]["OBJECT"] == "M 5"
    with fitsio.FITS(str(path)) as other:
        assert [hdu.get_extname() for hdu in other] == ["", *content]
        np.testing.assert_array_equal(other["flux"].read(), content["flux"])
    done = subprocess.run(["fitsverify", path], capture_output=True, text=True, check=False)
    assert "Verification found 0 warning(s) and 0 error(s)" in done.stdout


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"a": np.zeros(2), "A": np.zeros(2)}, "'A' cannot be the name of an HDU here"),
        ({"primary": np.zeros(2)}, "not PRIMARY"),
        ({"é": np.zeros(2)}, "cannot be the name"),
        ({3: np.zeros(2)}, "3 cannot be the name"),
        ({"a": {"b": 1}}, "the HDU 'a' of a FITS file cannot hold a builtins.dict"),
        ({"a": np.zeros(2) * u.m}, "besides its pixels"),
        ({"a": np.zeros(2, "c8")}, "no pixels of complex64"),
    ],
)
def test_what_a_dict_cannot_have_in_fits(content: dict[Any, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(FormatterError, match=message):
        write("fits_hdus", content, tmp_path / "f")


def figure() -> Figure:
    made = Figure(figsize=(2, 1), dpi=50)
    made.subplots().plot([1, 2, 3])
    return made


@pytest.mark.parametrize(("name", "begins"), [("png", b"\x89PNG"), ("pdf", b"%PDF-")])
def test_figures(name: str, begins: bytes, tmp_path: Path) -> None:
    found = round_trip(name, figure(), tmp_path / "f")
    assert found.startswith(begins)
    assert round_trip(name, figure(), tmp_path / "f") == found  # the same figure, the same file
    assert round_trip(name, figure().subplots(), tmp_path / "f").startswith(begins)  # axes
    assert round_trip(name, found, tmp_path / "f") == found
    with pytest.raises(FormatterError, match="are no P"):
        write(name, b"something else", tmp_path / "f")
    with (tmp_path / "f").open("w+b") as file, pytest.raises(ConfigError, match="options of"):
        formatter_by_name(name).write(figure(), file, WriteRequest(formatter=name, given={"dpi": 5}))


def test_the_pixels_of_a_figure(tmp_path: Path) -> None:
    with (tmp_path / "f").open("w+b") as file:
        formatter_by_name("png").write(figure(), file, WriteRequest(formatter="png", given={"dpi": 100}))
    pixels = read("png", tmp_path / "f", "pixels")
    assert (pixels.shape, pixels.dtype) == ((100, 200, 4), np.uint8)
    assert pixels[0, 0].tolist() == [255, 255, 255, 255]
