"""``pantry service``: configured queries and statements, as people type them."""

from __future__ import annotations

import json
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from astropy.table import Table
from tests.servers.pantryd import PantryDaemon


@pytest.fixture
def daemon(make_daemon: Callable[..., PantryDaemon], tmp_path: Path) -> PantryDaemon:
    path = tmp_path / "catalogue.db"
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE stars (id INTEGER, name TEXT, mag REAL)")
        connection.executemany("INSERT INTO stars VALUES (?, ?, ?)", [(1, "a", 3.5), (2, "5", 12.25), (3, "c'd", 14.0)])
    connection.close()
    service = {"root": f"sql+sqlite://{path}", "readers": ["*"], "statements": ["*"]}
    text = "SELECT id, name, mag FROM stars WHERE mag < :faintest AND id IN :ids ORDER BY id"
    query = {
        "service": "catalogue",
        "text": text,
        "parameters": {"faintest": {"type": "float", "default": 13.0}, "ids": {"type": "ints"}},
        "doc": "Bright stars of a list",
    }
    return make_daemon({"services": {"catalogue": service}, "queries": {"some_stars": query}})


def service(daemon: PantryDaemon, *words: str, text: str = "") -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "pantry.client.cli.main", "--socket", daemon.socket, "service", *words]
    return subprocess.run(command, input=text, capture_output=True, text=True, timeout=60, check=False)


def test_configured_queries(daemon: PantryDaemon, tmp_path: Path) -> None:
    listed = service(daemon, "queries").stdout
    assert "some_stars" in listed
    assert "faintest:float ids:ints" in listed
    assert "Bright stars of a list" in listed
    assert [one["name"] for one in json.loads(service(daemon, "queries", "catalogue", "--json").stdout)] == [
        "some_stars"
    ]
    done = service(daemon, "ask", "some_stars", "ids=1,2,3")
    assert done.stdout.splitlines() == ['"id","name","mag"', '1,"a",3.5', '2,"5",12.25']
    assert "2 rows" in done.stderr
    output = tmp_path / "stars.ecsv"
    assert service(daemon, "ask", "some_stars", "ids=3", "faintest=20", "-o", str(output)).returncode == 0
    assert Table.read(output)["name"].tolist() == ["c'd"]
    assert "exists already" in service(daemon, "ask", "some_stars", "ids=3", "-o", str(output)).stderr
    assert Table.read(output)["name"].tolist() == ["c'd"]


def test_statements_of_ones_own(daemon: PantryDaemon) -> None:
    done = service(daemon, "run", "catalogue", "SELECT id FROM stars WHERE name = :n", "n:text=5")
    assert done.stdout.splitlines() == ['"id"', "2"]
    done = service(daemon, "run", "catalogue", "-", "m=10", text="SELECT COUNT(*) AS n FROM stars WHERE mag > :m\n")
    assert done.stdout.splitlines() == ['"n"', "2"]
    done = service(daemon, "run", "catalogue", "SELECT id FROM stars WHERE name = :n", "n=c'd")
    assert done.stdout.splitlines() == ['"id"', "3"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("ask", "stars", "ids=1"), "there is no query 'stars' that you may ask"),
        (("ask", "some_stars"), "needs a value for"),
        (("ask", "some_stars", "ids=one"), "ids: 'one' is no ints"),
        (("ask", "some_stars", "ids"), "'ids' is no NAME=VALUE"),
        (("ask", "some_stars", "ids=1", "ids=2"), "ids is given twice"),
        (("ask", "some_stars", "ids=1", "-o", "x.fits"), "no format has the suffix .fits"),
        (("run", "catalogue", "SELECT * FROM absent"), "no such table: absent"),
        (("run", "archive", "SELECT 1"), "no service is configured by the name 'archive'"),
        (("run", "catalogue", "SELECT id FROM stars", "--max-rows", "2"), "more than 2 rows"),
    ],
)
def test_mistakes(daemon: PantryDaemon, words: tuple[str, ...], message: str) -> None:
    done = service(daemon, *words)
    assert done.returncode != 0
    assert message in done.stderr
    assert "Traceback" not in done.stderr
