"""Base and transformed EFD: the same questions, and equal answers; judged by the rule that made the samples."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterator
from typing import Any

import psycopg
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import trio
from astropy.table import Table
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.servers.efd import LENGTH_S, EfdPair, Service, transformed
from tests.servers.efd_data import NIGHTS_TAI_S, NS, TOPICS, Sample, TopicData, described, fields_of, samples
from tests.servers.influxdb import line

from pantry.backends.admission import Admission
from pantry.backends.efd import EfdBackend
from pantry.backends.querying import NamesQuery, Query, Statement, TopicQuery
from pantry.errors import (
    BackendAccessError,
    BackendError,
    ConfigError,
    InvalidQueryError,
    LimitExceededError,
    PantryError,
    TransientBackendError,
)

Ask = Callable[[Query], dict[str, pa.Table]]
_BY_NAME = {topic.name: topic for topic in TOPICS}
_TEMPERATURE, _AZIMUTH, _ROTATION = (
    "lsst.sal.ESS.temperature",
    "lsst.sal.MTMount.azimuth",
    "lsst.sal.MTRotator.rotation",
)
_STATE = "lsst.sal.MTMount.logevent_summaryState"
_HEXAPOD = TOPICS[-1].name
_MIDDLE = tuple(second * NS for second in NIGHTS_TAI_S)


def answer(service: Service, query: Query, **options: Any) -> pa.Table:
    """Ask one service, once."""

    async def run() -> pa.Table:
        backend = EfdBackend(service.root, {**service.options, **options}, Admission(user_limit=2, node_limit=4))
        with tempfile.TemporaryFile() as file:
            try:
                outcome = await backend.run_into(query, file.fileno())
            finally:
                await backend.aclose()
            assert outcome.size_bytes == os.fstat(file.fileno()).st_size
            table = pq.read_table(file)
        assert outcome.rows == table.num_rows
        return table

    return trio.run(run)


@pytest.fixture(scope="module")
def ask(efd: EfdPair) -> Iterator[Ask]:
    """Ask both, with backends that are kept."""
    backends = {}
    for name, service in efd.services().items():
        backends[name] = EfdBackend(service.root, service.options, Admission(user_limit=2, node_limit=4))

    async def run(backend: EfdBackend, query: Query) -> pa.Table:
        with tempfile.TemporaryFile() as file:
            await backend.run_into(query, file.fileno())
            return pq.read_table(file)

    def both(query: Query) -> dict[str, pa.Table]:
        return {name: trio.run(run, backend, query) for name, backend in backends.items()}

    yield both
    for backend in backends.values():
        trio.run(backend.aclose)


def query(topic: str, start: float, stop: float, *fields: str, night: int = 1, **more: Any) -> TopicQuery:
    """Ask for a span in seconds from the middle of a night."""
    begin, end = (_MIDDLE[night] + round(seconds * NS) for seconds in (start, stop))
    return TopicQuery(topic=topic, fields=fields, start_tai_ns=begin, stop_tai_ns=end, **more)


def expected(asked: TopicQuery) -> list[dict[str, Any]]:
    """Answer a question from the rule, in plain Python."""
    topic = _BY_NAME[asked.topic]
    names = _names(topic, asked.fields)
    every = [one for night in range(len(_MIDDLE)) for one in samples(topic, night, LENGTH_S)]
    found = sorted(
        (
            one
            for one in every
            if asked.start_tai_ns <= one.tai_ns < asked.stop_tai_ns + asked.nearest_before
            and asked.index in (None, one.values["salIndex"])
            and any(one.values[name] is not None for name in names)
        ),
        key=lambda one: one.tai_ns,
    )
    if asked.nearest_before:
        found = found[-1:]
    if asked.resample_ns:
        names = [name for name in names if fields_of(topic)[name] in ("double precision", "bigint")]
        return _means(found, names, asked)
    return [{"time": one.tai_ns, **{name: one.values[name] for name in names}} for one in found]


def _names(topic: TopicData, wanted: tuple[str, ...]) -> list[str]:
    known = list(fields_of(topic))
    found: dict[str, None] = {}
    for one in wanted:
        base = one.rstrip("*")
        matching = [name for name in known if name.startswith(base) and name[len(base) :].isdigit()]
        found |= dict.fromkeys(sorted(matching, key=lambda name: int(name[len(base) :])) if "*" in one else [one])
    return list(found) or known


def _means(found: list[Sample], names: list[str], asked: TopicQuery) -> list[dict[str, Any]]:
    bins: dict[int, list[Sample]] = {}
    for one in found:
        bins.setdefault((one.tai_ns - asked.start_tai_ns) // asked.resample_ns, []).append(one)
    rows = []
    for number, members in sorted(bins.items()):
        row: dict[str, Any] = {"time": asked.start_tai_ns + number * asked.resample_ns}
        for name in names:
            values = [float(one.values[name]) for one in members if one.values[name] is not None]
            total = 0.0
            for value in values:  # not sum(), which is more exact from Python 3.12 on
                total += value
            row[name] = total / len(values) if values else None
        if any(row[name] is not None for name in names):
            rows.append(row)
    return rows


def check(answers: dict[str, pa.Table], asked: TopicQuery) -> None:
    """Both are equal, with units and descriptions; and they are what the rule says."""
    base, other = answers["base"], answers["transformed"]
    assert base.schema.equals(other.schema, check_metadata=True)
    assert base.equals(other)
    rows = expected(asked)
    assert base.num_rows == len(rows)
    columns = base.set_column(0, "time", base["time"].cast(pa.int64())).to_pydict()
    for name in columns:
        assert columns[name] == [row[name] for row in rows], name


_SPANS = {"all": (-9, 9), "part": (-2.5, 1.25), "short": (0.3, 0.9), "instants": (0.1, 0.100001), "outside": (300, 400)}
REQUESTS = [
    *(pytest.param(query(one.name, -9, 9, night=n), id=f"all-{one.name}-{n}") for one in TOPICS for n in (0, 2)),
    *(pytest.param(query(_AZIMUTH, *span, night=0), id=f"leap-{name}") for name, span in _SPANS.items()),
    *(pytest.param(query(_TEMPERATURE, *at, "temperatureItem*"), id=f"array-{name}") for name, at in _SPANS.items()),
    *(pytest.param(query(_TEMPERATURE, -9, 9, "location", index=one), id=f"index-{one}") for one in (1, 2, 3, 4)),
    *(
        pytest.param(query(_ROTATION, -4, 4, night=0, resample_ns=round(length * NS)), id=f"bins-{length}")
        for length in (0.001, 0.037, 1, 2.5, 100)
    ),
    pytest.param(query(_TEMPERATURE, -9, 9, resample_ns=2 * NS, index=2), id="bins-of-an-index"),
    pytest.param(query("lsst.sal.MTMount.elevation", -9, 9, "state", resample_ns=NS), id="bins-of-a-partial-field"),
    pytest.param(query(_TEMPERATURE, -9, 9, "temperatureItem3", "salIndex", "temperatureItem1"), id="order-of-fields"),
    pytest.param(query("lsst.sal.ESS.airTurbulence", -9, 9, "sonicTemperature", night=0), id="field-not-yet-there"),
    pytest.param(query("lsst.sal.ESS.airTurbulence", -9, 9, night=0), id="field-not-yet-there-beside-others"),
    pytest.param(query(_STATE, -9, 1, "reason", nearest_before=True), id="nearest-of-a-partial-field"),
    pytest.param(query(_ROTATION, -1, 0.0, night=0, nearest_before=True), id="nearest-in-the-leap-second"),
    pytest.param(query(_ROTATION, -1, 4_000_000, nearest_before=True), id="nearest-of-long-ago"),
    pytest.param(query(_HEXAPOD, -9, 3, nearest_before=True, index=2), id="nearest-of-an-index"),
    pytest.param(query(_ROTATION, 100, 200, nearest_before=True), id="nearest-of-none"),
    pytest.param(TopicQuery(topic=_STATE, start_tai_ns=0, stop_tai_ns=2**62), id="all-times"),
]  # fmt: skip


@pytest.mark.req("DMS-MWBT-REQ-0042")
@pytest.mark.req("DMS-MWBT-REQ-0043")
@pytest.mark.req("DMS-MWBT-REQ-0044")
@pytest.mark.parametrize("asked", REQUESTS)
def test_both_give_the_same_answer(ask: Ask, asked: TopicQuery) -> None:
    check(ask(asked), asked)


def test_there_are_fifty_requests() -> None:
    assert len(REQUESTS) >= 50


@settings(max_examples=25)
@given(data=st.data())
def test_any_request_gives_the_same_answer(ask: Ask, data: st.DataObject) -> None:
    topic = data.draw(st.sampled_from(TOPICS))
    fields = data.draw(
        st.lists(st.sampled_from([*fields_of(topic), *(f"{one}*" for one in _arrays(topic))]), max_size=4)
    )
    resample_ns = data.draw(st.sampled_from([0, 0, 1_000_000, 700_000_000, 3 * NS]))
    if resample_ns:
        fields = [one for one in fields if fields_of(topic).get(one) not in ("boolean", "text")]
    edges = [
        one.tai_ns + off for night in range(3) for one in samples(topic, night, LENGTH_S)[:3] for off in (-1, 0, 1)
    ]
    near = st.integers(-8 * NS, 8 * NS)
    instant = st.one_of(st.sampled_from(edges), st.tuples(st.sampled_from(_MIDDLE), near).map(sum))
    start, stop = sorted([data.draw(instant), data.draw(instant)])
    asked = TopicQuery(
        topic=topic.name,
        fields=tuple(fields),
        start_tai_ns=start,
        stop_tai_ns=stop,
        index=data.draw(st.sampled_from([None, None, 1, 2])),
        nearest_before=not resample_ns and data.draw(st.booleans()),
        resample_ns=resample_ns,
    )
    check(ask(asked), asked)


def _arrays(topic: TopicData) -> list[str]:
    return sorted({name.rstrip("0123456789") for name in topic.floats if name[-1].isdigit()})


def test_names_types_and_units_are_listed(ask: Ask) -> None:
    answers = ask(NamesQuery())
    assert answers["base"].equals(answers["transformed"])
    assert answers["base"]["topic"].to_pylist() == sorted(topic.name for topic in TOPICS)
    assert answers["base"]["description"][0].as_py().startswith("Topic")
    answers = ask(NamesQuery(topic=_TEMPERATURE))
    assert answers["base"].equals(answers["transformed"])
    rows = {row["field"]: row for row in answers["base"].to_pylist()}
    assert list(rows)[-1] == "temperatureItem15"
    assert list(rows)[-14] == "temperatureItem2"
    assert rows["temperatureItem2"]["unit"], rows["temperatureItem2"]["description"] == described("temperatureItem2")
    assert [rows[name]["type"] for name in ("salIndex", "sensorName", "temperatureItem0")] == ["int", "string", "float"]


def test_astropy_reads_time_and_units(efd: EfdPair) -> None:
    for service in efd.services().values():

        async def run(service: Service = service) -> Table:
            backend = EfdBackend(service.root, service.options, Admission(user_limit=2, node_limit=4))
            with tempfile.NamedTemporaryFile(suffix=".parq") as file:
                await backend.run_into(query(_AZIMUTH, -1, 1, night=0), file.fileno())
                await backend.aclose()
                return Table.read(file.name, format="parquet")

        table = trio.run(run)
        assert table["time"].scale == "tai"
        assert "2016-12-31T23:59:59" <= table["time"].utc[0].isot < "2016-12-31T23:59:59.1"
        assert str(table["actualPosition"].unit) == "deg"
        assert table["actualPosition"].description == described("actualPosition")[1]
        assert table.meta["topic"] == _AZIMUTH


# -- what cannot be answered -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("asked", "hint"),
    [
        (query("lsst.sal.ESS.temprature", 0, 1), _TEMPERATURE),
        (query("mtmount.AZIMUTH", 0, 1), _AZIMUTH),
        (query("", 0, 1), "lsst.sal"),
        (query(_TEMPERATURE, 0, 1, "temperatureItem"), "array of 16"),
        (query(_TEMPERATURE, 0, 1, "temperaturItem*"), "temperatureItem"),
        (query(_TEMPERATURE, 0, 1, "sensorname"), "sensorName"),
        (query(_TEMPERATURE, 0, 1, "sensorName", resample_ns=NS), "samples themselves"),
        (query(_TEMPERATURE, 1, 0), ""),
        (query(_TEMPERATURE, 0, 1, nearest_before=True, resample_ns=5), ""),
        (query(_TEMPERATURE, 0, 1, resample_ns=-5), ""),
        (query(_TEMPERATURE, 0, 1, index=2**40), ""),
        (Statement(text="SELECT 1"), "topic"),
        (NamesQuery(topic="lsst.sal.ESS.preasure"), "lsst.sal.ESS.pressure"),
    ],
)
def test_a_bad_request_says_what_would_be_right(efd: EfdPair, asked: Query, hint: str) -> None:
    for service in efd.services().values():
        with pytest.raises(InvalidQueryError) as failed:
            answer(service, asked)
        assert hint in failed.value.hint


_HOSTILE = (
    'x" WHERE time > 0; DROP MEASUREMENT "{0}"; --',
    "\"; DROP DATABASE efd; SELECT \"",
    "x'; DROP TABLE efd.topic_0; --",
    "{0}\"; DROP TABLE efd.topic_0; --",
    "{0}\\",
    "{0}\n; DROP SERIES FROM /.*/",
    "{0}\0",
    "*",
    "/.*/",
    "time",
    "temperatureItem0\" FROM \"other",
    "temperatureItem0::string",
    "count(temperatureItem0)",
    "%s",
    ":index",
    "a" * 100_000,
)  # fmt: skip


@pytest.mark.parametrize("number", range(len(_HOSTILE)))
def test_names_are_never_part_of_a_statement(efd: EfdPair, number: int) -> None:
    hostile = _HOSTILE[number].format(_TEMPERATURE)
    for service in efd.services().values():
        for asked in (query(hostile, -9, 9), query(_TEMPERATURE, -9, 9, hostile), NamesQuery(topic=hostile)):
            with pytest.raises(InvalidQueryError) as failed:
                answer(service, asked)
            assert len(str(failed.value)) < 2000
        asked = query(_TEMPERATURE, -9, 9)
        assert answer(service, asked).num_rows == len(expected(asked))


def test_hostile_names_of_the_service_itself_are_quoted(efd: EfdPair) -> None:
    """Whoever may write telemetry chooses names; reading them must not do anything else."""
    topic, field = 'x"; DROP MEASUREMENT "y"; "--', 'f" FROM "y" -\\- x'
    seconds, stamp = _MIDDLE[1] // NS, "private_sndStamp"
    values = {field: 1.5, stamp: float(seconds)}
    efd.influx.query("CREATE DATABASE hostile")
    efd.influx.query(f"GRANT READ ON hostile TO {efd.influx.reader[0]}")
    efd.influx.write([line(topic, values, (seconds - 37) * NS)], database="hostile")
    with psycopg.connect(efd.url.replace("+psycopg", ""), autocommit=True) as connection:
        table, column = (name.replace('"', '""').replace("%", "%%") for name in (topic, field))
        connection.execute("CREATE SCHEMA hostile")
        connection.execute(f'CREATE TABLE hostile."{table}" (time bigint, "{column}" real, "{stamp}" double precision)')  # type: ignore[arg-type]
        connection.execute(f'INSERT INTO hostile."{table}" VALUES (%s, %s, %s)', [(seconds - 37) * NS, 1.5, seconds])  # type: ignore[arg-type] # noqa: S608
    asked = query(topic, -1, 1, field)
    for service in (
        Service(efd.base.root.replace("/efd", "/hostile"), efd.influx.options),
        transformed(efd.url, schema="hostile"),
    ):
        table_read = answer(service, asked)
        assert table_read[field].to_pylist() == [1.5]
        assert table_read["time"].cast(pa.int64()).to_pylist() == [_MIDDLE[1]]


def test_too_many_rows_are_an_error_and_not_a_cut(efd: EfdPair) -> None:
    for service in efd.services().values():
        rows = answer(service, query(_ROTATION, -9, 9)).num_rows
        assert answer(service, query(_ROTATION, -9, 9, max_rows=rows)).num_rows == rows
        with pytest.raises(LimitExceededError, match=f"more than {rows - 1} rows"):
            answer(service, query(_ROTATION, -9, 9, max_rows=rows - 1))


def test_wrong_credentials_and_databases_are_told_without_secrets(efd: EfdPair) -> None:
    asked = query(_ROTATION, 0, 1)
    for service in efd.services().values():
        with pytest.raises(BackendAccessError) as refused:
            answer(service, asked, password="not-the-right-one")
        assert "not-the-right-one" not in str(refused.value)
        with pytest.raises(BackendError, match="not-there") as failed:
            answer(Service(service.root.rpartition("/")[0] + "/not-there", service.options), asked)
        assert str(service.options["password"]) not in str(failed.value)
        assert "database" in failed.value.hint
        assert str(service.options["password"]) not in repr(EfdBackend(*service, Admission(user_limit=1, node_limit=1)))
    nobody = efd.base._replace(options={})
    with pytest.raises(BackendAccessError, match="401"):
        answer(nobody, asked)
    with pytest.raises(BackendError, match="retention policy not found"):
        answer(efd.base, asked, retention_policy="none")


@pytest.mark.parametrize("root", ["efd+http://127.0.0.1:9/efd", "efd+postgresql://127.0.0.1:9/efd"])
def test_nobody_there_is_an_error_that_may_pass(root: str) -> None:
    with pytest.raises(TransientBackendError) as failed:
        answer(Service(root, {"username": "u", "password": "p", "max_attempts": 1}), query(_ROTATION, 0, 1))
    assert "127.0.0.1:9" in failed.value.message


@pytest.mark.parametrize(
    ("root", "options", "told"),
    [
        ("efd://host/db", {}, "written"),
        ("efd+https://host", {}, "written"),
        ("efd+ftp://host/db", {}, "written"),
        ("efd+https://host:port/db", {}, "written"),
        ("efd+https://host/db?x=1", {}, "written"),
        ("efd+https://user:secret@host/db", {}, "no credentials in it"),
        ("efd+https://host/db", {"schema": "efd"}, "unknown options"),
        ("efd+postgresql://host/db", {"retention_policy": "x"}, "unknown options"),
        ("efd+postgresql://host/db", {"token": "x"}, "not for it"),
        ("efd+https://host/db", {"slack_s": -1}, "slack_s"),
        ("efd+https://host/db", {"read_timeout_s": 0}, "positive"),
        ("efd+https://host/db", {"index_scale": "local"}, "index_scale"),
        ("efd+https://host/db", {"descriptions": "/not/there.yaml"}, "cannot be read"),
    ],
)
def test_wrong_configuration_is_refused(root: str, options: dict[str, Any], told: str) -> None:
    with pytest.raises(ConfigError, match=told) as failed:
        EfdBackend(root, options, Admission(user_limit=1, node_limit=1))
    assert "secret" not in str(failed.value)


def test_an_index_in_tai_is_not_silently_37_seconds_off(efd: EfdPair) -> None:
    efd.influx.query("CREATE DATABASE tai")
    efd.influx.query(f"GRANT READ ON tai TO {efd.influx.reader[0]}")
    stamps = [NIGHTS_TAI_S[1] + second for second in range(100)]
    efd.influx.write(
        [line("t", {"private_sndStamp": float(one), "x": one}, one * NS) for one in stamps], database="tai"
    )
    service = Service(efd.base.root.replace("/efd", "/tai"), efd.influx.options)
    asked = query("t", 40, 50, "x")
    with pytest.raises(BackendError, match=r"\+?-37.000 s from") as failed:
        answer(service, asked)
    assert "index_scale" in failed.value.hint
    assert answer(service, asked, index_scale="tai")["x"].to_pylist() == stamps[40:50]
    assert answer(service, asked, index_scale="tai", time_field="")["x"].to_pylist() == stamps[40:50]


def test_without_stamps_the_time_of_the_service_is_converted(efd: EfdPair) -> None:
    for service in efd.services().values():
        asked = query(_AZIMUTH, -5, 5, "private_sndStamp", night=0)
        table = answer(service, asked, time_field="")
        off = table["time"].cast(pa.int64()).to_numpy() / NS - table["private_sndStamp"].to_numpy()
        # Exact but for the leap second itself, which has the number of the second before it.
        leap = (table["private_sndStamp"].to_numpy() // 1) == NIGHTS_TAI_S[0]
        assert leap.sum() == 20
        assert abs(off[~leap]).max() < 1e-5
        assert abs(off[leap] + 1).max() < 1e-5


def test_a_field_that_changed_its_type_is_read_as_one(efd: EfdPair) -> None:
    """InfluxDB fixes types by shard, a week long: a field may be an integer in one and a float in another."""
    efd.influx.query("CREATE DATABASE types")
    efd.influx.query(f"GRANT READ ON types TO {efd.influx.reader[0]}")
    for night, value in ((1, 5), (2, 5.5)):
        seconds = NIGHTS_TAI_S[night]
        values = {"private_sndStamp": float(seconds), "x": value}
        efd.influx.write([line("t", values, (seconds - 37) * NS)], database="types")
    service = Service(efd.base.root.replace("/efd", "/types"), efd.influx.options)
    whole = TopicQuery(topic="t", fields=("x",), start_tai_ns=0, stop_tai_ns=2**62)
    assert answer(service, whole)["x"].to_pylist() == [5.0, 5.5]


def test_a_tag_tells_instances_apart(efd: EfdPair) -> None:
    efd.influx.query("CREATE DATABASE tagged")
    efd.influx.query(f"GRANT READ ON tagged TO {efd.influx.reader[0]}")
    seconds = NIGHTS_TAI_S[1]
    values = {"private_sndStamp": float(seconds)}
    lines = [line("t", {**values, "x": one}, (seconds - 37) * NS, {"salIndex": str(one)}) for one in (1, 2)]
    efd.influx.write(lines, database="tagged")
    service = Service(efd.base.root.replace("/efd", "/tagged"), efd.influx.options)
    assert answer(service, query("t", 0, 1, "x", index=2))["x"].to_pylist() == [2]
    assert sorted(answer(service, query("t", 0, 1, "x"))["x"].to_pylist()) == [1, 2]
    with pytest.raises(PantryError, match="has no private_sndStamp2"):
        answer(service, query("t", 0, 1, "x", index=2), index_field="private_sndStamp2", time_field="")
