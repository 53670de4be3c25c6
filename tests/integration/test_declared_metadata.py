"""Metadata that dataset types declare: out of real files, through a real daemon, without opening them again."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits
from astropy.table import Table
from tests.integration.command_line import pantry
from tests.integration.observatory import INSTRUMENT, furnish
from tests.servers.pantryd import PantryDaemon

from pantry.client import Butler
from pantry.errors import (
    ConflictingDefinitionError,
    DatasetTypeError,
    FormatterError,
    InvalidQueryError,
    InvalidRequestError,
    MissingCollectionError,
)

ENTRIES = (
    "exptime:float=EXPTIME [s]",
    "target:string=OBJECT # as the observer wrote it",
    "seq:int=SEQNUM",
    "ok:bool=OK",
)
N = 200


@pytest.fixture
def butler(make_daemon: Callable[..., PantryDaemon], tmp_path: Path) -> Iterator[Butler]:
    with Butler.create("d", str(tmp_path / "repo"), socket=make_daemon().socket) as made:
        furnish(made, N)
        yield made


def header(number: int) -> fits.Header:
    values = fits.Header({"EXPTIME": 15.0 + number % 7, "SEQNUM": number, "OK": number % 3 == 0})
    if number % 5:
        values["OBJECT"] = f"field {number % 4}"
    return values


@pytest.fixture
def raws(tmp_path: Path) -> dict[int, Path]:
    found = {}
    (tmp_path / "night").mkdir()
    for number in range(1, N + 1):
        found[number] = tmp_path / "night" / f"{number}.fits"
        fits.PrimaryHDU(np.zeros((4, 4), "i2"), header(number)).writeto(found[number])
    return found


def ingest(butler: Butler, raws: dict[int, Path]) -> None:
    butler.register_dataset_type("raw", ["exposure"], "FitsHDUList", metadata=ENTRIES)
    butler.ingest("raw", [(path, {"instrument": INSTRUMENT, "exposure": n}) for n, path in raws.items()], run="raw")


def exposures(butler: Butler, where: str, **more: str) -> list[int]:
    refs = butler.query_datasets("raw", "raw", where=where, **more)  # type: ignore[arg-type]
    return [int(ref.data_id["exposure"]) for ref in refs]


@pytest.mark.req("DMS-MWBT-REQ-0091")
def test_headers_of_a_night_are_queried_without_the_files(
    butler: Butler, raws: dict[int, Path], tmp_path: Path
) -> None:
    ingest(butler, raws)
    headers = {number: fits.getheader(path) for number, path in raws.items()}
    stored = list((tmp_path / "repo").rglob("*.fits"))
    assert len(stored) == N
    for path in [*stored, *raws.values()]:
        path.unlink()
    asked = {
        "raw.exptime > 18 AND raw.ok": lambda h: h["EXPTIME"] > 18 and h["OK"],
        "target = 'field 3'": lambda h: h.get("OBJECT") == "field 3",
        "raw.target IS NULL": lambda h: "OBJECT" not in h,
        "seq IN (3..9:2)": lambda h: h["SEQNUM"] in (3, 5, 7, 9),
        "raw.exptime < 16 AND exposure > 100": lambda h: h["EXPTIME"] < 16 and h["SEQNUM"] > 100,
    }
    for where, holds in asked.items():
        expected = [number for number, one in headers.items() if holds(one)]
        assert expected
        assert sorted(exposures(butler, where)) == expected, where
    assert exposures(butler, "seq < 6", order_by="-raw.seq") == [5, 4, 3, 2, 1]
    found = {int(ref.data_id["exposure"]): values for ref, values in butler.query_metadata("raw", "raw")}
    assert found == {
        number: {"exptime": one["EXPTIME"], "target": one.get("OBJECT"), "seq": one["SEQNUM"], "ok": one["OK"]}
        for number, one in headers.items()
    }
    one = butler.get_metadata("raw", instrument=INSTRUMENT, exposure=7, collections="raw")
    assert one == {"exptime": 15.0, "target": "field 3", "seq": 7, "ok": False}
    ((_, few),) = butler.query_metadata("raw", "raw", entries="seq", where="seq = 9")
    assert few == {"seq": 9}


@pytest.mark.req("DMS-MWBT-REQ-0091")
@pytest.mark.parametrize(
    ("storage_class", "key", "make"),
    [
        ("CCDData", "FWHM", lambda value: _ccd({"FWHM": value})),
        ("StructuredDataDict", "quality.fwhm", lambda value: {"quality": {"fwhm": value}, "n": 1}),
        ("AstropyTable", "fwhm", lambda value: Table({"a": [1, 2]}, meta={"fwhm": value})),
        ("ArrowAstropy", "fwhm", lambda value: Table({"a": [1, 2]}, meta={"fwhm": value})),
        ("HDF5", "psf@fwhm", lambda value: {"psf": np.ones(3), "psf@fwhm": value}),
        ("HDF5", "fwhm", lambda value: {"psf": np.ones(3), "@fwhm": value}),
    ],
)
def test_what_is_put_is_described(
    butler: Butler, storage_class: str, key: str, make: Callable[[float], object]
) -> None:
    butler.register_dataset_type("product", ["exposure"], storage_class, metadata=[f"fwhm:float={key} [pixel]"])
    for exposure, fwhm in ((1, 0.7), (2, 1.5), (3, 0.9)):
        butler.put(make(fwhm), "product", instrument=INSTRUMENT, exposure=exposure, run="out")
    good = butler.query_datasets("product", "out", where="product.fwhm < 1")
    assert sorted(ref.data_id["exposure"] for ref in good) == [1, 3]
    assert butler.get_metadata("product", instrument=INSTRUMENT, exposure=2, collections="out") == {"fwhm": 1.5}


def _ccd(meta: dict[str, object]) -> object:
    from astropy.nddata import CCDData

    return CCDData(np.zeros((4, 4), "f4"), unit="adu", meta=meta)


def test_wrong_values_leave_nothing(butler: Butler, raws: dict[int, Path], tmp_path: Path) -> None:
    fits.setval(raws[2], "SEQNUM", value="two")
    with pytest.raises(InvalidRequestError, match=r"2\.fits.*'SEQNUM' is 'two'.*type int"):
        ingest(butler, raws)
    assert butler.count_datasets("raw", "*") == 0
    assert not list((tmp_path / "repo").rglob("*.fits"))
    raws[2].write_bytes(b"no FITS file")
    with pytest.raises(FormatterError, match=r"2\.fits: its metadata cannot be read as fits_hdus"):
        ingest(butler, raws)
    butler.register_dataset_type("c", ["exposure"], "StructuredDataDict", metadata=["n:int=n"])
    with pytest.raises(InvalidRequestError, match="'n' is 'many'"):
        butler.put({"n": "many"}, "c", instrument=INSTRUMENT, exposure=1, run="c")
    with pytest.raises(MissingCollectionError):
        butler.get("c", instrument=INSTRUMENT, exposure=1, collections="c")
    butler.put({"n": 4}, "c", instrument=INSTRUMENT, exposure=1, run="c")
    assert butler.get_metadata("c", instrument=INSTRUMENT, exposure=1, collections="c") == {"n": 4}


def test_files_in_place_and_values_recorded_later(butler: Butler, raws: dict[int, Path], tmp_path: Path) -> None:
    butler.register_dataset_type("raw", ["exposure"], "FitsHDUList", metadata=ENTRIES)
    (tmp_path / "repo" / "files").mkdir()
    shutil.copy(raws[4], tmp_path / "repo" / "files")
    butler.ingest("raw", [("files/4.fits", {"instrument": INSTRUMENT, "exposure": 4})], run="raw", transfer="in_place")
    (ref,) = butler.query_datasets("raw", "raw", where="seq = 4")
    assert butler.record_metadata("raw", {ref: {"seq": 44, "target": "corrected"}}) == 1
    assert butler.get_metadata(ref) == {"exptime": None, "target": "corrected", "seq": 44, "ok": None}
    with pytest.raises(InvalidRequestError, match="declares no metadata nonsense"):
        butler.record_metadata("raw", {ref: {"nonsense": 1}})


def test_the_command_line_and_mistakes(butler: Butler, raws: dict[int, Path]) -> None:
    words = ("register-dataset-type", "d", "raw", "FitsHDUList", "instrument", "exposure")
    made = pantry(butler, *words, "--metadata", ENTRIES[0], "--metadata", "seq:int=SEQNUM")
    assert made.returncode == 0, made.stderr
    files = [(raws[number], {"instrument": INSTRUMENT, "exposure": number}) for number in (1, 2, 3)]
    butler.ingest("raw", files, run="raw")
    shown = pantry(butler, "query-datasets", "d", "raw", "-c", "raw", "-w", "raw.seq > 1", "--count")
    assert shown.stdout == "2\n"
    assert "bad" not in pantry(butler, *words, "--metadata", "nonsense").stdout
    assert "write 'exptime:float=EXPTIME [s]'" in pantry(butler, *words, "--metadata", "nonsense").stderr
    with pytest.raises(ConflictingDefinitionError):
        butler.register_dataset_type("raw", ["exposure"], "FitsHDUList", metadata=["seq:float=SEQNUM"])
    with pytest.raises(InvalidQueryError) as caught:
        exposures(butler, "raw.seqq > 1")
    assert "raw.seq" in caught.value.hint
    with pytest.raises(DatasetTypeError, match="unknown type"):
        butler.register_dataset_type("x", ["exposure"], "FitsHDUList", metadata=["seq:complex=A"])


@pytest.mark.req("DMS-MWBT-REQ-0091")
def test_metadata_on_the_command_line(butler: Butler, raws: dict[int, Path]) -> None:
    ingest(butler, raws)
    asked = ("query-datasets", "d", "raw", "-c", "raw", "-w", "seq < 4", "--order-by", "-raw.seq")
    shown = pantry(butler, *asked, "--metadata", "seq,target")
    heading, *rows = shown.stdout.splitlines()
    assert heading.split()[-2:] == ["raw.seq", "raw.target"]
    assert [row.split()[-3:] for row in rows] == [[str(n), "field", str(n)] for n in (3, 2, 1)]
    listed = json.loads(pantry(butler, *asked, "--metadata", "*", "--json").stdout)
    assert [one["metadata"]["seq"] for one in listed] == [3, 2, 1]
    assert [one["metadata"]["exptime"] for one in listed] == [18.0, 17.0, 16.0]
    strange = pantry(butler, *asked, "--metadata", "nothing")
    assert (strange.returncode, strange.stdout) == (1, "")
    assert "exptime" in strange.stderr
    one = pantry(butler, "get", "d", "raw", f"instrument={INSTRUMENT}", "exposure=5", "-c", "raw", "--metadata")
    assert json.loads(one.stdout) == {"exptime": 20.0, "target": None, "seq": 5, "ok": False}
