"""The engineering facility database as users ask it: through the daemon, base and transformed alike."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import astropy.units as u
import numpy as np
import pyarrow.parquet as pq
import pytest
from astropy.table import Table
from astropy.time import Time, TimeDelta
from astropy.timeseries import TimeSeries
from tests.integration.command_line import pantry
from tests.integration.test_header_corrections import HEADER, write_raw
from tests.servers.efd import LENGTH_S, EfdPair
from tests.servers.efd_data import NIGHTS_TAI_S, NS, TOPICS, Sample, samples
from tests.servers.pantryd import PantryDaemon

from pantry.client import Butler, TimeJoin
from pantry.client.butler.times import instant_ns
from pantry.errors import (
    FormatterError,
    InvalidQueryError,
    InvalidRequestError,
    LimitExceededError,
    NotFoundError,
    PantryError,
    PermissionDeniedError,
)
from pantry.model.queries import TopicQuery
from pantry.model.timespan import Timespan
from pantry.wire.operations import RunQuery

TEMPERATURE, AZIMUTH, ROTATION = (TOPICS[number] for number in (0, 3, 7))
STATE = TOPICS[8]
MIDDLE = NIGHTS_TAI_S[1] * NS
BEGIN, END = MIDDLE - 2 * NS, MIDDLE + NS
EXPOSURE = 2025011000001


@pytest.fixture(scope="module")
def daemon(efd: EfdPair) -> Iterator[PantryDaemon]:
    """A daemon that knows both, the base one with a cache; and one that nobody may ask."""
    services = {name: {"root": one.root, "options": one.options, "ttl_s": 60} for name, one in efd.services().items()}
    services["secret"] = services["base"] | {"readers": []}
    with tempfile.TemporaryDirectory(prefix="pty-") as directory:
        with PantryDaemon(Path(directory), {"services": services}) as daemon:
            yield daemon
        assert daemon.unexpected_log_lines() == []


@pytest.fixture(scope="module")
def butler(daemon: PantryDaemon) -> Iterator[Butler]:
    with Butler.create("r", str(daemon.directory / "root"), socket=daemon.socket) as made:
        made.insert_dimension_records("instrument", {"name": "LATISS"})
        made.insert_dimension_records("physical_filter", {"instrument": "LATISS", "name": "r", "band": "r"})
        made.insert_dimension_records("day_obs", {"instrument": "LATISS", "id": 20250110})
        made.insert_dimension_records("group", {"instrument": "LATISS", "name": "g"})
        common = {"instrument": "LATISS", "physical_filter": "r", "day_obs": 20250110}
        span = {"timespan_begin": BEGIN, "timespan_end": END}
        made.insert_dimension_records("exposure", {"id": EXPOSURE, "obs_id": "e", "group": "g", **common, **span})
        made.insert_dimension_records("exposure", {"id": EXPOSURE + 1, "obs_id": "f", "group": "g", **common})
        made.insert_dimension_records("visit", {"id": 7, "name": "v", **common, **span})
        yield made


def between(topic: Any, begin_ns: int, end_ns: int) -> list[Sample]:
    return [one for one in samples(topic, 1, LENGTH_S) if begin_ns <= one.tai_ns < end_ns]


def ns(times: Time) -> list[int]:
    return [instant_ns(one) for one in times]


SERVICES = ["base", "transformed"]


@pytest.mark.req("DMS-MWBT-REQ-0042")
@pytest.mark.req("DMS-MWBT-REQ-0043")
@pytest.mark.req("DMS-MWBT-REQ-0044")
@pytest.mark.parametrize("service", SERVICES)
@pytest.mark.parametrize(
    "when",
    [
        {"visit": 7, "instrument": "LATISS"},
        {"exposure": EXPOSURE, "instrument": "LATISS"},
        {"data_id": {"exposure": EXPOSURE}},
        {"timespan": Timespan(BEGIN, END)},
        {"timespan": (BEGIN, END)},
        {"timespan": Time([BEGIN // NS, END // NS], format="unix_tai")},
        {"timespan": ("2025-01-11T00:00:35", "2025-01-11T00:00:38")},
    ],
    ids=["visit", "exposure", "data id", "timespan", "nanoseconds", "astropy", "text"],
)
def test_samples_of_a_visit_an_exposure_or_a_span(butler: Butler, service: str, when: dict[str, Any]) -> None:
    found = butler.efd.query(AZIMUTH.name, ["actualPosition", "inPosition"], **when, service=service)
    expected = between(AZIMUTH, BEGIN, END)
    assert isinstance(found, TimeSeries)
    assert found.colnames == ["time", "actualPosition", "inPosition"]
    assert found["time"].scale == "tai"
    assert ns(found["time"]) == [one.tai_ns for one in expected]
    assert found["actualPosition"].unit == u.deg
    assert list(found["actualPosition"].value) == [one.values["actualPosition"] for one in expected]
    assert found["inPosition"].dtype == bool


@pytest.mark.parametrize("service", SERVICES)
def test_partial_fields_and_empty_spans_keep_their_types(butler: Butler, service: str) -> None:
    fields = ["temperatureItem*", "location", "numChannels"]
    full = butler.efd.query(TEMPERATURE.name, fields, timespan=(BEGIN, END), form="astropy", service=service)
    expected = between(TEMPERATURE, BEGIN, END)
    assert [None if one is np.ma.masked else one for one in full["location"]] == [
        one.values["location"] for one in expected
    ]
    assert list(full["numChannels"]) == [one.values["numChannels"] for one in expected]
    empty = butler.efd.query(TEMPERATURE.name, fields, timespan=(END + 900 * NS, END + 901 * NS), service=service)
    assert isinstance(empty, TimeSeries)
    assert len(empty) == 0
    assert empty.colnames == full.colnames
    assert empty["temperatureItem0"].unit == u.deg_C
    assert empty["numChannels"].dtype == np.int64


@pytest.mark.parametrize("service", SERVICES)
def test_bins_margins_and_the_state_that_held(butler: Butler, service: str) -> None:
    means = butler.efd.query(ROTATION.name, timespan=(BEGIN, END), resample=500 * u.ms, service=service)
    assert ns(means["time"]) == [BEGIN + number * NS // 2 for number in range(6)]
    assert means.meta["resample_s"] == 0.5
    wide = butler.efd.query(ROTATION.name, exposure=EXPOSURE, margin=TimeDelta(1, format="sec"), service=service)
    assert ns(wide["time"]) == [one.tai_ns for one in between(ROTATION, BEGIN - NS, END + NS)]
    last = butler.efd.last(STATE.name, "summaryState", before=Time(END // NS, format="unix_tai"), service=service)
    expected = [one for one in samples(STATE, 1, LENGTH_S) if one.tai_ns <= END][-1]
    assert (ns(last["time"]), list(last["summaryState"])) == ([expected.tai_ns], [expected.values["summaryState"]])
    assert len(butler.efd.last(STATE.name, exposure=EXPOSURE, within=1e-6, service=service)) == 0
    one = butler.efd.query(TEMPERATURE.name, "salIndex", timespan=(0, END), index=2, form="arrow", service=service)
    assert set(one["salIndex"].to_pylist()) == {2}


def test_forms(butler: Butler) -> None:
    given = {"topic": AZIMUTH.name, "fields": "actualPosition", "timespan": (BEGIN, END), "service": "base"}
    frame = butler.efd.query(**given, form="pandas")
    assert str(frame.index[0]) == f"{np.datetime64(between(AZIMUTH, BEGIN, END)[0].tai_ns, 'ns')}".replace("T", " ")
    assert butler.efd.query(**given, form="arrow").column_names == ["time", "actualPosition"]
    table = butler.efd.query(**given, form="astropy")
    assert type(table) is Table
    assert table["actualPosition"].unit == u.deg
    with pytest.raises(InvalidRequestError, match="no form"):
        butler.efd.query(**given, form="csv")


def test_topics_and_fields_are_found_and_completed(butler: Butler) -> None:
    efd = butler.efd
    assert efd.services() == ["base", "secret", "transformed"]
    assert efd.topics(service="base") == sorted(one.name for one in TOPICS)
    assert efd.topics("ess", service="transformed") == sorted(one.name for one in TOPICS if "ESS" in one.name)
    field = efd.topic(TEMPERATURE.name, service="base").fields["temperatureItem3"]
    assert (field.type, field.unit) == ("float", "deg_C")
    with pytest.raises(InvalidQueryError) as failed:
        efd.query("lsst.sal.ESS.temprature", timespan=(BEGIN, END), service="base")
    assert TEMPERATURE.name in failed.value.hint
    with pytest.raises(InvalidRequestError, match="which EFD"):
        efd.topics()


def test_what_cannot_be_meant(butler: Butler) -> None:
    def refused(told: str, error: type[PantryError] = InvalidRequestError, **when: Any) -> None:
        with pytest.raises(error, match=told):
            butler.efd.query(AZIMUTH.name, service="base", **when)

    refused("when")
    refused("when", timespan=(BEGIN, END), exposure=EXPOSURE)
    refused("knows no exposure", exposure=1)
    refused("does not say when", exposure=EXPOSURE + 1)
    refused("has no time", detector=1)
    refused("two observations", exposure=EXPOSURE, visit=7)
    refused("has no detector", exposure=EXPOSURE, detector=3)
    refused("no length of time", timespan=(BEGIN, END), margin="long")
    refused("no length of time", timespan=(BEGIN, END), margin=3 * u.m)
    refused("bins of no length", timespan=(BEGIN, END), resample=0)
    with pytest.raises(LimitExceededError):
        butler.efd.query(AZIMUTH.name, timespan=(BEGIN, END), service="base", max_rows=10)
    with pytest.raises(NotFoundError, match="no service"):
        butler.efd.query(AZIMUTH.name, timespan=(BEGIN, END), service="nobody")


def test_the_second_time_nobody_is_asked(butler: Butler) -> None:
    question = TopicQuery(topic=ROTATION.name, start_tai_ns=BEGIN + 1, stop_tai_ns=END)
    answers = []
    for _ in range(2):
        answer, fds = butler.connection.call_with_fds(RunQuery(service="base", question=question))
        answers.append((answer.was_cached, os.pread(fds[0], answer.size_bytes, 0)))
        os.close(fds[0])
    assert [cached for cached, _ in answers] == [False, True]
    assert answers[0][1] == answers[1][1]


def test_the_command_line(butler: Butler, tmp_path: Path) -> None:
    found = pantry(butler, "efd", "topics", "mount", "--service", "transformed", "--json")
    assert json.loads(found.stdout) == sorted(one.name for one in TOPICS if "Mount" in one.name)
    found = pantry(butler, "efd", "fields", TEMPERATURE.name, "--service", "base")
    assert "temperatureItem15" in found.stdout
    assert "deg_C" in found.stdout
    span = ["--begin", "2025-01-11T00:00:35", "--end", "2025-01-11T00:00:38"]
    base = ["efd", "query", AZIMUTH.name, "--service", "base", "-f", "actualPosition"]
    expected = between(AZIMUTH, BEGIN, END)
    printed = pantry(butler, *base, *span).stdout.splitlines()
    assert printed[0] == '"time","actualPosition"'
    assert len(printed) == len(expected) + 1
    observed = [*base, "-r", "r", f"exposure={EXPOSURE}", "instrument=LATISS", "-o"]
    assert pantry(butler, *observed, str(tmp_path / "a.ecsv")).returncode == 0
    table = Table.read(tmp_path / "a.ecsv")
    assert ns(table["time"]) == [one.tai_ns for one in expected]
    assert table["actualPosition"].unit == u.deg
    assert "exists already" in pantry(butler, *observed, str(tmp_path / "a.ecsv")).stderr
    state = ["efd", "query", STATE.name, "--service", "base", "--before", "2025-01-11T00:00:38"]
    assert pantry(butler, *state, "-o", str(tmp_path / "a.parquet")).returncode == 0
    assert pq.read_table(tmp_path / "a.parquet").num_rows == 1
    wrong = pantry(butler, "efd", "query", "lsst.sal.MTMount.azimut", "--service", "base", *span)
    assert (wrong.returncode, "hint: did you mean" in wrong.stderr) == (1, True)


# -- joined to datasets ------------------------------------------------------------------------------


@pytest.mark.req("DMS-MWBT-REQ-0045")
@pytest.mark.parametrize("service", SERVICES)
def test_a_table_is_joined_with_samples(butler: Butler, service: str) -> None:
    times = [MIDDLE, MIDDLE + NS // 3, MIDDLE + 500 * NS]
    table = Table({"tai": np.array(times), "flux": [1.0, 2.0, 3.0]})
    topic = butler.efd.topic(AZIMUTH.name, service=service)
    join = TimeJoin(source=topic, method="previous", tolerance=1, columns=["actualPosition", "inPosition"])
    found = butler.join_by_time(table, join, time="tai", form="tai_ns")
    every = samples(AZIMUTH, 1, LENGTH_S)
    before = [[one for one in every if one.tai_ns <= instant][-1] for instant in times[:2]]
    assert list(found["azimuth_actualPosition"][:2]) == [one.values["actualPosition"] for one in before]
    assert found["azimuth_actualPosition"].mask.tolist() == [False, False, True]
    assert found["azimuth_actualPosition"].unit == u.deg
    assert found.meta["joined_by_time"][0]["topic"] == AZIMUTH.name
    with pytest.raises(InvalidRequestError, match="how far"):
        butler.join_by_time(table, TimeJoin(source=topic), time="tai", form="tai_ns")


@pytest.fixture(scope="module")
def raw(butler: Butler, daemon: PantryDaemon) -> dict[str, Any]:
    header = {**HEADER, "DAYOBS": "20250110", "OBSID": "AT_O_20250110_000009", "SEQNUM": 9}
    header |= {"DATE-BEG": "2025-01-11T00:00:36.000", "DATE-END": "2025-01-11T00:00:38.000", "EXPTIME": 2.0}
    path = write_raw(daemon.directory / "raw.fits", header)
    with Butler("r", socket=daemon.socket) as writer:
        writer.ingest_raws([path])
    return {"instrument": "LATISS", "exposure": 2025011000009, "detector": 0}


def with_merge(daemon: PantryDaemon, **merge: Any) -> Butler:
    rule = {"values": {"AIRTEMP": "temperatureItem1 [K]", "WHERE": "sensorName"}, "method": "previous", **merge}
    formats = {"dataset_types": {"raw": {"headers": {"merge": [rule]}}}}
    return Butler("r", collections="LATISS/raw/all", formats=formats, socket=daemon.socket)


@pytest.mark.req("DMS-MWBT-REQ-0044")
@pytest.mark.req("DMS-MWBT-REQ-0050")
@pytest.mark.parametrize("service", SERVICES)
def test_a_raw_has_values_of_the_efd_in_its_header(daemon: PantryDaemon, raw: dict[str, Any], service: str) -> None:
    """The middle of the exposure is the middle of the night."""
    with with_merge(daemon, topic=TEMPERATURE.name, service=service, index=1, within_s=5) as butler:
        metadata = butler.get("raw.metadata", raw)
        amendments = butler.get("raw.amendments", raw)
    every = [one for one in samples(TEMPERATURE, 1, LENGTH_S) if one.values["salIndex"] == 1]
    held = [one for one in every if one.tai_ns <= MIDDLE][-1]
    assert metadata["AIRTEMP"] == pytest.approx(held.values["temperatureItem1"] + 273.15, abs=1e-9)
    assert metadata["WHERE"].rstrip() == held.values["sensorName"].rstrip()
    assert any(TEMPERATURE.name in one.source for one in amendments)


def test_a_raw_is_read_without_an_efd(daemon: PantryDaemon, raw: dict[str, Any]) -> None:
    topic = TEMPERATURE.name
    left_out = pytest.warns(UserWarning, match="is left out of the header: no service")
    with with_merge(daemon, topic=topic, service="gone") as butler, left_out:
        assert "AIRTEMP" not in butler.get("raw.metadata", raw)
    with with_merge(daemon, topic=topic, service="gone", required=True) as butler, pytest.raises(NotFoundError):
        butler.get("raw.metadata", raw)
    with (
        with_merge(daemon, topic="lsst.sal.no", service="base") as butler,
        pytest.raises(FormatterError, match="topic"),
    ):
        butler.get("raw.metadata", raw)
    with warnings.catch_warnings(), with_merge(daemon, topic=topic, service="base", within_s=1e-6) as butler:
        warnings.simplefilter("error")
        assert "AIRTEMP" not in butler.get("raw.metadata", raw)


@pytest.mark.root
def test_only_readers_may_ask(
    make_daemon: Callable[..., PantryDaemon], efd: EfdPair, short_dir: Path, needs_root: None
) -> None:
    service = {"root": efd.base.root, "options": efd.base.options, "ttl_s": 60}
    services = {"efd": service | {"readers": ["*"]}, "closed": service}
    daemon = make_daemon({"services": services}, system=True)
    program = """
import sys
from pantry.client.connection import connect
from pantry.client.efd.facility import Efd
efd = Efd(connect(sys.argv[1]))
print(efd.services(), len(efd.topics()))
try:
    efd.topics(service="closed")
except Exception as exc:
    print(type(exc).__name__, str(exc).count("password"))
"""
    done = subprocess.run(
        ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", sys.executable, "-c", program, daemon.socket],
        env={**os.environ, "HOME": "/nonexistent"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout.splitlines() == [f"['efd'] {len(TOPICS)}", f"{PermissionDeniedError.__name__} 0"], done.stderr
