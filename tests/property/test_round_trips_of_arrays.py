"""Images, arrays and trees through every format: back as they were, or refused when they are written."""

from __future__ import annotations

import subprocess
import tempfile
from collections.abc import Iterator
from datetime import date
from pathlib import Path
from typing import Any

import fitsio
import h5py
import numpy as np
import pytest
from astropy import nddata
from astropy import units as u
from astropy.io import fits
from astropy.nddata import CCDData, NDData
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from tests.unit.formatters_support import is_stored, read, write

from pantry.client.formatters import convert
from pantry.errors import FormatterError

PIXELS = ["u1", "i1", "i2", ">i2", "u2", ">u2", "i4", "u4", "i8", "u8", "f4", ">f4", "f8", ">f8"]
ANY = [*PIXELS, "?", "f2", "c8", "c16", "S3", "U3", "M8[ns]", "O"]
SHAPES = hnp.array_shapes(min_dims=1, max_dims=3, min_side=1, max_side=5)
UNITS = st.sampled_from([u.adu, u.electron, u.nJy, u.dimensionless_unscaled, u.Unit("erg / (s cm2)"), u.electron / u.s])
UNCERTAINTIES = st.sampled_from(["StdDevUncertainty", "VarianceUncertainty", "InverseVariance"])
KEYS = st.sampled_from(["OBJECT", "EXPTIME", "GAIN", "LONGKEYWORD NAME", "NOTE"])
VALUES = (
    st.booleans()
    | st.integers(-(1 << 31), 1 << 31)
    | st.floats(-1e30, 1e30).map(lambda value: float(f"{value:.12g}"))  # a card has 16 digits
    | st.text("abc xyz/=", max_size=100).map(str.strip)
)


@pytest.fixture(scope="module")
def directory() -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as made:
        yield Path(made)


def same(found: Any, wanted: Any) -> None:
    assert found.dtype.newbyteorder("=") == wanted.dtype.newbyteorder("=")
    assert found.shape == wanted.shape
    np.testing.assert_array_equal(found, wanted)


@st.composite
def ccds(draw: st.DrawFn) -> CCDData:
    shape = draw(hnp.array_shapes(min_dims=2, max_dims=3, min_side=1, max_side=5))
    pixels = draw(hnp.arrays(draw(st.sampled_from(PIXELS)), shape))
    mask, uncertainty = None, None
    if draw(st.booleans()):
        mask = draw(hnp.arrays(bool, shape))
    if draw(st.booleans()):
        spread = draw(hnp.arrays(draw(st.sampled_from(["f4", "f8"])), shape))
        uncertainty = getattr(nddata, draw(UNCERTAINTIES))(spread)
    psf = draw(st.none() | hnp.arrays("f4", (3, 3)))
    meta = draw(st.dictionaries(KEYS, VALUES, max_size=3))
    return CCDData(pixels, unit=draw(UNITS), mask=mask, uncertainty=uncertainty, psf=psf, meta=fits.Header(meta))


def same_ccd(found: CCDData, wanted: CCDData) -> None:
    same(found.data, wanted.data)
    assert found.unit == wanted.unit
    for name in ("mask", "psf"):
        assert (getattr(found, name) is None) == (getattr(wanted, name) is None)
        if getattr(wanted, name) is not None:
            same(getattr(found, name), getattr(wanted, name))
    assert type(found.uncertainty) is type(wanted.uncertainty)
    if wanted.uncertainty is not None:
        same(found.uncertainty.array, wanted.uncertainty.array)
        assert found.uncertainty.unit == wanted.uncertainty.unit
    for key, value in wanted.meta.items():
        assert found.meta[key] == value


@pytest.mark.req("DMS-MWBT-REQ-0061")
@settings(max_examples=60, derandomize=True)
@given(ccd=ccds())
@pytest.mark.filterwarnings("ignore::astropy.io.fits.verify.VerifyWarning")
def test_images_with_all_that_belongs_to_them(directory: Path, ccd: CCDData) -> None:
    before = ccd.copy()
    path = directory / "ccd.fits"
    write("fits_image", ccd, path)
    same_ccd(ccd, before)
    assert dict(ccd.meta) == dict(before.meta)
    same_ccd(read("fits_image", path), ccd)
    if ccd.data.dtype.newbyteorder("=") != np.uint64:  # which fitsio reads as signed
        same(np.asarray(fitsio.read(str(path), ext=0)), ccd.data)
    plain = NDData(ccd.data, unit=ccd.unit, mask=ccd.mask, uncertainty=ccd.uncertainty, meta=dict(ccd.meta))
    write("fits_image", plain, path)
    found = convert(read("fits_image", path), "astropy.nddata.NDData")
    same(found.data, ccd.data)
    assert found.unit == ccd.unit
    hdus = convert(found, "astropy.io.fits.HDUList")
    same(hdus[0].data, ccd.data)
    assert ("UNCERT" in hdus) == (ccd.uncertainty is not None)


@settings(max_examples=60, derandomize=True)
@given(array=hnp.arrays(st.sampled_from(ANY), SHAPES))
def test_arrays_as_fits_are_exact_or_refused(directory: Path, array: Any) -> None:
    path = directory / "array.fits"
    if array.dtype.str.lstrip("<|") not in PIXELS:
        with pytest.raises(FormatterError, match="FITS has no pixels of"):
            write("fits_image", array, path)
        return
    write("fits_image", array, path)
    same(convert(read("fits_image", path), "numpy.ndarray"), array)
    if array.dtype.kind + str(array.dtype.itemsize) != "u8":  # which fitsio reads as signed
        same(np.asarray(fitsio.read(str(path))), array)


@settings(max_examples=100, derandomize=True)
@given(array=hnp.arrays(st.sampled_from([*ANY, "i2,f8", "f16"]), hnp.array_shapes(min_dims=0, min_side=0)))
def test_arrays_as_hdf5_are_exact_or_refused(directory: Path, array: Any) -> None:
    path = directory / "array.h5"
    if not is_stored("hdf5", array, path):
        assert array.dtype.kind in "OMmU" or array.ndim == 0
        return
    found = read("hdf5", path)
    if array.ndim == 0:  # a single value comes back as Python's own
        if array.dtype.names is None:
            np.testing.assert_array_equal(found, array)
        else:
            assert found.tobytes() == array.tobytes()
        return
    if array.dtype.names:
        assert (found.dtype, found.tobytes()) == (array.dtype, array.tobytes())
        return
    same(found, array) if array.dtype.kind != "U" else np.testing.assert_array_equal(found, array)
    with h5py.File(path) as file:
        if array.dtype.kind in "biufc":
            same(file["data"][()], array)


TEXT = st.text(st.characters(exclude_categories=("Cs",), exclude_characters="\0"), max_size=6)
LEAVES = (
    st.booleans() | st.binary(max_size=3) | st.integers(-(1 << 63), (1 << 63) - 1) | st.floats(allow_nan=False) | TEXT
)
TREES = st.recursive(
    st.dictionaries(TEXT, LEAVES | hnp.arrays("f8", (2,), elements=st.floats(allow_nan=False)), max_size=3),
    lambda inner: st.dictionaries(TEXT, LEAVES | inner, max_size=3),
    max_leaves=6,
)


def equal(found: Any, wanted: Any) -> bool:
    if isinstance(wanted, dict):
        return found.keys() == wanted.keys() and all(equal(found[key], wanted[key]) for key in wanted)
    if isinstance(wanted, np.ndarray):
        return found.dtype == wanted.dtype and np.array_equal(found, wanted)
    return type(found) is type(wanted) and bool(found == wanted)


@settings(max_examples=100, derandomize=True)
@given(tree=TREES)
def test_trees_as_hdf5_are_exact_or_refused(directory: Path, tree: dict[str, Any]) -> None:
    path = directory / "tree.h5"
    if is_stored("hdf5", tree, path):
        assert equal(read("hdf5", path), tree)


@settings(max_examples=150, derandomize=True)
@given(
    tree=st.recursive(
        LEAVES | st.none() | st.floats() | st.dates() | st.integers() | st.sampled_from(["<<", "=", "~", "1e3", "0x1"]),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT | st.just("<<"), inner, max_size=3),
        max_leaves=8,
    )
)
def test_trees_as_json_and_yaml_are_exact_or_refused(directory: Path, tree: Any) -> None:
    for name in ("json", "yaml"):
        if is_stored(name, tree, directory / name):
            assert repr(read(name, directory / name)) == repr(tree)


@pytest.mark.parametrize(
    ("name", "obj", "message"),
    [
        ("fits_image", np.ma.masked_array([[1.0]], mask=True), "besides its pixels"),
        ("fits_image", np.ones((2, 2)) * u.Jy, "besides its pixels"),
        ("fits_image", CCDData([[1.0]], unit="adu", meta={"NOTE": "'/"}), "cannot hold NOTE"),
        ("fits_image", NDData([[1.0]], mask=np.array([[6]])), "mask of int64 would come back as yes or no"),
        ("hdf5", np.ma.masked_array([1.0], mask=True), "cannot hold a numpy.ma"),
        ("hdf5", {"x": np.ones(2) * u.Jy}, "cannot hold a astropy.units"),
        ("hdf5", {"x": 1, "x@list": [1, 2]}, "attribute 'x@list' is a list"),
        ("hdf5", {"x@pantry_object": "y", "x": 1}, "cannot be a name"),
        ("json", {"day": date(2026, 1, 1)}, "datetime.date"),
    ],
)
def test_units_masks_and_the_like_are_not_lost(name: str, obj: object, message: str, tmp_path: Path) -> None:
    with pytest.raises(FormatterError, match=message) as caught:
        write(name, obj, tmp_path / "x")
    assert caught.value.hint


@pytest.mark.parametrize("compression", ["none", "rice", "gzip", "hcompress"])
def test_fitsverify_finds_nothing_in_images(compression: str, directory: Path) -> None:
    from pantry.client.formatters import WriteRequest, formatter_by_name

    pixels = np.random.default_rng(1).normal(1000, 5, (64, 80)).astype("f4")
    mask = pixels > 1000
    wide = nddata.StdDevUncertainty(np.ones_like(pixels))
    meta = {"OBJECT": "M 5", "NOTE": "a" * 200}
    path = directory / "verified.fits"
    with path.open("w+b") as file:
        request = WriteRequest(formatter="fits_image", given={"compression": compression})
        image = CCDData(pixels, unit="electron", mask=mask, uncertainty=wide, meta=meta)
        formatter_by_name("fits_image").write(image, file, request)
    done = subprocess.run(["fitsverify", path], capture_output=True, text=True, check=False)
    complaints = [line for line in done.stdout.splitlines() if line.startswith(("*** Error", "*** Warning"))]
    assert complaints == []
    assert "Verification found 0 warning(s) and 0 error(s)" in done.stdout
