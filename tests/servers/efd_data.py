"""The same ten topics over three nights in a base and in a transformed EFD, made by a rule.

Telemetry of 1 to 100 Hz and events, as the Rubin Observatory's EFD has them: ``private_sndStamp`` in TAI, the
service's own time in UTC. The first night has the leap second at the end of 2016 in its middle. Some fields are missing
in part of the samples, some in a whole night.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
import psycopg
from psycopg import sql
from tests.servers.influxdb import InfluxServer, line

NS = 1_000_000_000
NIGHTS_TAI_S = (1_483_228_836, 1_736_553_637, 1_793_491_237)
"""Middles of the nights, TAI seconds since 1970: the leap second of 2016, and 0h UTC of 2025-01-11 and 2026-11-01."""

_LEAP_ENDS_TAI_S = 1_483_228_837


class TopicData(NamedTuple):
    """What a topic has.

    Attributes
    ----------
    name : str
        Of the topic.
    rate_hz : float
        Samples in a second.
    floats, ints, bools, strings : tuple of str
        Fields by their types, besides those that all have.
    partial : tuple of str
        Fields that are missing in two of three samples.
    late : tuple of str
        Fields that are missing in the first night.
    instances : int
        How many values ``salIndex`` has.
    """

    name: str
    rate_hz: float
    floats: tuple[str, ...] = ()
    ints: tuple[str, ...] = ()
    bools: tuple[str, ...] = ()
    strings: tuple[str, ...] = ()
    partial: tuple[str, ...] = ()
    late: tuple[str, ...] = ()
    instances: int = 1


def _array(name: str, size: int) -> tuple[str, ...]:
    return tuple(f"{name}{number}" for number in range(size))


TOPICS = (
    TopicData("lsst.sal.ESS.temperature", 1, _array("temperatureItem", 16), ints=("numChannels",), strings=("sensorName", "location"), partial=("location",), instances=3),  # noqa: E501
    TopicData("lsst.sal.ESS.airTurbulence", 1, ("speedMagnitude", "sonicTemperature"), late=("sonicTemperature",), instances=2),  # noqa: E501
    TopicData("lsst.sal.ESS.pressure", 1, _array("pressureItem", 2), strings=("sensorName",), partial=("pressureItem1",)),  # noqa: E501
    TopicData("lsst.sal.MTMount.azimuth", 20, ("actualPosition", "demandPosition", "actualVelocity"), bools=("inPosition",)),  # noqa: E501
    TopicData("lsst.sal.MTMount.elevation", 20, ("actualPosition", "demandPosition"), ints=("state",), partial=("state",)),  # noqa: E501
    TopicData("lsst.sal.MTM1M3.accelerometerData", 50, _array("accelerometer", 8)),
    TopicData("lsst.sal.MTM1M3.forceActuatorData", 50, _array("zForce", 12), ints=("slewFlag",), bools=("limited",), late=("limited",)),  # noqa: E501
    TopicData("lsst.sal.MTRotator.rotation", 100, ("actualPosition",), late=()),
    TopicData("lsst.sal.MTMount.logevent_summaryState", 0.2, ints=("summaryState",), strings=("reason",), partial=("reason",)),  # noqa: E501
    TopicData(
        "lsst.sal.MTHexapod.logevent_compensatedPositionOfTheCameraHexapodInAllItsSixAxes", 0.5, ("u", "v", "w"),
        bools=("compensated",), strings=("mode",), instances=2,
    ),
)  # fmt: skip

UNITS = {
    "temperatureItem*": ("deg_C", "Temperature at one of the sensors"),
    "pressureItem*": ("Pa", "Barometric pressure"),
    "speedMagnitude": ("m / s", "Magnitude of the air's velocity"),
    "sonicTemperature": ("deg_C", ""),
    "actualPosition": ("deg", "Position: \"measured\", not 'demanded'\\"),
    "actualVelocity": ("deg / s", ""),
    "zForce*": ("N", "Force along z"),
    "private_sndStamp": ("s", "Time at which the sample was sent, TAI"),
}
"""Units and descriptions by field."""


class Sample(NamedTuple):
    """One sample of a topic."""

    tai_ns: int
    index_utc_ns: int
    values: dict[str, Any]


def fields_of(topic: TopicData) -> dict[str, str]:
    """Return the fields of a topic, and their types in PostgreSQL."""
    found = {"private_sndStamp": "double precision", "private_rcvStamp": "double precision", "private_seqNum": "bigint"}
    found |= {"salIndex": "bigint"} | dict.fromkeys(topic.floats, "double precision")
    found |= dict.fromkeys(topic.ints, "bigint") | dict.fromkeys(topic.bools, "boolean")
    return found | dict.fromkeys(topic.strings, "text")


@lru_cache
def samples(topic: TopicData, night: int, length_s: float) -> tuple[Sample, ...]:
    """Make the samples of a night, ``length_s`` seconds around its middle; the same each time."""
    return tuple(_samples(topic, night, length_s))


def _samples(topic: TopicData, night: int, length_s: float) -> Iterator[Sample]:
    random = np.random.default_rng([zlib.crc32(topic.name.encode()), night])
    period_ns = round(NS / topic.rate_hz)
    count = max(1, round(length_s * topic.rate_hz))
    begin_ns = NIGHTS_TAI_S[night] * NS - round(length_s / 2 * NS)
    # Never the same instant twice, as a UTC of the leap second would give the sample of a second later too.
    grid = begin_ns + np.arange(count) * period_ns
    jitter = random.integers(0, period_ns // 3, count)
    stamps_s = (grid + jitter) / NS
    noise = random.normal(size=(count, max(1, len(topic.floats))))
    for number in range(count):
        stamp_s = float(stamps_s[number])
        whole = int(stamp_s // 1)
        tai_ns = whole * NS + round((stamp_s - whole) * NS)
        values: dict[str, Any] = {
            "private_sndStamp": stamp_s,
            "private_rcvStamp": stamp_s + 0.001,
            "private_seqNum": number,
            "salIndex": 1 + number % topic.instances,
        }
        for place, name in enumerate(topic.floats):
            values[name] = float(10 * place + np.sin(number / 50) + 0.01 * noise[number, place])
        if topic.floats and number % 7 == 0:
            values[topic.floats[0]] = float(number)  # a float that looks like an integer
        values |= dict.fromkeys(topic.ints, 2**53 + number)  # more digits than a double has
        values |= dict.fromkeys(topic.bools, number % 5 < 3)
        values |= {name: _TEXTS[number % len(_TEXTS)] for name in topic.strings}
        if number % 3:
            values |= dict.fromkeys(topic.partial)
        if night == 0:
            values |= dict.fromkeys(topic.late)
        offset_s = 36 if tai_ns < _LEAP_ENDS_TAI_S * NS - NS else 37
        yield Sample(tai_ns, tai_ns - (offset_s if night == 0 else 37) * NS, values)


_TEXTS = ("ESS-M1", "", 'with "quotes", commas = and \\', "été \N{SNOWFLAKE}", "two\nlines")


def fill_influx(server: InfluxServer, length_s: float) -> None:
    """Write all topics as points."""
    for topic in TOPICS:
        for night in range(len(NIGHTS_TAI_S)):
            server.write(line(topic.name, one.values, one.index_utc_ns) for one in samples(topic, night, length_s))


def fill_postgresql(url: str, length_s: float, *, schema: str = "efd") -> None:
    """Write all topics as tables, with the tables that describe them."""
    with psycopg.connect(url.replace("+psycopg", "")) as connection:
        connection.execute(sql.SQL("CREATE SCHEMA {}").format(sql.Identifier(schema)))
        for number, topic in enumerate(TOPICS):
            _fill_table(connection, schema, f"topic_{number}", topic, length_s)
        connection.execute(
            sql.SQL(
                "CREATE TABLE {}.topics (topic text PRIMARY KEY, table_name text NOT NULL, description text);"
                "CREATE TABLE {}.fields (topic text, field text, column_name text, unit text, description text)"
            ).format(sql.Identifier(schema), sql.Identifier(schema))
        )
        with connection.cursor() as cursor:
            for number, topic in enumerate(TOPICS):
                cursor.execute(
                    sql.SQL("INSERT INTO {}.topics VALUES (%s, %s, %s)").format(sql.Identifier(schema)),
                    (topic.name, f"topic_{number}", f"Topic {number}"),
                )
                cursor.executemany(
                    sql.SQL("INSERT INTO {}.fields VALUES (%s, %s, %s, %s, %s)").format(sql.Identifier(schema)),
                    [
                        (topic.name, name, _column(name), *described(name))
                        for name in fields_of(topic)
                        if described(name) or name == "private_seqNum"
                    ],
                )


def _column(field: str) -> str | None:
    return "seq" if field == "private_seqNum" else None  # one whose column has another name


def described(field: str) -> tuple[str, str]:
    """Return the unit and the description of a field."""
    return UNITS.get(field) or UNITS.get(field.rstrip("0123456789") + "*") or ("", "")


def descriptions() -> dict[str, Any]:
    """Return what the file of descriptions says, for services that keep none."""
    topics: dict[str, Any] = {}
    for number, topic in enumerate(TOPICS):
        fields = {}
        for name in fields_of(topic):
            for key in (name, name.rstrip("0123456789") + "*"):
                if key in UNITS:
                    fields[key] = {"unit": UNITS[key][0], "description": UNITS[key][1]}
        topics[topic.name] = {"description": f"Topic {number}", "fields": fields}
    return {"topics": topics}


def _fill_table(
    connection: psycopg.Connection[Any], schema: str, table: str, topic: TopicData, length_s: float
) -> None:
    fields = fields_of(topic)
    columns = [sql.SQL("{} " + kind).format(sql.Identifier(_column(name) or name)) for name, kind in fields.items()]
    where = sql.Identifier(schema, table)
    connection.execute(
        sql.SQL("CREATE TABLE {} (time timestamp with time zone NOT NULL, {})").format(
            where, sql.SQL(", ").join(columns)
        )
    )
    with connection.cursor().copy(sql.SQL("COPY {} FROM STDIN").format(where)) as copy:
        for night in range(len(NIGHTS_TAI_S)):
            for one in samples(topic, night, length_s):
                time = np.datetime64(one.index_utc_ns // 1000, "us").item().isoformat() + "Z"
                copy.write_row([time, *(one.values[name] for name in fields)])
    connection.execute(sql.SQL("CREATE INDEX ON {} (time)").format(where))
