"""One put to several repositories, in a format each: a directory, another one, and an object store."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from astropy.io import fits
from astropy.table import Table
from tests.integration.observatory import INSTRUMENT, furnish
from tests.servers.pantryd import PantryDaemon

from pantry.client import Butler
from pantry.errors import (
    DatasetExistsError,
    FormatterError,
    InvalidRequestError,
    MissingDatasetTypeError,
    PermissionDeniedError,
    RepositoryNotFoundError,
)

DATA_ID = {"instrument": INSTRUMENT, "exposure": 1}
FORMATS: dict[str, dict[str, Any]] = {
    "archive": {"dataset_types": {"stars": {"formatter": "fits_table"}}},
    "analysis": {"dataset_types": {"stars": {"formatter": "hdf5"}}},
    "bucket": {"dataset_types": {"stars": {"formatter": "parquet"}}},
}


@pytest.fixture
def daemon(make_daemon: Callable[..., PantryDaemon], storage_config: dict[str, Any]) -> PantryDaemon:
    return make_daemon(storage_config)


@pytest.fixture
def butler(daemon: PantryDaemon, tmp_path: Path, s3_root: str) -> Butler:
    for name, formats in FORMATS.items():
        root = s3_root if name == "bucket" else str(tmp_path / name)
        made = Butler.create(name, root, formats=formats, socket=daemon.socket)
        furnish(made, 3)
        made.register_dataset_type("stars", ["exposure"], "ArrowAstropy")
    return Butler("archive", run="night", outputs=tuple(FORMATS), socket=daemon.socket)


def files(root: Path) -> list[Path]:
    """Find the datasets' files; what begins so is tidied up just after the answer."""
    return sorted(
        one
        for one in root.rglob("*")
        if one.is_file() and "sqlite" not in one.name and one.name != "pantry.yaml" and one.name[:8] != ".pantry-"
    )


def of(daemon: PantryDaemon, name: str) -> Butler:
    return Butler(name, collections="night", socket=daemon.socket)


@pytest.mark.req("DMS-MWBT-REQ-0063")
@pytest.mark.req("DMS-MWBT-REQ-0075")
def test_each_repository_gets_its_own_format(butler: Butler, daemon: PantryDaemon, tmp_path: Path) -> None:
    stars = Table({"ra": np.array([10.0, 20.0]), "name": ["a", "b"]})
    ref = butler.put(stars, "stars", DATA_ID)
    assert (ref.run, ref.dataset_type.name, dict(ref.data_id.required)) == ("night", "stars", DATA_ID)
    with fits.open(files(tmp_path / "archive")[0]) as hdus:
        assert list(hdus[1].data["ra"]) == [10.0, 20.0]
    with h5py.File(files(tmp_path / "analysis")[0]) as file:
        assert list(file["data"]["ra"]) == [10.0, 20.0]
    found = {}
    for name in FORMATS:
        mine = of(daemon, name)
        assert list(mine.get("stars", DATA_ID)["name"]) == ["a", "b"]
        with mine.open("stars", DATA_ID) as file:
            found[name] = file.read(4)
        assert mine.find_dataset("stars", DATA_ID) == ref, "one dataset has one id everywhere"
    assert found == {"archive": b"SIMP", "analysis": b"\x89HDF", "bucket": b"PAR1"}


def test_equal_formats_are_formatted_once(
    butler: Butler, daemon: PantryDaemon, monkeypatch: pytest.MonkeyPatch
) -> None:
    from pantry.client.formatters.plain import JsonFormatter

    written = []
    write = JsonFormatter.write
    monkeypatch.setattr(
        JsonFormatter, "write", lambda self, obj, file, request: (written.append(obj), write(self, obj, file, request))
    )
    butler.put({"gain": 1.5}, "config", DATA_ID)
    assert len(written) == 1
    assert [of(daemon, name).get("config", DATA_ID) for name in FORMATS] == [{"gain": 1.5}] * 3


def test_a_run_for_each_and_a_given_id(butler: Butler, daemon: PantryDaemon) -> None:
    ref = butler.put({"n": 1}, "config", DATA_ID, outputs={"archive": "keep", "bucket": "share"})
    assert ref.run == "keep"
    assert Butler("bucket", collections="share", socket=daemon.socket).find_dataset("config", DATA_ID) == ref
    # The same dataset to one more, by its reference.
    again = butler.put({"n": 1}, ref, outputs={"analysis": "keep"})
    assert again == ref
    twin = pickle.loads(pickle.dumps(butler))  # noqa: S301 - just made
    assert twin.put({"n": 2}, "config", instrument=INSTRUMENT, exposure=2).run == "night"
    assert of(daemon, "bucket").get("config", exposure=2, instrument=INSTRUMENT) == {"n": 2}


@pytest.mark.req("DMS-MWBT-REQ-0074")
@pytest.mark.req("DMS-MWBT-REQ-0076")
def test_one_that_has_it_already_refuses_for_all(butler: Butler, daemon: PantryDaemon, tmp_path: Path) -> None:
    of_bucket = Butler("bucket", run="night", socket=daemon.socket)
    of_bucket.put(Table({"ra": [1.0]}), "stars", DATA_ID)
    with pytest.raises(DatasetExistsError, match="'night' already has a stars"):
        butler.put(Table({"ra": [2.0]}), "stars", DATA_ID)
    assert files(tmp_path / "archive") == files(tmp_path / "analysis") == []
    assert not of(daemon, "archive").collections.query("*")
    assert list(of_bucket.get("stars", DATA_ID)["ra"]) == [1.0]


@pytest.mark.req("DMS-MWBT-REQ-0076")
def test_an_object_that_one_format_cannot_hold_goes_nowhere(butler: Butler, tmp_path: Path) -> None:
    with pytest.raises(FormatterError):
        butler.put(object(), "stars", DATA_ID)
    assert files(tmp_path / "archive") == files(tmp_path / "analysis") == []
    butler.put(Table({"ra": [1.0]}), "stars", DATA_ID)


def test_mistakes(butler: Butler, daemon: PantryDaemon) -> None:
    with pytest.raises(RepositoryNotFoundError, match="nowhere"):
        butler.put({}, "config", DATA_ID, outputs=["archive", "nowhere"])
    with pytest.raises(InvalidRequestError, match="each once"):
        butler.put({}, "config", DATA_ID, outputs=["archive", "archive"])
    with pytest.raises(InvalidRequestError, match="not both"):
        butler.put({}, "config", DATA_ID, run="a", outputs={"archive": "b"})
    with pytest.raises(MissingDatasetTypeError):
        butler.put({}, "nothing", DATA_ID)
    with pytest.raises(PermissionDeniedError, match="read-only"):
        butler.clone(writeable=False).put({}, "config", DATA_ID)
    assert not of(daemon, "archive").collections.query("*")
