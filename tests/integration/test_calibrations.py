"""Calibrations: certified, found by the time of an exposure, decertified."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tests.integration.observatory import INSTRUMENT, furnish
from tests.servers.pantryd import PantryDaemon

from pantry.client import Butler
from pantry.errors import ConflictError, DatasetNotFoundError, DatasetTypeError
from pantry.model.collections import CollectionType
from pantry.model.timespan import Timespan

DAY_NS = 86_400_000_000_000
# 2026-03-15 TAI.
START_NS = 20527 * DAY_NS


@pytest.fixture
def butler(make_daemon: Callable[..., PantryDaemon], short_dir: Path) -> Iterator[Butler]:
    """A repository with one exposure on each of three days, and a bias of each of two runs."""
    daemon = make_daemon()
    Butler.create("local", str(short_dir / "root"), socket=daemon.socket).close()
    with Butler("local", socket=daemon.socket) as butler:
        furnish(butler, n_exposures=1)
        for number in (101, 102, 103):
            begin_ns = START_NS + (number - 101) * DAY_NS
            butler.insert_dimension_records(
                "exposure",
                {
                    "instrument": INSTRUMENT,
                    "id": number,
                    "obs_id": f"T_{number}",
                    "physical_filter": "r_1",
                    "day_obs": 20260315,
                    "group": "g",
                    "timespan": (begin_ns, begin_ns + 30_000_000_000),
                },
            )
        butler.register_dataset_type("bias", ["instrument", "detector"], "StructuredDataDict", is_calibration=True)
        for run in ("one", "two"):
            butler.put({"from": run}, "bias", instrument=INSTRUMENT, detector=0, run=run)
        yield butler


def certify(butler: Butler, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "pantry.client.cli.main", "certify-calibrations", "local", *arguments],
        env={**os.environ, "PANTRY_SOCKET": str(butler._socket)},
        capture_output=True,
        text=True,
        check=False,
    )


def value(butler: Butler, exposure: int) -> str:
    found = butler.get("bias", instrument=INSTRUMENT, exposure=exposure, detector=0, collections="calib")
    return str(found["from"])


def test_a_calibration_is_read_for_an_exposure(butler: Butler) -> None:
    butler.collections.register("calib", CollectionType.CALIBRATION)
    (one,), (two,) = (butler.query_datasets("bias", run) for run in ("one", "two"))
    assert butler.certify("calib", [one], (None, "2026-03-16")) == 1
    assert butler.certify("calib", [two], ("2026-03-16", "2026-03-17")) == 1
    assert [value(butler, exposure) for exposure in (101, 102)] == ["one", "two"]
    with pytest.raises(DatasetNotFoundError):
        value(butler, 103)
    with pytest.raises(ConflictError, match="give a shorter timespan"):
        butler.get("bias", instrument=INSTRUMENT, detector=0, collections="calib")
    # By a reference to something that was observed then.
    butler.put({}, "config", instrument=INSTRUMENT, exposure=102, run="one")
    (config,) = butler.query_datasets("config", "one")
    assert butler.get_deferred("bias", config.data_id, detector=0, collections="calib").ref == two
    assert butler.exists("bias", config.data_id, detector=0, collections="calib")

    # As in Gen3, find_dataset searches calibrations only for a time that is given.
    found = {
        name: butler.find_dataset("bias", instrument=INSTRUMENT, detector=0, collections="calib", timespan=timespan)
        for name, timespan in {
            "none": None,
            "pair": ("2026-03-15", "2026-03-16"),
            "span": Timespan(START_NS + DAY_NS, START_NS + DAY_NS + 1),
            "late": ("2026-03-18", None),
        }.items()
    }
    assert found == {"none": None, "pair": one, "span": two, "late": None}

    # What was read is not remembered beyond a change.
    data_ids = [{"instrument": INSTRUMENT, "detector": 0}]
    assert butler.decertify("calib", "bias", ("2026-03-16", None), data_ids=[{**data_ids[0], "detector": 1}]) == 0
    assert butler.decertify("calib", "bias", ("2026-03-16", None), data_ids=data_ids) == 1
    with pytest.raises(DatasetNotFoundError):
        value(butler, 102)
    assert value(butler, 101) == "one"


def test_what_cannot_be_certified(butler: Butler) -> None:
    butler.collections.register("calib", CollectionType.CALIBRATION)
    config = butler.put({}, "config", instrument=INSTRUMENT, exposure=1, run="one")
    with pytest.raises(DatasetTypeError, match="config is not a calibration"):
        butler.certify("calib", [config], (None, None))


def test_the_command_certifies_the_first_of_a_chain(butler: Butler) -> None:
    butler.collections.register("chain", CollectionType.CHAINED)
    butler.collections.redefine_chain("chain", ["two", "one"])
    done = certify(butler, "chain", "calib", "bias", "--begin-date", "2026-03-16", "--end-date", "2026-03-17")
    assert (done.returncode, done.stderr) == (0, "1 bias certified in calib\n")
    assert butler.collections.get_info("calib").type is CollectionType.CALIBRATION
    assert value(butler, 102) == "two"
    for exposure in (101, 103):
        with pytest.raises(DatasetNotFoundError):
            value(butler, exposure)
    again = certify(butler, "one", "calib", "bias")
    assert again.returncode == 1
    assert "already has a bias valid" in again.stderr
    nothing = certify(butler, "one", "calib", "bias", "--begin-date", "soon")
    assert nothing.returncode == 1
    assert "bad timespan" in nothing.stderr


def test_the_command_searches_all_inputs_if_asked(butler: Butler) -> None:
    butler.put({"from": "two"}, "bias", instrument=INSTRUMENT, detector=1, run="two")
    butler.collections.register("chain", CollectionType.CHAINED)
    butler.collections.redefine_chain("chain", ["one", "two"])
    done = certify(butler, "chain", "calib", "bias", "--search-all-inputs")
    assert (done.returncode, done.stderr) == (0, "2 bias certified in calib\n")
    assert value(butler, 101) == "one"
    assert certify(butler, "one", "elsewhere", "config").returncode == 1
    assert "elsewhere" not in butler.collections.query()
