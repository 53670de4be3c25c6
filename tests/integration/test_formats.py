"""A text file decides format, formatter and Python type: the repository's for all, a user's own for that user."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pyarrow.parquet as pq
import pytest
from astropy import units
from astropy.io import fits
from astropy.nddata import CCDData
from astropy.table import QTable, Table
from tests.integration.command_line import pantry
from tests.integration.observatory import INSTRUMENT, furnish
from tests.servers.pantryd import PantryDaemon

from pantry.client import Butler
from pantry.errors import ConfigError, DatasetTypeError

REPOSITORY = """
storage_classes:
  Photometry: {formatter: hdf5, python_type: astropy.table.QTable, write: {compression: gzip}}
dataset_types:
  "*_catalog": {formatter: hdf5, python_type: astropy.table.Table}
"""
OWN = """
dataset_types:
  image: {formatter: fits_image, extension: .fits.fz, write: {compression: rice, quantize_level: 8}}
  "*_catalog": {formatter: parquet, write: {compression: gzip, row_group_rows: 10}}
storage_classes:
  StructuredDataDict: {formatter: json, write: {indent: 2}}
  Bytes: {formatter: hdf5, python_type: dict}
"""
DATA_ID = {"instrument": INSTRUMENT, "exposure": 1}


@pytest.fixture
def daemon(make_daemon: Callable[..., PantryDaemon]) -> PantryDaemon:
    return make_daemon()


def stored(butler: Butler, name: str) -> Path:
    """Find the file in the storage, without asking Pantry."""
    (found,) = Path(butler.info.root.removeprefix("file://")).glob(f"{butler.run}/{name}/**/{name}_*")
    return found


def made(daemon: PantryDaemon, tmp_path: Path) -> None:
    butler = Butler.create(
        "d", str(tmp_path / "repo"), formats=written(tmp_path / "r.yaml", REPOSITORY), socket=daemon.socket
    )
    furnish(butler, 1)
    butler.register_dataset_type("image", ["exposure"], "CCDData")
    butler.register_dataset_type("star_catalog", ["exposure"], "ArrowAstropy")


def written(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


@pytest.mark.req("DMS-MWBT-REQ-0025")
def test_a_repository_decides_for_everybody(daemon: PantryDaemon, tmp_path: Path) -> None:
    made(daemon, tmp_path)
    butler = Butler("d", run="run", socket=daemon.socket)
    # Written as HDF5, read as an astropy object.
    table = Table({"flux": [1.0, 2.0] * units.Jy, "name": ["a", "b"]})
    butler.put(table, "star_catalog", DATA_ID)
    with h5py.File(stored(butler, "star_catalog")) as file:
        assert list(file["data"]["flux"]) == [1.0, 2.0]
    found = butler.get("star_catalog", DATA_ID)
    assert type(found) is Table
    assert found["flux"].unit == units.Jy
    # A storage class of the repository's own, after a restart of the daemon too.
    butler.register_dataset_type("photometry", ["exposure"], "Photometry")
    daemon.stop()
    daemon.start()
    big = QTable({"flux": np.arange(100_000) * units.Jy})
    butler.put(big, "photometry", DATA_ID)
    with h5py.File(stored(butler, "photometry")) as file:
        assert file["data"].compression == "gzip"
    again = Butler("d", run="run", socket=daemon.socket).get("photometry", DATA_ID)
    assert type(again) is QTable
    assert (again["flux"] == big["flux"]).all()
    with pytest.raises(DatasetTypeError, match="unknown storage class 'Spectroscopy'"):
        butler.register_dataset_type("x", ["exposure"], "Spectroscopy")


@pytest.mark.req("DMS-MWBT-REQ-0060")
def test_a_user_configures_writers_locally(daemon: PantryDaemon, tmp_path: Path) -> None:
    made(daemon, tmp_path)
    own = Butler("d", run="mine", formats=written(tmp_path / "own.yaml", OWN), socket=daemon.socket)
    pixels = np.random.default_rng(0).normal(1000, 10, (128, 256)).astype("f4")
    own.put(CCDData(pixels, unit="adu"), "image", DATA_ID)
    path = stored(own, "image")
    assert path.name.endswith(".fits.fz")
    with fits.open(path, disable_image_compression=True) as hdus:
        assert (hdus[1].header["ZCMPTYPE"], hdus[1].header["ZQUANTIZ"]) == ("RICE_1", "SUBTRACTIVE_DITHER_2")
    own.put(Table({"x": np.arange(25)}), "star_catalog", DATA_ID)
    metadata = pq.ParquetFile(stored(own, "star_catalog")).metadata
    assert metadata.num_row_groups == 3
    assert metadata.row_group(0).column(0).compression == "GZIP"
    own.put({"a": [1]}, "config", DATA_ID)
    assert stored(own, "config").read_text() == '{\n  "a": [\n    1\n  ]\n}'
    # A file is taken as it is: what the user says is for objects.
    ref = own.put_file(io.BytesIO(b"as it is"), "blob", {**DATA_ID, "detector": 0}, run="files")
    assert Butler("d", socket=daemon.socket).get(ref) == b"as it is"
    # Others read what was written so, without the file, and write as they did.
    other = Butler("d", collections="mine", run="theirs", socket=daemon.socket)
    assert np.allclose(other.get("image", DATA_ID).data, pixels, atol=2.5)
    assert list(other.get("star_catalog", DATA_ID)["x"]) == list(range(25))
    other.put({"a": [1]}, "config", DATA_ID)
    assert stored(other, "config").read_text() == '{"a":[1]}'


def test_the_file_is_found_by_its_usual_name_or_a_variable(
    daemon: PantryDaemon, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made(daemon, tmp_path)
    (tmp_path / "pantry").mkdir()
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    assert not Butler("d", socket=daemon.socket).own_formats.dataset_types
    written(tmp_path / "pantry" / "formats.yaml", OWN)
    assert "image" in Butler("d", socket=daemon.socket).own_formats.dataset_types
    monkeypatch.setenv("PANTRY_FORMATS", str(written(tmp_path / "none.yaml", "")))
    assert not Butler("d", socket=daemon.socket).own_formats.dataset_types
    monkeypatch.setenv("PANTRY_FORMATS", str(tmp_path / "absent.yaml"))
    with pytest.raises(ConfigError, match="absent.yaml: cannot be read"):
        Butler("d", socket=daemon.socket)


def test_a_wrong_file_makes_no_repository(daemon: PantryDaemon, tmp_path: Path) -> None:
    made(daemon, tmp_path)
    path = written(tmp_path / "wrong.yaml", "dataset_types: {a: {formatter: jsn}}")
    with pytest.raises(ConfigError, match="unknown formatter 'jsn'"):
        Butler("d", formats=path, socket=daemon.socket)
    butler = Butler("d", socket=daemon.socket)
    done: Any = pantry(butler, "repo", "create", "wrong", str(tmp_path / "wrong"), "--formats", str(path))
    assert done.returncode != 0
    assert "unknown formatter 'jsn'" in done.stderr
    assert "wrong" not in [one.name for one in Butler.repositories(socket=daemon.socket)]
    assert not (tmp_path / "wrong").exists()
