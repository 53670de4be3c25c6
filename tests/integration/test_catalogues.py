"""Catalogues of third parties, in whatever format they come: ingested as they are, read by the same call."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from astropy.table import MaskedColumn, Table
from tests.servers.pantryd import PantryDaemon

from pantry.client import Butler
from pantry.errors import FormatterError

FORMATS = ("csv", "tsv", "ecsv", "fits", "parquet", "vot")


def catalogue() -> Table:
    table = Table({"source_id": np.array([4472832130942575872, 2, 3]), "ra": [269.448503, 10.0, 359.9]})
    table["name"] = ["Barnard's star", "a, b", "c"]
    table["parallax"] = MaskedColumn([546.976, 0.0, 1.5], mask=[False, True, False])
    return table


def write(path: Path, kind: str) -> Path:
    """Write the catalogue by other programs' writers, not by ours."""
    table = catalogue()
    if kind == "csv":
        text = "# from an archive\n" + "\n".join(
            ["source_id,ra,name,parallax", "4472832130942575872,269.448503,Barnard's star,546.976", '2,10.0,"a, b",',
             "3,359.9,c,1.5", ""]
        )  # fmt: skip
        path.write_text(text)
    elif kind == "tsv":
        table.write(path, format="ascii.tab", fill_values=[("--", "")])
    elif kind == "parquet":
        import pyarrow as pa
        import pyarrow.parquet as pq

        plain = {name: table[name].tolist() for name in table.colnames}
        pq.write_table(pa.table(plain), path)
    else:
        table.write(path, format={"ecsv": "ascii.ecsv", "fits": "fits", "vot": "votable"}[kind])
    return path


@pytest.fixture
def butler(make_daemon: Callable[..., PantryDaemon], short_dir: Path) -> Iterator[Butler]:
    daemon = make_daemon()
    Butler.create("r", str(short_dir / "root"), socket=daemon.socket).close()
    with Butler("r", run="refcats", socket=daemon.socket) as butler:
        for kind in FORMATS:
            butler.insert_dimension_records("instrument", {"name": kind})
        butler.register_dataset_type("refcat", ["instrument"], "ArrowAstropy")
        yield butler


@pytest.mark.req("DMS-MWBT-REQ-0046")
@pytest.mark.req("DMS-MWBT-REQ-0047")
@pytest.mark.req("DMS-MWBT-REQ-0048")
def test_every_format_is_read_by_the_same_call(butler: Butler, short_dir: Path) -> None:
    files = [(write(short_dir / f"cat.{kind}", kind), {"instrument": kind}) for kind in FORMATS]
    hashes = {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path, _ in files}
    ids = butler.ingest("refcat", files)
    assert len(set(ids)) == len(FORMATS)
    for path, data_id in files:
        found = butler.get("refcat", data_id)
        kind = data_id["instrument"]
        assert isinstance(found, Table), kind
        assert found.colnames == ["source_id", "ra", "name", "parallax"], kind
        # 64 bits whole, commas in names, and a missing value.
        assert found["source_id"].tolist() == [4472832130942575872, 2, 3], kind
        assert [str(name) for name in found["name"]] == ["Barnard's star", "a, b", "c"], kind
        assert found["ra"].tolist() == [269.448503, 10.0, 359.9], kind
        missing = np.ma.getmaskarray(found["parallax"]) | np.isnan(np.ma.filled(found["parallax"], np.nan))
        assert missing.tolist() == [False, True, False], kind
        part = butler.get("refcat", data_id, parameters={"columns": ["ra"], "rows": (1, 3)})
        assert part["ra"].tolist() == [10.0, 359.9], kind
        assert butler.get("refcat.columns", data_id) == found.colnames
        # As another type, by the same words.
        assert butler.get("refcat", data_id, storage_class="ArrowTable").num_rows == 3
        with butler.open("refcat", data_id) as file:
            assert hashlib.sha256(file.read()).hexdigest() == hashes[path.name]


@pytest.mark.req("DMS-MWBT-REQ-0048")
def test_from_the_command_line(butler: Butler, short_dir: Path) -> None:
    path = write(short_dir / "gaia.csv", "csv")
    words = ("ingest", "r", "refcat", str(path), "instrument=csv", "--run", "refcats")
    environment = {**os.environ, "PANTRY_SOCKET": str(butler._socket)}

    def pantry(*words: str) -> subprocess.CompletedProcess[str]:
        argv = [sys.executable, "-m", "pantry.client.cli.main", *words]
        return subprocess.run(argv, env=environment, capture_output=True, text=True, check=False)

    assert pantry(*words).returncode == 0
    (ref,) = butler.query_datasets("refcat", "refcats")
    assert butler.get(ref)["source_id"][0] == 4472832130942575872
    got = pantry("get", "r", "refcat.columns", "instrument=csv", "-c", "refcats")
    assert json.loads(got.stdout) == ["source_id", "ra", "name", "parallax"]
    copy = short_dir / "copy.csv"
    assert pantry("get", "r", "refcat", "instrument=csv", "-c", "refcats", "-o", str(copy)).returncode == 0
    assert copy.read_bytes() == path.read_bytes()


def test_mistakes(butler: Butler, short_dir: Path) -> None:
    broken = short_dir / "broken.csv"
    broken.write_text("a,b\n1,2,3\n")
    butler.ingest("refcat", [(broken, {"instrument": "csv"})])
    with pytest.raises(FormatterError, match="cannot be read as CSV"):
        butler.get("refcat", instrument="csv")
    # By its name in the usual format, and not by its content.
    odd = short_dir / "odd.parquet"
    odd.write_text("a,b\n1,2\n")
    butler.ingest("refcat", [(odd, {"instrument": "parquet"})])
    with pytest.raises(FormatterError, match="cannot be read as Parquet"):
        butler.get("refcat", instrument="parquet")


def test_csv_that_we_write(butler: Butler, short_dir: Path) -> None:
    formats: dict[str, Any] = {"dataset_types": {"refcat": {"formatter": "csv"}}}
    with Butler("r", run="ours", formats=formats, socket=butler._socket) as writer:
        writer.put(catalogue(), "refcat", instrument="csv")
        found = writer.get("refcat", instrument="csv")
        assert found["name"].tolist() == ["Barnard's star", "a, b", "c"]
        assert np.ma.getmaskarray(found["parallax"]).tolist() == [False, True, False]
    (path,) = (short_dir / "root" / "ours").rglob("*.csv")
    assert Table.read(path, format="ascii.csv")["ra"].tolist() == [269.448503, 10.0, 359.9]
