"""Master and curated calibrations, taken in with their validity and found by the time of a raw."""

from __future__ import annotations

import json
import os
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from astropy.io import fits
from astropy.table import Table
from tests.integration.command_line import pantry
from tests.integration.test_header_corrections import HEADER, write_raw
from tests.servers.pantryd import PantryDaemon

from pantry.client import Butler
from pantry.errors import ConflictError, DatasetNotFoundError, FormatterError, InvalidRequestError
from pantry.model.collections import CollectionType

DATA_ID = {"instrument": "LATISS", "exposure": 2024062400106, "detector": 0}


@pytest.fixture
def butler(make_daemon: Callable[..., PantryDaemon], short_dir: Path) -> Iterator[Butler]:
    daemon = make_daemon()
    Butler.create("r", str(short_dir / "root"), socket=daemon.socket).close()
    with Butler("r", collections="LATISS/calib", socket=daemon.socket) as butler:
        butler.ingest_raws([write_raw(short_dir / "raw.fits", HEADER)])
        yield butler


def master(path: Path, kind: str, date: str, value: float, **more: Any) -> Path:
    """Write a master calibration as Rubin's software does; the pixels are all ``value``."""
    path.parent.mkdir(exist_ok=True)
    primary = fits.PrimaryHDU()
    cards = {"OBSTYPE": kind, "INSTRUME": "LATISS", "CALIB_ID": f"detector=0 filter=SDSSr_65mm~empty calibDate={date}"}
    for keyword, card in {**cards, **more}.items():
        primary.header[keyword] = card
    fits.HDUList([primary, fits.CompImageHDU(np.full((8, 8), value, "float32"))]).writeto(path)
    return path


def pixel(butler: Butler, kind: str) -> float:
    with butler.get(kind, DATA_ID) as hdus:
        return float(hdus[1].data[0, 0])


@pytest.mark.req("DMS-MWBT-REQ-0009")
def test_masters_are_found_by_the_time_of_a_raw(butler: Butler, short_dir: Path) -> None:
    folder = short_dir / "CALIB"
    for number, date in enumerate(("2024-05-01", "2024-06-20", "2024-07-01")):
        master(folder / f"bias{number}.fits", "bias", date, number)
    master(folder / "flat.fits", "flat", "2024-06-20", 7)
    done = pantry(butler, "ingest-calibrations", "r", str(folder), "--by-date", "--json")
    assert done.returncode == 0, done.stderr
    assert [one["run"] for one in json.loads(done.stdout)][:2] == [
        "LATISS/calib/20240501T000000Z",
        "LATISS/calib/20240620T000000Z",
    ]
    assert butler.collections["LATISS/calib"].type is CollectionType.CALIBRATION
    assert (pixel(butler, "bias"), pixel(butler, "flat")) == (1.0, 7.0)
    assert "physical_filter" in butler.get_dataset_type("flat").dimensions
    # For a given time, by hand.
    dark = master(short_dir / "dark.fits", "dark", "2024-06-01", 5)
    butler.ingest_calibrations([dark], validity=("2024-06-01", "2024-06-02"))
    with pytest.raises(DatasetNotFoundError):
        butler.get("dark", DATA_ID)
    with pytest.raises(ConflictError):
        butler.ingest_calibrations([master(short_dir / "b.fits", "bias", "2024-06-21", 9)])
    assert pixel(butler, "bias") == 1.0


@pytest.mark.req("DMS-MWBT-REQ-0009")
def test_real_masters_as_in_their_own_registry(
    make_daemon: Callable[..., PantryDaemon], short_dir: Path, rubin_data: Path
) -> None:
    socket = make_daemon().socket
    butler = Butler.create("rubin", str(short_dir / "root"), socket=socket)
    for name, folder in (("LATISS", "latiss"), ("LSSTCam-imSim", "imsim")):
        butler.ingest_raws((rubin_data / folder / "raw").rglob("*.fits"))
        words = ("ingest-calibrations", "rubin", str(rubin_data / folder / "CALIB"), "--instrument", name)
        done = subprocess.run(
            [sys.executable, "-m", "pantry.client.cli.main", *words],
            env={**os.environ, "PANTRY_SOCKET": socket},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        with sqlite3.connect(f"file:{rubin_data / folder / 'gen3.sqlite3'}?mode=ro", uri=True) as database:
            known = set(database.execute(
                "SELECT t.name, c.name FROM dataset d JOIN dataset_type t ON t.id = d.dataset_type_id "
                "JOIN collection c ON c.collection_id = d.run_id WHERE t.name IN ('bias', 'dark', 'flat')"
            ))  # fmt: skip
        database.close()
        refs = butler.query_datasets(["bias*", "dark*", "flat*"], f"{name}/calib/*", find_first=False)
        assert {(ref.dataset_type.name, ref.run) for ref in refs} == known
    exposure = {"instrument": "LSSTCam-imSim", "exposure": 204595, "detector": 42}
    for kind, file in (("bias", "bias"), ("dark", "dark"), ("flat", "flat_i_sim_1.4")):
        with butler.get(kind, exposure, collections="LSSTCam-imSim/calib") as hdus:
            assert hdus[1].data.shape == (4000, 4072)
            (path,) = (rubin_data / "imsim" / "CALIB").rglob(f"{file}-*.fits")
            assert hdus[0].header == fits.getheader(path)


DEFECTS = Table({"x0": [1, 5], "y0": [2, 6], "width": [1, 1], "height": [100, 3]})


def curated(root: Path, date: str, column: int, **meta: Any) -> Path:
    path = root / "defects" / "rxx_s00" / f"{date}.ecsv"
    path.parent.mkdir(parents=True, exist_ok=True)
    table = DEFECTS.copy()
    table["x0"] = [column, column]
    table.meta |= {"INSTRUME": "LATISS", "DETECTOR": 0, "OBSTYPE": "defects", **meta}
    table.write(path, format="ascii.ecsv")
    return path


@pytest.mark.req("DMS-MWBT-REQ-0009")
def test_curated_calibrations_are_valid_from_their_date(butler: Butler, short_dir: Path) -> None:
    root = short_dir / "latiss"
    for column, date in ((1, "19700101T000000"), (2, "20180101T000000"), (3, "20240701T000000")):
        curated(root, date, column)
    done = pantry(butler, "write-curated-calibrations", "r", "LATISS", str(root))
    assert done.returncode == 0, done.stderr
    found = butler.get("defects", DATA_ID)
    assert isinstance(found, Table)
    assert found["x0"].tolist() == [2, 2]
    refs = butler.query_datasets("defects", "LATISS/calib/curated/*", find_first=False)
    assert {ref.run for ref in refs} == {
        f"LATISS/calib/curated/{date}Z" for date in ("19700101T000000", "20180101T000000", "20240701T000000")
    }


def test_times_of_curated_calibrations_are_those_of_gen3(rubin_data: Path) -> None:
    """UTC in the name; the registry that Rubin's software wrote has them in TAI."""
    from pantry.client.instruments.calibrations import tai_ns

    with sqlite3.connect(f"file:{rubin_data / 'latiss' / 'gen3.sqlite3'}?mode=ro", uri=True) as database:
        (begin,), (middle,) = database.execute(
            "SELECT DISTINCT timespan_begin FROM dataset_calibs_00000003 WHERE timespan_begin > 0 ORDER BY 1"
        ).fetchall()
    database.close()
    assert (tai_ns("19700101T000000"), tai_ns("20180101T000000")) == (begin, middle)


def test_likely_mistakes(butler: Butler, short_dir: Path) -> None:
    curated(short_dir / "a", "20200101T000000", 1, DETECTOR=1)
    with pytest.raises(InvalidRequestError, match="DETECTOR in it is 1, but where it lies says 0"):
        butler.write_curated_calibrations("LATISS", short_dir / "a")
    bad = short_dir / "b" / "defects" / "r99_s00"
    bad.mkdir(parents=True)
    (bad / "20200101T000000.ecsv").write_text("")
    with pytest.raises(InvalidRequestError, match="'r99_s00' is neither a detector nor a filter of LATISS"):
        butler.write_curated_calibrations("LATISS", short_dir / "b")
    curated(short_dir / "c", "someday", 1)
    with pytest.raises(InvalidRequestError, match="'someday' is no date"):
        butler.write_curated_calibrations("LATISS", short_dir / "c")
    with pytest.raises(InvalidRequestError, match="has no calibrations"):
        butler.write_curated_calibrations("LATISS", short_dir / "CALIB")
    anonymous = master(short_dir / "x.fits", "bias", "2024-06-01", 1, INSTRUME="")
    with pytest.raises(FormatterError, match="names no instrument"):
        butler.ingest_calibrations([anonymous])
    with pytest.raises(FormatterError, match="no OBSTYPE"):
        butler.ingest_calibrations([master(short_dir / "y.fits", "", "2024-06-01", 1)])
    with pytest.raises(FormatterError, match="no date of the calibration"):
        butler.ingest_calibrations([master(short_dir / "z.fits", "bias", "soon", 1)])
    with pytest.raises(FormatterError, match="not a FITS file"):
        butler.ingest_calibrations([bad / "20200101T000000.ecsv"])
