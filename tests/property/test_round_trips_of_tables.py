"""Every kind of table through every format: back as it was, or refused when it is written, and never changed."""

from __future__ import annotations

import string
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fitsio
import h5py
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from astropy import units as u
from astropy.io.votable import parse_single_table
from astropy.table import Column, MaskedColumn, QTable, Table
from astropy.time import Time
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from tests.unit.formatters_support import is_stored, read, write

from pantry.client.formatters import convert, fits_table
from pantry.client.formatters.arrow import to_arrow
from pantry.errors import FormatterError

FORMATS = ["ecsv", "fits_table", "hdf5", "parquet", "votable"]
# What all of the formats hold; VOTable all but u8, CSV only the widest.
COMMON = ["?", "i1", "u1", "i2", ">i2", "u2", "i4", "u4", ">u4", "i8", ">i8", "u8", ">u8", "f4", ">f4", "f8", ">f8"]
ODD = [*COMMON, "f2", "c8", "c16", "S1", "S5", "U1", "U5", ">U3", "M8[ns]", "M8[D]", "m8[us]", "O"]
WORDS = st.text(string.ascii_letters + string.digits + "-+:,;'\"#&|", min_size=0, max_size=6)
HELD = {"votable": [one for one in COMMON if not one.endswith("u8")], "csv": ["?", "i8", ">i8", "f8", ">f8"]}
NAMES = st.text(string.ascii_lowercase, min_size=1, max_size=8)
ODD_NAMES = st.text(st.characters(exclude_categories=("Cs",)), min_size=1, max_size=6) | st.sampled_from(
    ["A", "a", "x.mask", "a b", "é", "TTYPE1", "__serialized_columns__", "null", "1", "#", ",", "a@b", "."]
)
UNITS = st.sampled_from([None, u.m, u.nJy, u.Unit("erg / (s cm2)"), u.deg, u.adu, u.electron / u.s, u.mag, u.percent])
META_TEXT = st.text(st.characters(exclude_categories=("Cs", "Cc")), max_size=90)
META = st.dictionaries(
    META_TEXT.filter(lambda key: not key.startswith("__"))
    | st.sampled_from(["OBJECT", "EXPTIME", "NAXIS", "comments"]),
    st.integers(-(1 << 40), 1 << 40)
    | st.booleans()
    | st.floats(allow_nan=False, allow_infinity=False)
    | META_TEXT
    | st.lists(st.integers(0, 9), max_size=3),
    max_size=3,
)


def elements(dtype: np.dtype[Any]) -> st.SearchStrategy[Any] | None:
    if dtype.kind == "U":
        return WORDS.map(lambda word: word[: dtype.itemsize // 4])
    if dtype.kind in "Mm":
        return hnp.from_dtype(dtype)
    return None


@st.composite
def columns(draw: st.DrawFn, n_rows: int, dtypes: list[str], *, odd: bool, text_arrays: bool) -> Column:
    dtype = np.dtype(draw(st.sampled_from(dtypes)))
    inner = draw(st.sampled_from([(), (), (2,), (1,), (2, 2), (2, 3)]))
    if inner and (not n_rows or (dtype.kind == "U" and not text_arrays)):
        inner = ()  # not in ECSV, see below
    kind = None if odd and dtype.kind != "O" else elements(dtype)
    if dtype.kind == "O":
        kind = st.none() | st.integers() | st.text(max_size=2)
    values = draw(hnp.arrays(dtype, (n_rows, *inner), elements=kind))
    made: Column = Column(values)
    if draw(st.booleans()):
        made = MaskedColumn(values, mask=draw(hnp.arrays(bool, values.shape)))
    if dtype.kind in "iuf":
        made.unit = draw(UNITS)
    made.description = draw(st.none() | WORDS.filter(bool))
    return made


@st.composite
def tables(
    draw: st.DrawFn, dtypes: list[str], *, odd: bool = False, bare: bool = False, text_arrays: bool = True
) -> Table:
    n_rows = draw(st.integers(1 if bare else 0, 4))
    names = draw(st.lists(ODD_NAMES if odd else NAMES, min_size=1, max_size=4, unique_by=str.lower))
    table = Table()
    for name in names:
        table[name] = draw(columns(n_rows, dtypes, odd=odd, text_arrays=text_arrays))
        if bare:
            table[name].unit = table[name].description = None
    table.meta = {} if bare else draw(META)
    return table


@pytest.fixture(scope="module")
def directory() -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as made:
        yield Path(made)


def same(found: Any, expected: Any) -> None:
    """Compare what is missing, and the elements that are there, of two columns to the last bit."""
    mask, wanted_mask = np.ma.getmaskarray(np.ma.asarray(found)), np.ma.getmaskarray(np.ma.asarray(expected))
    assert mask.shape == wanted_mask.shape
    np.testing.assert_array_equal(mask, wanted_mask)
    values = np.ma.getdata(np.ma.asarray(found))[~mask]
    wanted = np.ma.getdata(np.ma.asarray(expected))[~mask]
    if wanted.dtype.kind not in "US":
        assert values.dtype.newbyteorder("=") == wanted.dtype.newbyteorder("=")
    assert values.dtype.kind == wanted.dtype.kind
    np.testing.assert_array_equal(values, wanted)


def same_table(found: Table, expected: Table) -> None:
    assert found.colnames == expected.colnames
    assert len(found) == len(expected)
    for name in expected.colnames:
        same(found[name], expected[name])
        assert found[name].unit == expected[name].unit
        assert (found[name].description or None) == (expected[name].description or None)
    assert dict(found.meta) == dict(expected.meta)


def judged_by_others(name: str, path: Path, expected: Table) -> None:
    """Read the elements with a program that knows nothing of Pantry."""
    plain = [one for one in expected.colnames if not np.ma.getmaskarray(np.ma.asarray(expected[one])).any()]
    if name == "parquet":
        other: Any = pq.read_table(path)
        rows = {one: np.array(other.column(one).to_pylist()) for one in plain}
    elif name == "hdf5":
        with h5py.File(path) as file:
            data = file["data"][()]
        rows = {one: data[one] for one in plain}
    elif name == "fits_table":
        data = fitsio.read(str(path), ext=1)
        rows = {one: data[one] for one in plain} if len(expected) else {}
    elif name == "votable":
        other = parse_single_table(path).to_table(use_names_over_ids=True)
        rows = {one: np.ma.getdata(np.ma.asarray(other[one])) for one in plain}
    else:
        other = Table.read(path, format="ascii.ecsv")
        rows = {one: np.ma.filled(other[one], "") for one in plain if expected[one].dtype.kind == "U"}
    for one, values in rows.items():
        wanted = np.asarray(expected[one])
        if values.dtype.kind == "S":
            values = np.char.decode(values, "utf-8")
        if wanted.dtype.kind == "U":
            values = values.astype(str)
        np.testing.assert_array_equal(values.reshape(wanted.shape), wanted)


def as_arrow(table: Table) -> pa.Table:
    arrow = to_arrow(table)
    assert arrow is not None
    return arrow


@pytest.mark.req("DMS-MWBT-REQ-0032")
@pytest.mark.parametrize("name", FORMATS)
@settings(max_examples=60, derandomize=True)
@given(data=st.data())
def test_what_every_format_holds_comes_back(name: str, directory: Path, data: st.DataObject) -> None:
    table = data.draw(tables([*HELD.get(name, COMMON), "U1", "U5", ">U3"], text_arrays=name != "votable"))
    before = table.copy()
    write(name, table, directory / "x")
    same_table(table, before)  # the caller's is as it was
    same_table(convert(read(name, directory / "x"), "astropy.table.Table"), before)
    judged_by_others(name, directory / "x", before)


@pytest.mark.parametrize("name", FORMATS)
@settings(max_examples=20, derandomize=True)
@given(data=st.data())
def test_some_rows_are_as_they_are_in_the_whole(name: str, directory: Path, data: st.DataObject) -> None:
    # Without rows, arrays of text in FITS have no shape.
    table = data.draw(tables([*HELD.get(name, COMMON), "U5"], text_arrays=False).filter(len))
    rows = data.draw(st.lists(st.integers(0, len(table) - 1), max_size=5))
    write(name, table, directory / "x")
    for asked, wanted in ((rows, table[np.array(rows, int)]), ((1, 3), table[1:3])):
        same_table(convert(read(name, directory / "x", rows=asked), "astropy.table.Table"), wanted)
    schema = read(name, directory / "x", "schema")
    assert schema.types == as_arrow(table).schema.types


@pytest.mark.parametrize("name", [*FORMATS, "csv"])
@settings(max_examples=120, derandomize=True)
@given(table=tables(ODD, odd=True))
def test_what_a_format_cannot_hold_is_refused_and_never_changed(name: str, directory: Path, table: Table) -> None:
    before = table.copy()
    if is_stored(name, table, directory / "x"):
        same_table(convert(read(name, directory / "x"), "astropy.table.Table"), before)
    same_table(table, before)


@settings(max_examples=200, derandomize=True)
@given(table=tables(["?", "i8", "f8", "U5", "M8[s]", "M8[D]", "M8[ns]", "M8[us]", "i4", "S5"], odd=True, bare=True))
def test_csv_without_units_is_exact_or_refused(directory: Path, table: Table) -> None:
    for name in table.colnames:
        if is_stored("csv", table[[name]], directory / "x"):  # alone, where a missing value could be an empty line
            same_table(convert(read("csv", directory / "x"), "astropy.table.Table"), table[[name]])
    if is_stored("csv", table, directory / "x"):
        same_table(convert(read("csv", directory / "x"), "astropy.table.Table"), table)


@pytest.mark.parametrize(
    ("column", "message"),
    [
        (Column(["1", "2"]), "come back as numbers"),
        (Column(["2020-01-01", ""]), "come back as numbers, times or nothing"),
        (Column(["NA", "null"]), "come back as numbers, times or nothing"),
        (Column([""]), "come back as numbers, times or nothing"),
        (MaskedColumn(["a", "b"], mask=[False, True]), "missing texts"),
        (MaskedColumn([1, 2], mask=[True, True]), "all is missing"),
        (Column(np.array([1], "i4")), "of int32"),
        (Column(np.array([1.5], "f4")), "of float"),
        (Column(np.array([1], "u8")), "of uint64"),
        (Column([[1, 2]]), "of arrays"),
        (Column([b"a"]), "of .S1"),
        (Column([1j]), "of complex128"),
        (Column(np.array(["2020-01-01"], "M8[us]")), "of timestamp.us"),
        (Column([1.5], unit="m"), "unit m"),
        (Column([1.5], description="flux"), "description flux"),
    ],
)
def test_what_csv_would_change_is_refused(column: Column, message: str, tmp_path: Path) -> None:
    with pytest.raises(FormatterError, match=f"CSV cannot hold .*{message}") as caught:
        write("csv", Table({"flux": column}), tmp_path / "x")
    assert "'flux'" in caught.value.message
    assert caught.value.hint


def test_csv_keeps_what_looks_like_something_else(tmp_path: Path) -> None:
    table = Table(
        {
            "whole": [1.0, -0.0, 1e6],
            "large": [1.0, 2.0, 1e22],
            "odd": [np.nan, np.inf, 5e-324],
            "text": ["1", "1.5", 'a\r\n"b";c'],
            "a;b;c": MaskedColumn([1, 2, 3], mask=[False, True, False]),
            "when": np.array(["2020-01-01", "NaT", "2020-01-02"], "M8[s]"),
        }
    )
    write("csv", table, tmp_path / "x")
    same_table(convert(read("csv", tmp_path / "x"), "astropy.table.Table"), table)
    assert np.signbit(read("csv", tmp_path / "x")["whole"].to_numpy()).tolist() == [False, True, False]
    other = pd.read_csv(tmp_path / "x", keep_default_na=False)
    assert other["whole"].tolist() == [1.0, 0.0, 1e6]
    assert other["text"].tolist() == table["text"].tolist()


def complaints(*files: str) -> list[str]:
    """Return what fitsverify has against files."""
    done = subprocess.run(["fitsverify", *files], capture_output=True, text=True, check=False)
    assert done.stdout.count("Verification found") == len(files)
    return [line for line in done.stdout.splitlines() if line.startswith(("*** Error", "*** Warning"))]


@pytest.mark.req("DMS-MWBT-REQ-0062")
def test_fitsverify_finds_nothing(directory: Path) -> None:
    files: list[str] = []

    @settings(max_examples=60, derandomize=True)
    @given(table=tables([*COMMON, "c8", "c16", "U1", "U5", "S5"]))
    def write_one(table: Table) -> None:
        path = directory / f"{len(files)}.fits"
        if is_stored("fits_table", table, path):
            files.append(str(path))

    write_one()
    assert len(files) > 20
    assert complaints(*files) == []


@pytest.mark.parametrize("name", [*FORMATS, "csv"])
@settings(max_examples=25, derandomize=True)
@given(data=st.data())
def test_every_python_type_of_a_table(name: str, directory: Path, data: st.DataObject) -> None:
    table = data.draw(tables(HELD.get(name, COMMON)).filter(len))
    flat = Table({one: np.asarray(c.filled(0) if hasattr(c, "filled") else c) for one, c in table.columns.items()})
    cells = [one for one in flat.colnames if flat[one].ndim == 1]
    quantities = QTable({one: flat[one] * u.Jy for one in cells if flat[one].dtype.kind == "f"})
    if name == "csv":
        flat.keep_columns(cells)
    elif quantities.colnames:
        write(name, quantities, directory / "x")
        found = convert(read(name, directory / "x"), "astropy.table.QTable")
        assert type(found) is QTable
        for one in quantities.colnames:
            assert found[one].unit == u.Jy
            same(found[one].value, quantities[one].value)
    if flat.colnames:
        write(name, flat.as_array(), directory / "x")
        rows = convert(read(name, directory / "x"), "numpy.ndarray")
        for one in flat.colnames:
            same(rows[one], flat[one])
    if not cells:
        return
    frame = pd.DataFrame({one: np.asarray(flat[one]).astype(flat[one].dtype.newbyteorder("=")) for one in cells})
    write(name, frame, directory / "x")
    pd.testing.assert_frame_equal(convert(read(name, directory / "x"), "pandas.DataFrame"), frame)
    arrow = pa.table({one: pa.array(frame[one].to_numpy()) for one in cells})
    write(name, arrow, directory / "x")
    found = convert(read(name, directory / "x"), "pyarrow.Table")
    for one in cells:
        same(found[one].to_numpy(), arrow[one].to_numpy())


@pytest.mark.parametrize("name", FORMATS)
@settings(max_examples=20, derandomize=True)
@given(
    days=hnp.arrays("f8", st.integers(1, 4), elements=st.floats(-1e5, 1e5)),
    scale=st.sampled_from(["tai", "utc", "tdb"]),
)
def test_times_keep_their_scale_and_precision(name: str, directory: Path, days: Any, scale: str) -> None:
    # Two floats: nanoseconds over centuries.
    times = Time(51_544.0 + np.round(days), days * 1e-9, format="mjd", scale=scale)
    write(name, Table({"when": times}), directory / "x")
    found = convert(read(name, directory / "x"), "astropy.table.Table")["when"]
    assert found.scale == scale
    assert (abs((found - times).sec) < 1e-9).all()


@pytest.mark.parametrize(
    ("name", "column", "message"),
    [
        ("fits_table", Column(["a ", "b"]), "blanks at the end"),
        ("fits_table", Column(["é"]), "other than printable ASCII"),
        ("fits_table", Column(np.array([1], "f2")), "of float16"),
        ("fits_table", Column(np.zeros((1, 0))), "arrays without elements"),
        ("ecsv", Column([" a"]), "white space at an end"),
        ("ecsv", Column(["a\rb"]), "carriage return"),
        ("ecsv", Column([b"a"]), "of .S1"),
        ("ecsv", Column(np.zeros((0, 2))), "of arrays of times, or without rows"),
        ("parquet", Column(np.array([1j])), "of complex128"),
        ("hdf5", Column(np.array(["2020-01-01"], "M8[s]")), "of datetime64"),
    ],
)
def test_refusals_name_the_column_and_what_to_do(name: str, column: Column, message: str, tmp_path: Path) -> None:
    with pytest.raises(FormatterError, match=f"'flux'.* {message}") as caught:
        write(name, Table({"flux": column}), tmp_path / "x")
    assert caught.value.hint


@pytest.mark.parametrize(
    "column",
    [
        MaskedColumn(np.array([63, 255, 0], "u1"), mask=[False] * 3),  # astropy's null of such a column is 63
        MaskedColumn(np.array([63, 255, 0], "u1"), mask=[False, True, False]),
        MaskedColumn(np.array([[63, 255], [0, 1]], "u1"), mask=[[False, True], [True, False]]),
        MaskedColumn([999_999, 1], mask=[False, False]),
        MaskedColumn([999_999, 1], mask=[False, True]),
    ],
)
def test_no_element_is_taken_for_a_null(column: MaskedColumn, tmp_path: Path) -> None:
    write("fits_table", Table({"a": column}), tmp_path / "x")
    same(read("fits_table", tmp_path / "x")["a"], column)


def test_a_table_of_many_rows_as_another_program_reads_it(tmp_path: Path) -> None:
    random = np.random.default_rng(1)
    kinds = dict(zip("abcdefgh", ("?", "u1", ">i2", "u4", "u8", "f4", "c8", "U3"), strict=True))
    rows = {name: random.integers(0, 100, 20_000).astype(kind) for name, kind in kinds.items()}
    write("fits_table", Table(rows), tmp_path / "x")
    found = fitsio.read(str(tmp_path / "x"), ext=1)
    for name, values in rows.items():
        np.testing.assert_array_equal(found[name].astype(values.dtype) if name == "h" else found[name], values)


@settings(max_examples=60, derandomize=True)
@given(table=tables([*COMMON, "U5", "S3", "c8"]))
def test_tables_that_are_read_in_blocks(directory: Path, table: Table) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fits_table, "_LEAST_IN_BLOCKS", 1)
        patch.setattr(fits_table, "_READ_IN", 3)
        if is_stored("fits_table", table, directory / "x"):
            same_table(read("fits_table", directory / "x"), table)


def test_signed_bytes_of_another_program(tmp_path: Path) -> None:
    values = np.array([-128, -1, 0, 127], "i1")
    fitsio.write(str(tmp_path / "x"), np.rec.fromarrays([values, values.view("u1")], names="a,b"), extname="T")
    found = read("fits_table", tmp_path / "x")
    assert (found["a"].dtype, found["b"].dtype) == (np.int8, np.uint8)
    assert found["a"].tolist() == values.tolist()
    write("fits_table", Table({"a": values, "when": Time([1.0] * 4, format="mjd")}), tmp_path / "y")
    assert fitsio.read(str(tmp_path / "y"), ext=1)["a"].tolist() == values.tolist()
    assert read("fits_table", tmp_path / "y", rows=(1, 3))["a"].tolist() == [-1, 0]
    assert complaints(str(tmp_path / "y")) == []


def test_columns_that_fits_cannot_tell_apart(tmp_path: Path) -> None:
    with pytest.raises(FormatterError, match="'a' and 'A' apart"):
        write("fits_table", Table({"a": [1], "A": [2]}), tmp_path / "x")


@pytest.mark.parametrize("name", [*FORMATS, "csv"])
def test_integers_beside_missing_ones_keep_all_their_digits(name: str, tmp_path: Path) -> None:
    frame = pd.DataFrame({"a": pd.array([1, None, 2**60 + 1], "Int64")})
    for kind in (frame, Table({"a": MaskedColumn([1, 0, 2**60 + 1], mask=[False, True, False])})):
        write(name, kind, tmp_path / "x")
        pd.testing.assert_frame_equal(convert(read(name, tmp_path / "x"), "pandas.DataFrame"), frame)
    small = MaskedColumn(np.array([1, 0], "u1"), mask=[False, True])
    if name != "csv":
        write(name, Table({"a": small}), tmp_path / "x")
        assert convert(read(name, tmp_path / "x"), "pandas.DataFrame")["a"].dtype == "UInt8"


@pytest.mark.parametrize("name", ["csv", "ecsv", "fits_table", "hdf5", "votable"])
def test_an_index_that_says_something_is_not_lost(name: str, tmp_path: Path) -> None:
    frame = pd.DataFrame({"a": [1, 2]}, index=[5, 6])
    with pytest.raises(FormatterError, match="index of this DataFrame") as caught:
        write(name, frame, tmp_path / "x")
    assert "reset_index" in caught.value.hint
    write(name, frame.reset_index(), tmp_path / "x")
    write("parquet", frame, tmp_path / "x")
    pd.testing.assert_frame_equal(convert(read("parquet", tmp_path / "x"), "pandas.DataFrame"), frame)
