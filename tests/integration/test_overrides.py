"""An operator's overrides, through a real daemon."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tests.integration.observatory import INSTRUMENT, furnish
from tests.servers.pantryd import PantryDaemon

from pantry.client import Butler
from pantry.errors import ConfigError, DatasetNotFoundError

OVERRIDES = [
    {"dataset_types": ["bias*"], "collections": ["better"], "within": ["calib*"]},
    {"dataset_types": ["config"], "collections": ["picked"], "repositories": ["d"]},
    {"dataset_types": ["blob"], "collections": ["nowhere"]},
    {"dataset_types": ["*"], "collections": ["wrong"], "repositories": ["others*"]},
]


@pytest.fixture
def butler(make_daemon: Callable[..., PantryDaemon], tmp_path: Path) -> Iterator[Butler]:
    daemon = make_daemon({"overrides": OVERRIDES})
    with Butler.create("d", str(tmp_path / "repo"), socket=daemon.socket) as made:
        furnish(made, 4)
        made.register_dataset_type("bias", ["instrument", "detector"], "StructuredDataDict", is_calibration=True)
        for run in ("one", "two", "new"):
            for exposure in (1, 2, 3):
                made.put({"run": run}, "config", instrument=INSTRUMENT, exposure=exposure, run=run)
        made.put({"run": "new"}, "config", instrument=INSTRUMENT, exposure=4, run="new")
        made.collections.register("picked", "TAGGED")
        made.associate("picked", made.query_datasets("config", "new", where="exposure IN (2, 4)"))
        yield made


def _runs(butler: Butler, *collections: str, **options: bool | int) -> dict[int, str]:
    refs = butler.query_datasets("config", collections, **options)  # type: ignore[arg-type]
    return {ref.data_id["exposure"]: ref.run for ref in refs}  # type: ignore[misc]


@pytest.mark.req("DMS-MWBT-REQ-0087")
def test_chosen_datasets_are_found_in_place_of_others(butler: Butler) -> None:
    # Exposure 4 is among those picked, and not in what is searched: an override does not add.
    assert _runs(butler, "one") == {1: "one", 2: "new", 3: "one"}
    assert _runs(butler, "two", "one") == {1: "two", 2: "new", 3: "two"}
    assert _runs(butler, "new") == {1: "new", 2: "new", 3: "new", 4: "new"}
    assert _runs(butler, "one", exposure=2) == {2: "new"}
    assert butler.count_datasets("config", "one") == 3
    assert [ref.run for ref in butler.query_datasets("config", "one", order_by="-exposure")] == ["one", "new", "one"]
    for exposure, run in ((1, "one"), (2, "new")):
        found = butler.find_dataset("config", instrument=INSTRUMENT, exposure=exposure, collections="one")
        assert found is not None
        assert found.run == run
        assert butler.get("config", instrument=INSTRUMENT, exposure=exposure, collections="one") == {"run": run}
    with pytest.raises(DatasetNotFoundError):
        butler.get("config", instrument=INSTRUMENT, exposure=4, collections="one")
    # What is asked for itself, or all of it, is as it is.
    listed = butler.query_datasets("config", "one", find_first=False)
    assert {ref.run for ref in listed} == {"one"}
    assert all(butler.get(ref) == {"run": "one"} for ref in listed)


@pytest.mark.req("DMS-MWBT-REQ-0087")
def test_other_calibrations_for_a_time(butler: Butler) -> None:
    for run in ("cp", "cp2"):
        for detector in (0, 1):
            butler.put({"run": run}, "bias", instrument=INSTRUMENT, detector=detector, run=run)
    for name, run, detectors, span in (
        ("calib/now", "cp", "detector < 2", ("2026-01-01", "2027-01-01")),
        ("mine", "cp", "detector < 2", ("2026-01-01", "2027-01-01")),
        ("better", "cp2", "detector = 1", ("2026-03-01", "2026-04-01")),
    ):
        butler.collections.register(name, "CALIBRATION")
        butler.certify(name, butler.query_datasets("bias", run, where=detectors), span)

    def run_of(detector: int, day: tuple[str, str], collection: str) -> str:
        found = butler.find_dataset(
            "bias", instrument=INSTRUMENT, detector=detector, collections=collection, timespan=day
        )
        assert found is not None
        return found.run

    march, may = ("2026-03-15", "2026-03-16"), ("2026-05-15", "2026-05-16")
    assert run_of(1, march, "calib/now") == "cp2"
    assert run_of(0, march, "calib/now") == "cp"
    assert run_of(1, may, "calib/now") == "cp"
    assert run_of(1, march, "mine") == "cp"


def test_an_override_that_cannot_hold_is_an_error(butler: Butler) -> None:
    butler.put(b"x", "blob", instrument=INSTRUMENT, exposure=1, detector=0, run="one")
    for ask in (butler.query_datasets, lambda *words: butler.get(*words[:1], collections="one", **EXPOSURE)):
        with pytest.raises(ConfigError, match="override of blob.*nowhere"):
            ask("blob", "one")
    assert butler.query_datasets("blob", "one", find_first=False)


EXPOSURE = {"instrument": INSTRUMENT, "exposure": 1, "detector": 0}
