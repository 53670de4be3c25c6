"""Catalogues by TAP and cone search, through a real daemon from a real DaCHS, against pyvo's own answers."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import pyvo
from astropy.table import Table
from astropy.time import Time
from tests.integration.observatory import INSTRUMENT, furnish
from tests.servers.dachs import STARS, DachsServer
from tests.servers.pantryd import PantryDaemon

from pantry.client import Butler, Circle, Polygon, QueryService
from pantry.errors import DataIdValueError, DatasetTypeError, InvalidQueryError, LimitExceededError, NotFoundError

# DaCHS takes a minute to be made ready.
pytestmark = pytest.mark.soak

FIRST = 9007199254740993


@pytest.fixture(scope="module")
def daemon(dachs: DachsServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[PantryDaemon]:
    config = {
        "services": {
            "archive": {"root": f"tap+{dachs.tap_url}"},
            "small": {"root": f"tap+{dachs.tap_url}", "max_rows": 10},
            "jobs": {"root": f"tap+{dachs.tap_url}", "options": {"mode": "async"}},
            "cone": {"root": f"scs+{dachs.url}/cat/q/cone/scs.xml"},
        },
        "selections": {
            "bright": {
                "service": "archive",
                "text": "SELECT star_id, name, ra, dec, mag FROM cat.stars WHERE mag < :faintest",
                "parameters": {"faintest": {"type": "float", "default": 5.05}},
            }
        },
        "queries": {
            "around": {
                "service": "archive",
                "text": "SELECT * FROM cat.stars WHERE 1 = CONTAINS(POINT('ICRS', ra, dec), :region) ORDER BY star_id",
                "parameters": {"region": {"type": "circle"}},
                "fixed": True,
            },
            "named": {
                "service": "archive",
                "text": "SELECT star_id FROM cat.stars "
                "WHERE name = :name AND star_id IN :ids AND ra < :ra AND epoch < :t",
                "parameters": {
                    "name": {"type": "text"},
                    "ids": {"type": "ints"},
                    "ra": {"type": "float", "default": 400.0},
                    "t": {"type": "time", "default": "2100-01-01"},
                },
            },
            "stars_of": {
                "service": "archive",
                "text": "SELECT star_id, mag FROM cat.stars WHERE flags = :number AND name != :label ORDER BY star_id",
                "parameters": {
                    "number": {"type": "int", "value_of": "exposure"},
                    "label": {"type": "text", "value_of": "exposure.obs_id"},
                },
                "fixed": True,
                "dataset": {"dimensions": ["instrument", "exposure"], "repositories": ["night*"]},
            },
            "cone": {
                "service": "cone",
                "text": "CONE = :region AND VERB = '3'",
                "parameters": {"region": {"type": "circle"}},
            },
        },
    }
    directory = Path(tmp_path_factory.mktemp("tap"))
    with PantryDaemon(directory, config) as started:
        yield started
    assert not started.unexpected_log_lines()


@pytest.fixture(scope="module")
def archive(daemon: PantryDaemon) -> QueryService:
    return QueryService("archive", socket=daemon.socket)


def pyvos(dachs: DachsServer, text: str, **more: Any) -> Table:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        table: Table = pyvo.dal.TAPService(dachs.tap_url).run_sync(text, maxrec=200_000, **more).to_table()
    return table


def same(ours: Table, theirs: Table) -> None:
    """Equal in names, values, missing values, units, descriptions, UCDs; and types, but for texts of any length."""
    assert ours.colnames == theirs.colnames
    assert len(ours) == len(theirs)
    for name in ours.colnames:
        one, other = ours[name], theirs[name]
        assert one.unit == other.unit
        assert one.description == other.description
        assert dict(one.meta) == dict(other.meta)
        if other.dtype.kind != "O":
            assert one.dtype == other.dtype, name
        lost, missing = np.ma.getmaskarray(np.ma.asarray(one)), np.ma.getmaskarray(np.ma.asarray(other))
        assert (lost == missing).all(), name
        left, right = np.ma.getdata(np.ma.asarray(one))[~lost], np.ma.getdata(np.ma.asarray(other))[~missing]
        assert left.tolist() == right.tolist(), name
    assert ours.meta == theirs.meta


QUERIES: list[tuple[str, dict[str, Any], str]] = [
    ("SELECT TOP 100 * FROM cat.stars ORDER BY star_id", {}, ""),
    ("SELECT star_id FROM cat.stars WHERE star_id = :i", {"i": FIRST + 1}, str(FIRST + 1)),
    ("SELECT * FROM cat.stars WHERE star_id IN :i ORDER BY star_id", {"i": [FIRST, FIRST + 9]},
     f"({FIRST}, {FIRST + 9})"),
    ("SELECT star_id, mag FROM cat.stars WHERE mag < :m ORDER BY star_id", {"m": 5.1}, "5.1"),
    ("SELECT COUNT(*) AS n FROM cat.stars", {}, ""),
    ("SELECT COUNT(*) AS n, band FROM cat.stars GROUP BY band ORDER BY band", {}, ""),
    ("SELECT AVG(mag) AS m, MIN(epoch) AS e FROM cat.stars WHERE dec < :d", {"d": -45.0}, "-45.0"),
    ("SELECT star_id FROM cat.stars WHERE name = :n", {"n": "O'Neill 1"}, "'O''Neill 1'"),
    ("SELECT TOP 5 name FROM cat.stars WHERE name LIKE :n ORDER BY star_id", {"n": "Star 1%"}, "'Star 1%'"),
    ("SELECT TOP 9 star_id, name FROM cat.stars WHERE name IS NULL ORDER BY star_id", {}, ""),
    ("SELECT TOP 9 star_id, mag FROM cat.stars WHERE mag IS NULL ORDER BY star_id", {}, ""),
    ("SELECT TOP 50 star_id, n_obs FROM cat.stars ORDER BY star_id", {}, ""),
    ("SELECT TOP 9 star_id, fluxes FROM cat.stars ORDER BY star_id DESC", {}, ""),
    ("SELECT TOP 9 is_variable, flags, band FROM cat.stars ORDER BY star_id", {}, ""),
    ("SELECT star_id FROM cat.stars WHERE epoch < :t ORDER BY star_id", {"t": "2020-01-01T05:00:00"},
     "'2020-01-01T05:00:00'"),
    ("SELECT star_id FROM cat.stars WHERE band = :b AND mag < :m ORDER BY star_id", {"b": "g", "m": 5.03}, ""),
    ("SELECT star_id FROM cat.stars WHERE 1=CONTAINS(POINT('ICRS', ra, dec), :c) ORDER BY star_id",
     {"c": Circle(ra=10.0, dec=-20.0, radius=2.0)}, "CIRCLE('ICRS', 10.0, -20.0, 2.0)"),
    ("SELECT star_id FROM cat.stars WHERE 1=CONTAINS(POINT('ICRS', ra, dec), :p) ORDER BY star_id",
     {"p": Polygon(corners=((10.0, 0.0), (14.0, 0.0), (14.0, 4.0)))},
     "POLYGON('ICRS', 10.0, 0.0, 14.0, 0.0, 14.0, 4.0)"),
    ("SELECT TOP 20 ra + dec AS total, mag * :f AS x FROM cat.stars ORDER BY star_id", {"f": -2.5}, "(-2.5)"),
    ("SELECT TOP 3 a.star_id, b.ra FROM cat.stars AS a JOIN cat.stars AS b USING (star_id) ORDER BY a.star_id", {}, ""),
    ("SELECT table_name FROM tap_schema.tables ORDER BY table_name", {}, ""),
    ("SELECT column_name, unit, ucd FROM tap_schema.columns WHERE table_name = :t ORDER BY column_name",
     {"t": "cat.stars"}, "'cat.stars'"),
    ("SELECT TOP 5 star_id AS \"a:b\" FROM cat.stars -- :no\n ORDER BY star_id", {}, ""),
    ("SELECT star_id FROM cat.stars WHERE name = ':m' OR star_id = :i", {"i": FIRST}, str(FIRST)),
    ("SELECT * FROM cat.stars WHERE star_id < 0", {}, ""),
    ("SELECT TOP 4 UPPER(name) AS n FROM cat.stars ORDER BY star_id", {}, ""),
    ("SELECT DISTINCT band FROM cat.stars ORDER BY band", {}, ""),
    ("SELECT star_id FROM cat.stars WHERE n_obs BETWEEN :a AND :b AND mag < 5.1 ORDER BY star_id",
     {"a": 5, "b": 9}, ""),
    ("SELECT TOP 5 DISTANCE(POINT('ICRS', ra, dec), POINT('ICRS', 0, 0)) AS d FROM cat.stars ORDER BY star_id", {}, ""),
    ("SELECT TOP 9 obs_id, access_url FROM ivoa.obscore", {}, ""),
]  # fmt: skip
"""Statement, values, and how a person would write the value (for one value); else by `repr`."""


def by_hand(text: str, values: dict[str, Any], written: str) -> str:
    for name, value in values.items():
        text = text.replace(f":{name}", written or repr(value))
    return text


@pytest.mark.req("DMS-MWBT-REQ-0048")
def test_thirty_queries_equal_pyvos_own_answers(archive: QueryService, dachs: DachsServer) -> None:
    assert len(QUERIES) == 30
    empty = []
    for text, values, written in QUERIES:
        if "':m'" in text:
            theirs = pyvos(dachs, text.replace(":i", written))
        else:
            theirs = pyvos(dachs, by_hand(text, values, written))
        same(archive.run(text, values), theirs)
        if not len(theirs):
            empty.append(text)
    assert len(empty) <= 2, empty


def test_a_hundred_thousand_rows(archive: QueryService, dachs: DachsServer) -> None:
    ours = archive.run("SELECT star_id, ra, mag, name FROM cat.stars", form="arrow")
    assert ours.num_rows == STARS
    assert sorted(ours["star_id"].to_pylist()) == list(range(FIRST, FIRST + STARS))


def test_what_does_not_fit_is_an_error_and_never_a_part(daemon: PantryDaemon, archive: QueryService) -> None:
    small = QueryService("small", socket=daemon.socket)
    assert len(small.run("SELECT TOP 9 star_id FROM cat.stars")) == 9
    with pytest.raises(LimitExceededError, match="more rows"):
        small.run("SELECT star_id FROM cat.stars")
    with pytest.raises(LimitExceededError, match="more rows"):
        archive.run("SELECT star_id FROM cat.stars", max_rows=99)


@pytest.mark.req("DMS-MWBT-REQ-0048")
def test_cones(daemon: PantryDaemon, dachs: DachsServer) -> None:
    ours = QueryService(socket=daemon.socket).ask("cone", region=Circle(ra=10.0, dec=-20.0, radius=2.0))
    theirs = pyvos(
        dachs, "SELECT star_id FROM cat.stars WHERE 1=CONTAINS(POINT('ICRS', ra, dec), CIRCLE('ICRS', 10., -20., 2.))"
    )
    assert len(theirs)
    assert sorted(map(int, ours["star_id"])) == sorted(theirs["star_id"])


@pytest.mark.req("DMS-MWBT-REQ-0058")
def test_a_fixed_query_is_answered_from_the_cache_when_it_is_asked_again(archive: QueryService) -> None:
    from pantry.wire.operations import RunQuery

    region = Circle(ra=40.0, dec=10.0, radius=1.0)
    first = archive.ask("around", region=region)
    same(archive.ask("around", region=region), first)
    answer, fds = archive.connection.call_with_fds(
        RunQuery(query="around", parameters={"region": region}, cached_only=True)
    )
    assert answer.was_cached
    import os

    for fd in fds:
        os.close(fd)


@pytest.mark.req("DMS-MWBT-REQ-0056")
def test_selections_by_name_with_parameters(archive: QueryService, dachs: DachsServer) -> None:
    whole = "SELECT star_id, name, ra, dec, mag FROM cat.stars WHERE mag < "
    bright = set(archive.ask("bright")["star_id"])
    assert bright
    assert bright == set(pyvos(dachs, whole + "5.05")["star_id"])
    assert set(archive.ask("bright", faintest=5.02)["star_id"]) == set(pyvos(dachs, whole + "5.02")["star_id"])
    ours = archive.run("SELECT bright.star_id FROM @bright WHERE bright.dec > :d", {"d": 0.0, "faintest": 5.03})
    assert set(ours["star_id"]) == set(pyvos(dachs, whole + "5.03 AND dec > 0")["star_id"])
    with pytest.raises(InvalidQueryError, match="no selection"):
        archive.run("SELECT * FROM @other")


def test_jobs_and_uploads(daemon: PantryDaemon, archive: QueryService, dachs: DachsServer) -> None:
    text = "SELECT TOP 50 * FROM cat.stars ORDER BY star_id"
    same(QueryService("jobs", socket=daemon.socket).run(text), pyvos(dachs, text))
    mine = Table({"star_id": [FIRST + 5, FIRST + 7], "note": ["a", "b'"]})
    joined = archive.run(
        "SELECT m.note, s.ra FROM tap_upload.mine AS m JOIN cat.stars AS s USING (star_id) ORDER BY m.note",
        tables={"mine": mine},
    )
    assert list(joined["note"]) == ["a", "b'"]
    assert len(pyvo.dal.TAPService(dachs.tap_url).get_job_list()) == 0, "each job is deleted"


@pytest.mark.parametrize(
    "attack",
    ["x' OR '1'='1", "x' UNION SELECT star_id FROM cat.stars --", "\\' OR 1=1 OR x='", "x'; DROP TABLE cat.stars; --"],
)
def test_injection_finds_nothing(archive: QueryService, attack: str) -> None:
    if "--" in attack or "\\" in attack:
        with pytest.raises(InvalidQueryError, match="minus"):
            archive.ask("named", name=attack, ids=[FIRST])
    else:
        assert len(archive.ask("named", name=attack, ids=[FIRST])) == 0
    for wrong in ({"ids": [attack]}, {"ids": attack}, {"ra": attack}, {"ids": [1.5]}, {"t": 5}, {attack: 1}):
        with pytest.raises(InvalidQueryError):
            archive.ask("named", **{"name": "Star 3", "ids": [FIRST], **wrong})
    with pytest.raises(InvalidQueryError):
        archive.ask("around", region=attack)
    with pytest.raises(NotFoundError):
        archive.ask(attack)
    assert len(archive.ask("named", name="Star 3", ids=[FIRST + 3], t=Time("2021-01-01"))) == 1


@pytest.mark.req("DMS-MWBT-REQ-0057")
def test_a_query_is_a_dataset(daemon: PantryDaemon, dachs: DachsServer) -> None:
    directory = daemon.directory
    butler = Butler.create("night1", str(directory / "night1"), socket=daemon.socket)
    furnish(butler, n_exposures=5)
    other = Butler.create("other", str(directory / "other"), socket=daemon.socket)
    theirs = pyvos(dachs, "SELECT star_id, mag FROM cat.stars WHERE flags = 3 AND name != 'T_3' ORDER BY star_id")
    assert len(theirs)
    where: dict[str, Any] = {"collections": "any", "instrument": INSTRUMENT, "exposure": 3}
    same(butler.get("stars_of", **where), theirs)
    deferred = butler.get_deferred("stars_of", **where)
    same(deferred.get(), theirs)
    assert deferred.ref.id == butler.get_deferred("stars_of", **where).ref.id
    part = butler.get("stars_of", parameters={"columns": ["mag"], "rows": slice(0, 2)}, **where)
    assert (part.colnames, len(part)) == (["mag"], 2)
    assert butler.get("stars_of", storage_class="ArrowTable", **where).num_rows == len(theirs)
    assert [one.name for one in butler.query_dataset_types("stars*")] == ["stars_of"]
    assert "stars_of" in [one.name for one in butler.query_dataset_types()]
    assert "stars_of" not in [one.name for one in other.query_dataset_types()]
    same(Butler("other,night1", socket=daemon.socket).get("stars_of", **where), theirs)
    with pytest.raises(DatasetTypeError, match="given by a query"):
        butler.put(theirs, "stars_of", instrument=INSTRUMENT, exposure=3, run="u/x")
    with pytest.raises(DatasetTypeError, match="given by a query"):
        butler.register_dataset_type("stars_of", ["instrument", "exposure"], "ArrowAstropy")
    with pytest.raises(DataIdValueError):
        butler.get("stars_of", collections="any", instrument=INSTRUMENT, exposure=77)
