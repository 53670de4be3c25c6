"""Values of parameters from dimension records, and definitions of queries."""

from __future__ import annotations

import pytest
from astropy.time import Time
from lsst.sphgeom import Angle, Box, LonLat

from pantry.daemon.config.queries import QueryConfig, SelectionConfig, ServiceConfig
from pantry.daemon.queries.datasets import _value
from pantry.daemon.queries.definitions import Definitions, filled, written
from pantry.daemon.registry.sky.regions import polygon
from pantry.errors import ConfigError, InvalidQueryError
from pantry.model.queries import Circle, Instant, Parameter, Point, Polygon
from pantry.model.records import DimensionRecord
from pantry.model.timespan import Timespan

SERVICES = {"a": ServiceConfig(root="tap+https://example.org/tap"), "b": ServiceConfig(root="tap+https://b.org/tap")}
RECORD = DimensionRecord(
    element="patch",
    values={"patch": 5},
    timespan=Timespan(1_700_000_037_000_000_000, 1_700_000_038_500_000_000),
    region=polygon([(359.0, -1.0), (1.0, -1.0), (1.0, 1.0), (359.0, 1.0)]).encode(),
)


def test_regions_of_records() -> None:
    circle = _value(RECORD, "region", Parameter(type="circle"))
    assert isinstance(circle, Circle)
    assert (circle.ra + 180) % 360 == pytest.approx(180.0)
    assert circle.radius == pytest.approx(2**0.5, rel=1e-3)
    corners = _value(RECORD, "region", Parameter(type="polygon"))
    assert isinstance(corners, Polygon)
    assert {(round(ra) % 360, round(dec)) for ra, dec in corners.corners} == {(359, -1), (1, -1), (1, 1), (359, 1)}
    assert isinstance(_value(RECORD, "region", Parameter(type="point")), Point)
    box = Box(LonLat.fromDegrees(10, 10), Angle.fromDegrees(1), Angle.fromDegrees(1))
    with pytest.raises(ValueError, match="no polygon"):
        _value(DimensionRecord(element="x", values={}, region=box.encode()), "region", Parameter(type="polygon"))


def test_times_are_written_in_the_declared_scale() -> None:
    begin = _value(RECORD, "timespan.begin", Parameter(type="time"))
    assert written(begin, "tai") == "2023-11-14T22:13:57"
    assert written(begin, "utc") == "2023-11-14T22:13:20"
    end = written(Instant(tai_ns=1_700_000_038_500_000_000), "utc")
    assert Time(end, scale="utc").unix == pytest.approx(1_700_000_001.5)


def test_fields_and_what_is_not_there() -> None:
    assert _value(RECORD, "patch", Parameter(type="int")) == 5
    for field in ("nothing", "timespan"):
        with pytest.raises(ValueError, match="have no"):
            _value(RECORD, field, Parameter(type="int"))
    with pytest.raises(ValueError, match="no region"):
        _value(DimensionRecord(element="x", values={}), "region", Parameter(type="circle"))


@pytest.mark.parametrize(
    ("query", "said"),
    [
        (QueryConfig(service="a", text="SELECT :x"), "x"),
        (QueryConfig(service="a", text="SELECT 1", parameters={"x": Parameter(type="int")}), "x"),
        (QueryConfig(service="a", text="SELECT 'x"), "does not end"),
        (QueryConfig(service="a", text="SELECT * FROM @nothing"), "nothing"),
        (QueryConfig(service="b", text="SELECT * FROM @bright"), "bright"),
        (QueryConfig(service="a", text="SELECT :m FROM @bright", parameters={"m": Parameter(type="int")}), "twice"),
    ],
)
def test_wrong_definitions_are_refused_at_the_start(query: QueryConfig, said: str) -> None:
    bright = SelectionConfig(
        service="a", text="SELECT * FROM t WHERE m < :m", parameters={"m": Parameter(type="float")}
    )
    with pytest.raises(ConfigError, match=said) as caught:
        Definitions(SERVICES, {"q": query}, {"bright": bright})
    assert "queries.q." in caught.value.message


def test_values_are_those_that_are_declared() -> None:
    parameters = {"n": Parameter(type="int"), "t": Parameter(type="texts")}
    known = Definitions(
        SERVICES, {"q": QueryConfig(service="a", text="SELECT :n WHERE x IN :t", parameters=parameters)}, {}
    )
    query = known.get("q")
    assert dict(filled(query, {"n": 1, "t": ("a", "b")}, {}).parameters) == {"n": 1, "t": ("a", "b")}
    for wrong in ({"n": 1}, {"n": 1.0, "t": ("a",)}, {"n": True, "t": ("a",)}, {"n": 1, "t": "a"}, {"n": 1, "t": ()},
                  {"n": 2**63, "t": ("a",)}, {"n": 1, "t": ("a\0",)}, {"n": 1, "t": ("a",), "z": 1}):  # fmt: skip
        with pytest.raises(InvalidQueryError):
            filled(query, wrong, {})
