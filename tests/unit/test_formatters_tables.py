from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from astropy import units as u
from astropy.coordinates import SkyCoord
from astropy.table import MaskedColumn, QTable, Table
from astropy.time import Time

from pantry.client.formatters import WriteRequest, convert, formatter_by_name
from pantry.errors import FormatterError

from .formatters_support import read, read_counting, round_trip, write

TABLE_FORMATS = ["parquet", "fits_table", "ecsv", "hdf5"]


def as_table(obj: object) -> Table:
    return convert(obj, "astropy.table.Table")


@pytest.fixture
def table() -> QTable:
    found = QTable(
        {
            "id": np.arange(5),
            "flux": np.arange(5.0) * u.nJy,
            "name": ["x", "y", "z", "long name", "w"],
            "flag": np.array([True, False, True, True, False]),
            "masked": MaskedColumn([1, 2, 3, 4, 5], mask=[0, 1, 0, 0, 1]),
            "pair": np.arange(10, dtype=np.float32).reshape(5, 2),
            "coord": SkyCoord(np.arange(5.0), np.arange(5.0) - 3, unit="deg"),
            "time": Time(np.arange(5) + 60_000.0, format="mjd", scale="tai"),
        }
    )
    found["id"].info.description = "an identifier"
    found.meta = {"TELESCOP": "X", "nested": {"lower": [1, 2, "three"]}, "LONGTEXT": "y" * 200}
    return found


@pytest.mark.parametrize("name", TABLE_FORMATS)
def test_everything_of_a_table_survives(name: str, table: QTable, tmp_path: Path) -> None:
    found = convert(round_trip(name, table, tmp_path / "f"), "astropy.table.QTable")
    assert set(found.colnames) == set(table.colnames)
    for column in ("id", "name", "flag", "pair"):
        np.testing.assert_array_equal(found[column], table[column])
    assert found["flux"].unit == u.nJy
    np.testing.assert_array_equal(found["flux"].value, table["flux"].value)
    np.testing.assert_array_equal(found["masked"].mask, table["masked"].mask)
    assert found["masked"].sum() == table["masked"].sum()
    assert found["coord"].separation(table["coord"]).max() < 1e-9 * u.deg
    np.testing.assert_allclose(found["time"].tai.mjd, table["time"].mjd, rtol=0, atol=1e-12)
    assert found["id"].info.description == "an identifier"
    assert dict(found.meta) == dict(table.meta)
    plain = as_table(read(name, tmp_path / "f"))
    assert type(plain) is Table
    assert plain["flux"].unit == u.nJy


@pytest.mark.parametrize("name", ["parquet", "fits_table", "ecsv"])
def test_columns_and_rows(name: str, table: QTable, tmp_path: Path) -> None:
    path = tmp_path / "f"
    write(name, table, path)
    found = convert(read(name, path, columns=["flux", "coord"], rows=(1, 3)), "astropy.table.QTable")
    assert set(found.colnames) == {"flux", "coord"}
    assert found["flux"].value.tolist() == [1.0, 2.0]
    assert as_table(read(name, path, rows=slice(3, None)))["id"].tolist() == [3, 4]
    assert set(read(name, path, "columns")) >= {"id", "flux"}
    assert len(as_table(read(name, path, rows=(9, 20)))) == 0
    with pytest.raises(FormatterError, match="no columns 'nope'"):
        read(name, path, columns=["id", "nope"])
    with pytest.raises(FormatterError, match="rows="):
        read(name, path, rows="0:4")


def test_parquet_reads_few_bytes(tmp_path: Path) -> None:
    path = tmp_path / "f.parq"
    rng = np.random.default_rng(1)
    table = Table({f"c{i}": rng.random(400_000) for i in range(10)})
    write("parquet", table, path)
    found, count = read_counting("parquet", path, columns=["c3"], rows=(200_000, 200_010))
    assert found["c3"].to_pylist() == table["c3"][200_000:200_010].tolist()
    assert count < 0.06 * path.stat().st_size
    assert read("parquet", path, "rowcount") == 400_000
    assert read("parquet", path, "schema").names == [f"c{i}" for i in range(10)]


def test_fits_rows_read_few_bytes(tmp_path: Path) -> None:
    path = tmp_path / "f.fits"
    table = Table({f"c{i}": np.arange(100_000.0) for i in range(10)})
    write("fits_table", table, path)
    found, count = read_counting("fits_table", path, rows=(50_000, 50_010))
    assert found["c3"].tolist() == table["c3"][50_000:50_010].tolist()
    assert count < 60_000


def test_astropy_reads_our_parquet(table: QTable, tmp_path: Path) -> None:
    path = tmp_path / "f.parquet"
    del table["pair"]
    write("parquet", table, path)
    found = Table.read(path, format="parquet")
    assert found["flux"].unit == u.nJy
    assert found["id"].description == "an identifier"


def test_dataframes_and_arrow_tables(tmp_path: Path) -> None:
    frame = pd.DataFrame({"a": [1, 2, 3], "b": ["x", None, "z"]}, index=pd.Index([5, 6, 7], name="key"))
    found = round_trip("parquet", frame, tmp_path / "f")
    pd.testing.assert_frame_equal(convert(found, "pandas.DataFrame"), frame)
    arrow = pa.table({"a": [1, 2, None], "l": [[1], [], [2, 3]]})
    assert convert(round_trip("parquet", arrow, tmp_path / "f"), "pyarrow.Table").equals(arrow)
    with pytest.raises(FormatterError, match="missing values"):
        convert(arrow, "numpy.ndarray")
    structured = convert(pa.table({"a": [1, 2], "s": ["x", "yy"]}), "numpy.ndarray")
    assert structured.tolist() == [(1, "x"), (2, "yy")]
    assert as_table(frame).colnames == ["a", "b", "key"]


@pytest.mark.parametrize(
    "target", ["astropy.table.Table", "astropy.table.QTable", "pandas.DataFrame", "pyarrow.Table", "numpy.ndarray"]
)
def test_every_table_converts_to_every_other(target: str) -> None:
    start = Table({"a": [1, 2], "b": [0.5, 1.5]})
    for middle in ("astropy.table.Table", "astropy.table.QTable", "pandas.DataFrame", "pyarrow.Table", "numpy.ndarray"):
        found = convert(convert(start, middle), target)
        assert np.asarray(found["a"]).tolist() == [1, 2]
    with pytest.raises(FormatterError, match=r"cannot be converted to os\.system"):
        convert(start, "os.system")


def test_hdf5_trees(tmp_path: Path) -> None:
    tree = {
        "@origin": "test",
        "x": np.arange(3),
        "x@unit": "Jy",
        "group": {"s": "é", "n": 1.5, "t": True, "u": np.array(["é", "b"]), "c": np.array([1 + 2j])},
    }
    found = round_trip("hdf5", tree, tmp_path / "f")
    assert list(found) == ["@origin", "x", "x@unit", "group"]
    assert found["x@unit"] == "Jy"
    np.testing.assert_array_equal(found["x"], tree["x"])
    assert found["group"]["s"] == "é"
    assert found["group"]["u"].tolist() == ["é", "b"]
    assert found["group"]["t"] is True
    assert read("hdf5", tmp_path / "f", path="group/n") == 1.5
    assert "group/s" in read("hdf5", tmp_path / "f", "paths")
    for bad in ({"a/b": 1}, {"": 1}, {"a": object()}, {"x@unit": "Jy"}, {1: 2}):
        with pytest.raises(FormatterError):
            write("hdf5", bad, tmp_path / "bad")
    with pytest.raises(FormatterError, match="has no 'nope'"):
        read("hdf5", tmp_path / "f", path="nope")
    with pytest.raises(FormatterError, match="rows need one dataset"):
        read("hdf5", tmp_path / "f", rows=(0, 1))


def test_hdf5_rows_read_few_bytes(tmp_path: Path) -> None:
    path = tmp_path / "f.h5"
    cube = np.arange(2_000_000.0).reshape(20_000, 100)
    write("hdf5", {"cube": cube, "other": np.zeros(1000)}, path)
    found, count = read_counting("hdf5", path, path="cube", rows=(10_000, 10_010))
    np.testing.assert_array_equal(found, cube[10_000:10_010])
    assert count < 0.05 * path.stat().st_size


def test_fits_meta_that_cannot_be_kept_is_refused(tmp_path: Path) -> None:
    with pytest.raises(FormatterError, match="'when' cannot be kept"):
        write("fits_table", Table({"a": [1]}, meta={"when": object()}), tmp_path / "f")


def test_parquet_has_dictionaries_of_text_only(tmp_path: Path) -> None:
    many = pa.table({"id": np.arange(300_000), "band": ["g", "r", "i"] * 100_000})
    write("parquet", many, tmp_path / "x.parq")
    parquet = pq.ParquetFile(tmp_path / "x.parq")
    chunks = [parquet.metadata.row_group(0).column(number) for number in range(2)]
    assert [chunk.has_dictionary_page for chunk in chunks] == [False, True]
    assert {chunk.compression for chunk in chunks} == {"LZ4"}
    assert read("parquet", tmp_path / "x.parq").equals(many)


@pytest.mark.parametrize("checksums", [False, True])
def test_checksums_within_files_are_an_option(checksums: bool, tmp_path: Path) -> None:
    pixels = np.arange(1 << 17, dtype="f8")
    request = WriteRequest(given={"checksums": checksums, "compression": "none"})
    for name, obj in {"hdf5": pixels, "parquet": pa.table({"a": pixels})}.items():
        with (tmp_path / name).open("w+b") as file:
            formatter_by_name(name).write(obj, file, request)
        damaged = bytearray((tmp_path / name).read_bytes())
        damaged[len(damaged) // 2] ^= 1
        (tmp_path / name).write_bytes(damaged)

    def found(read_it: Callable[[], object]) -> bool:
        try:
            read_it()
        except (OSError, FormatterError):
            return True
        return False

    assert found(lambda: read("hdf5", tmp_path / "hdf5")) == checksums
    assert found(lambda: pq.read_table(tmp_path / "parquet", page_checksum_verification=True)) == checksums
