"""VOTable: what other programs read, what comes back, what is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from astropy import units
from astropy.coordinates import SkyCoord
from astropy.io.votable import parse_single_table, validate
from astropy.table import QTable, Table
from astropy.time import Time

from pantry.client.formatters import ReadSource, WriteRequest, formatter_by_name
from pantry.errors import FormatterError

FORMATTER = formatter_by_name("votable")
STANDARD = "http://www.ivoa.net/xml/VOTable/v1.3"


def written(table: Any, path: Path, **options: Any) -> Path:
    with path.open("w+b") as file:
        FORMATTER.write(table, file, WriteRequest(formatter="votable", given=options))
    return path


def read(path: Path, component: str | None = None, **parameters: Any) -> Any:
    source = ReadSource(name="x", size_bytes=path.stat().st_size, path=str(path))
    return FORMATTER.read(source, component=component, parameters=parameters)


def stars() -> Table:
    table = Table(
        {
            "id": np.array([1, 2, 3], "i8"),
            "flag": np.array([1, 2, 65535], "u2"),
            "flux": np.array([1.5, np.nan, np.inf], ">f4"),
            "count": np.ma.array([1, 2, 3], mask=[False, True, False]),
            "name": ["NGC 1", "ä", ""],
            "code": np.array([b"x", b"yz", b""]),
            "good": [True, False, True],
            "box": np.arange(12).reshape(3, 2, 2),
            "a b": [1, 2, 3],
        },
        meta={"OBSERVER": "Ann", "steps": [1, 2]},
    )
    table["flux"].unit, table["flux"].description = "Jy", "flux density"
    return table


@pytest.mark.req("DMS-MWBT-REQ-0032")
@pytest.mark.parametrize("serialization", ["tabledata", "binary2"])
def test_what_is_written_comes_back(tmp_path: Path, serialization: str) -> None:
    found = read(written(stars(), tmp_path / "t.vot", serialization=serialization))
    assert found.meta == stars().meta
    for name in stars().colnames:
        one, other = found[name], stars()[name]
        assert one.dtype == other.dtype.newbyteorder("="), name
        assert np.array_equal(np.ma.getmaskarray(one), np.ma.getmaskarray(other)), name
        np.testing.assert_array_equal(np.ma.filled(one, 0), np.ma.filled(other, 0), name)
    assert (found["flux"].unit, found["flux"].description) == (units.Jy, "flux density")


def test_other_programs_read_it(tmp_path: Path) -> None:
    path = written(stars(), tmp_path / "t.vot")
    table = parse_single_table(path).to_table()
    assert list(table["id"]) == [1, 2, 3]
    assert table["count"].mask.tolist() == [False, True, False]
    assert table["flux"].unit == units.Jy
    assert validate(path, output=None)


def test_mixins_and_empty_tables(tmp_path: Path) -> None:
    table = QTable({"t": Time([58000.25, 58001.5], format="mjd", scale="tai"), "q": [1.0, 2.0] * units.m})
    table["at"] = SkyCoord([1, 2] * units.deg, [3, 4] * units.deg)
    found = read(written(table, tmp_path / "t.vot"))
    assert found["t"].scale == "tai"
    assert (found["t"] == table["t"]).all()
    assert found["at"].dec.deg.tolist() == [3.0, 4.0]
    empty = Table({"x": np.array([], "f8"), "s": np.array([], "U7")})
    assert read(written(empty, tmp_path / "e.vot")).dtype == empty.dtype


def test_parts(tmp_path: Path) -> None:
    path = written(stars(), tmp_path / "t.vot")
    assert read(path, "columns") == stars().colnames
    assert read(path, columns=["name"], rows=(0, 2))["name"].tolist() == ["NGC 1", "ä"]
    with pytest.raises(FormatterError, match="unknown read parameters hdu"):
        read(path, hdu=1)


@pytest.mark.parametrize(
    ("column", "message"),
    [
        (np.array([2**63], "u8"), "no type for uint64"),
        (["a\0b"], "control characters"),
        (np.array([object()]), "no type for object"),
        (np.array([b"\xff"]), "not ASCII"),
        (np.array([["a", "b"]]), "arrays of texts"),
        (np.zeros((1, 0)), "arrays without elements"),
    ],
)
def test_what_it_cannot_hold_is_refused(tmp_path: Path, column: Any, message: str) -> None:
    with pytest.raises(FormatterError, match=message) as caught:
        written(Table({"x": column}), tmp_path / "t.vot")
    assert caught.value.hint


@pytest.mark.parametrize("serialization", ["tabledata", "binary2"])
def test_other_programs_see_what_is_missing_and_which_axis_is_which(tmp_path: Path, serialization: str) -> None:
    lowest, highest = np.iinfo("i8").min, 255
    table = Table(
        {
            "cube": np.arange(12).reshape(2, 2, 3),
            "n": np.ma.array([lowest, 7], mask=[False, True]),  # the value that would be the null is an element
            "byte": np.ma.array([0, highest], "u1", mask=[True, False]),
            "free": np.ma.array([1, 2], "i2", mask=[True, False]),
            "x": np.ma.array([1.0, np.nan], mask=[True, False]),
            "y": np.ma.array([1.0, 2.0], mask=[True, False]),
            "s": np.ma.array(["a", ""], mask=[True, False]),
        }
    )
    table["free"].meta["values"] = {"null": "2"}  # as of a table that was read from another document
    table["y"].unit = units.electron / units.s
    path = written(table, tmp_path / "t.vot", serialization=serialization)
    found = read(path)
    for name in table.colnames:
        assert np.array_equal(np.ma.getmaskarray(found[name]), np.ma.getmaskarray(table[name])), name
        assert np.ma.asarray(found[name]).compressed().tolist()[0] == np.ma.asarray(table[name]).compressed()[0] or (
            name == "x"
        ), name
    assert found["y"].unit == units.electron / units.s
    assert found["free"].meta == table["free"].meta
    other = parse_single_table(path).to_table(use_names_over_ids=True)
    assert np.array_equal(np.asarray(other["cube"]), np.asarray(table["cube"]))
    assert other["y"].mask.tolist() == [True, False]
    assert other["free"].mask.tolist() == [True, False]
    assert other["n"].tolist() == [lowest, 7]
    assert other["n.mask"].tolist() == [False, True]
    assert validate(path, output=None)


def test_blanks_that_elements_lose_are_refused(tmp_path: Path) -> None:
    with pytest.raises(FormatterError, match="blanks at the ends"):
        written(Table({"x": ["a "]}), tmp_path / "t.vot", serialization="tabledata")
    assert read(written(Table({"x": ["a "]}), tmp_path / "t.vot"))["x"][0] == "a "


@pytest.mark.parametrize(
    "prolog",
    [
        b'<!DOCTYPE VOTABLE [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;&a;">]>',
        b'<!DOCTYPE VOTABLE [<!ENTITY a SYSTEM "file:///etc/passwd">]>',
        b'<!DOCTYPE VOTABLE SYSTEM "http://127.0.0.1:9/x.dtd">',
    ],
)
def test_declarations_are_refused(tmp_path: Path, prolog: bytes) -> None:
    path = tmp_path / "bomb.vot"
    path.write_bytes(b'<?xml version="1.0"?>' + prolog + b"<VOTABLE><RESOURCE/></VOTABLE>")
    with pytest.raises(FormatterError, match="declares a document type"):
        read(path)


def test_what_is_no_votable(tmp_path: Path) -> None:
    path = tmp_path / "x.vot"
    for content in (b"", b"SIMPLE  = T", b"<html><body/></html>", written(stars(), path).read_bytes()[:900]):
        path.write_bytes(content)
        with pytest.raises(FormatterError, match="cannot be read as VOTable"):
            read(path)
