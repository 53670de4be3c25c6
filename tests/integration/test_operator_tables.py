"""A table beside the registry's own, by the daemon's configuration and through the command line."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.integration.command_line import pantry
from tests.integration.observatory import INSTRUMENT, furnish
from tests.servers.pantryd import PantryDaemon

from pantry.client import Butler

TABLES = {"quality": {"table": "assessed", "key": {"exposure": "exposure_id"}, "fixed": {"instrument": INSTRUMENT}}}


@pytest.mark.req("DMS-MWBT-REQ-0088")
@pytest.mark.req("DMS-MWBT-REQ-0089")
def test_bad_exposures_are_left_out(make_daemon: Callable[..., PantryDaemon], tmp_path: Path) -> None:
    root = tmp_path / "repo"
    with make_daemon() as first, Butler.create("d", str(root), socket=first.socket) as butler:
        furnish(butler, 3)
        for exposure in (1, 2, 3):
            butler.put({"n": exposure}, "config", instrument=INSTRUMENT, exposure=exposure, run="run")
    with sqlite3.connect(root / ".pantry" / "registry.sqlite3") as database:
        database.execute("CREATE TABLE assessed (exposure_id INTEGER PRIMARY KEY, seeing REAL, verdict TEXT)")
        database.executemany("INSERT INTO assessed VALUES (?, ?, ?)", [(1, 0.7, "good"), (2, 0.9, "bad")])
    database.close()
    daemon = make_daemon({"tables": TABLES, "repositories": {"d": {"root": str(root)}}})
    with Butler("d", collections="run", socket=daemon.socket) as butler:
        good = butler.query_datasets("config", where="quality.verdict = 'good'")
        assert [ref.data_id["exposure"] for ref in good] == [1]
        kept = butler.query_datasets("config", where="quality.verdict IS NULL OR quality.verdict != 'bad'")
        assert sorted(ref.data_id["exposure"] for ref in kept) == [1, 3]
        shown = pantry(butler, "query-dimension-records", "d", "quality", "--order-by", "-seeing", "--json")
        assert [row["values"]["verdict"] for row in json.loads(shown.stdout)] == ["bad", "good"]
        wrong = pantry(butler, "query-datasets", "d", "config", "-c", "run", "-w", "quality.seing < 1")
        assert "did you mean quality.seeing" in wrong.stderr
