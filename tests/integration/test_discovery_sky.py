"""Visits and tracts by their regions: from Python and the command line, through a real daemon."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from astropy.time import Time
from lsst.sphgeom import Angle, Circle, LonLat, UnitVector3d
from tests.servers.pantryd import PantryDaemon

from pantry.client import Butler
from pantry.errors import InvalidQueryError
from pantry.model.datasets import DatasetType


def circle(ra: float, radius: float = 1.0) -> Circle:
    return Circle(UnitVector3d(LonLat.fromDegrees(ra, 0)), Angle.fromDegrees(radius))


@pytest.fixture
def butler(make_daemon: Callable[..., PantryDaemon], tmp_path: Path) -> Iterator[Butler]:
    """Visit n at right ascension 10 n, n minutes after 2025-01-01T00:00:00 TAI; a tract half a degree beside each."""
    with Butler.create("d", str(tmp_path / "repo"), socket=make_daemon().socket) as made:
        begin = 1_735_689_600_000_000_000
        for element, values in (
            ("instrument", {"name": "Cam"}),
            ("day_obs", {"instrument": "Cam", "id": 20250101}),
            ("physical_filter", {"instrument": "Cam", "name": "r_1", "band": "r"}),
            ("skymap", {"name": "map", "hash": "00"}),
        ):
            made.insert_dimension_records(element, values)
        for number in range(1, 5):
            when = (begin + number * 60_000_000_000, begin + number * 60_000_000_000 + 1)
            values = {"instrument": "Cam", "name": f"v{number}", "physical_filter": "r_1", "day_obs": 20250101}
            made.insert_dimension_records(
                "visit", {"id": number, "region": circle(10 * number), "timespan": when, **values}
            )
            made.insert_dimension_records("tract", {"skymap": "map", "id": number, "region": circle(10 * number + 0.5)})
        made.register_dataset_type(DatasetType(name="note", dimensions=("visit",), storage_class="StructuredDataDict"))
        for number in range(1, 5):
            made.put({"n": number}, "note", instrument="Cam", visit=number, run="run")
        yield made


def visits(butler: Butler, where: str, **bind: object) -> list[object]:
    return [
        ref.data_id["visit"] for ref in butler.query_datasets("note", "run", where=where, bind=bind, order_by="visit")
    ]


@pytest.mark.req("DMS-MWBT-REQ-0080")
def test_which_datasets_could_go_into_a_tract(butler: Butler) -> None:
    assert visits(butler, "skymap = 'map' AND tract IN (2, 3)") == [2, 3]
    assert [one["visit"] for one in butler.query_data_ids("visit", skymap="map", tract=4)] == [4]
    words = ["query-data-ids", "d", "tract", "-w", "instrument = 'Cam' AND visit = 3", "--json"]
    command = [sys.executable, "-m", "pantry.client.cli.main", "--socket", butler.connection.socket_path, *words]
    found = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    assert json.loads(found.stdout) == [{"skymap": "map", "tract": 3}]


def test_regions_and_times_as_bind_values(butler: Butler) -> None:
    assert visits(butler, "visit.region OVERLAPS here", here=circle(20.0, 0.1)) == [2]
    assert visits(butler, "visit.region OVERLAPS :here", here=LonLat.fromDegrees(30.5, 0)) == [3]
    assert visits(butler, "visit.timespan.begin < soon", soon=Time("2025-01-01T00:02:30", scale="tai")) == [1, 2]
    with pytest.raises(InvalidQueryError, match="only overlap another region"):
        visits(butler, "visit.region OVERLAPS here", here=5)
