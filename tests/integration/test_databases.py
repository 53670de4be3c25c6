"""Tables as datasets, in and out of databases: a repository that lives in one, and tables that are there already."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sqlalchemy as sa
from astropy.table import Table
from tests.integration.observatory import INSTRUMENT, furnish
from tests.servers.other_user import run_as
from tests.servers.pantryd import PantryDaemon
from tests.servers.postgresql import PostgresqlServer

from pantry.client import Butler, Circle, QueryService
from pantry.errors import (
    DaemonUnavailableError,
    DatasetExistsError,
    InvalidQueryError,
    InvalidRequestError,
    LimitExceededError,
    PermissionDeniedError,
)
from pantry.model.queries import Statement
from pantry.wire.operations import RunQuery

RULE = "{run}/src/{instrument}/src_*_{exposure:int}.* -> src"
ROWS = 2000

ROOT = Path(__file__).parents[2]


class Outputs:
    """A database for outputs, and how the daemon and the test reach it."""

    def __init__(self, url: str, root: str, service: str, options: dict[str, Any]) -> None:
        self.engine = sa.create_engine(url, poolclass=sa.NullPool)
        self.root = root
        self.service = service
        self.options = options

    def rows(self, query: str) -> list[tuple[Any, ...]]:
        with self.engine.connect() as connection:
            return [tuple(row) for row in connection.execute(sa.text(query))]


@pytest.fixture(params=["sqlite", "postgresql"])
def outputs(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Outputs]:
    if request.param == "sqlite":
        path = tmp_path / "outputs.db"
        yield Outputs(f"sqlite:///{path}", f"sql+sqlite://{path}", f"sql+sqlite://{path}", {})
        return
    server: PostgresqlServer = request.getfixturevalue("postgresql")
    with server.database() as url:
        root = f"sql+postgresql://127.0.0.1:{server.port}/{url.rpartition('/')[2]}"
        options = {"username": "postgres", "password": server.password}
        yield Outputs(url, f"{root}/night/outputs", root, options)


@pytest.fixture
def daemon(make_daemon: Callable[..., PantryDaemon], outputs: Outputs) -> PantryDaemon:
    service = {"service": "outputs"}
    return make_daemon(
        {
            "storage": [{"match": outputs.root, "options": outputs.options | {"tables": RULE}}],
            "services": {
                "outputs": {"root": outputs.service, "options": outputs.options, "readers": ["*"], "statements": ["*"]}
            },
            "selections": {"bright": service | {"text": "SELECT * FROM src WHERE flux > 2"}},
            "queries": {
                "brightest": service
                | {
                    "text": "SELECT id, flux FROM src WHERE exposure = :number AND flux > :least ORDER BY id",
                    "parameters": {
                        "number": {"type": "int", "value_of": "exposure"},
                        "least": {"type": "float", "default": 1.5},
                    },
                    "dataset": {"dimensions": ["instrument", "exposure"]},
                }
            },
        }
    )


@pytest.fixture
def butler(daemon: PantryDaemon, outputs: Outputs) -> Iterator[Butler]:
    made = Butler.create("outputs", outputs.root, socket=daemon.socket)
    furnish(made, 200)
    made.register_dataset_type("src", ["exposure"], "ArrowAstropy")
    made.register_dataset_type("image", ["exposure"], "NumpyArray")
    with Butler("outputs", run="night", socket=daemon.socket) as opened:
        yield opened
    made.close()


def sources(exposure: int) -> Table:
    table = Table({"id": np.arange(ROWS), "flux": np.full(ROWS, float(exposure))})
    table["flux"].unit = "nJy"
    table["flux"].description = "of the whole source"
    return table


def data_id(exposure: int) -> dict[str, Any]:
    return {"instrument": INSTRUMENT, "exposure": exposure}


@pytest.mark.req("DMS-MWBT-REQ-0057")
@pytest.mark.req("DMS-MWBT-REQ-0065")
def test_what_is_put_is_rows_for_everybody(daemon: PantryDaemon, butler: Butler, outputs: Outputs) -> None:
    for exposure in (1, 2, 3):
        butler.put(sources(exposure), "src", data_id(exposure))
    pixels = np.arange(700_000, dtype="f4")
    butler.put(pixels, "image", data_id(1))
    with pytest.raises(DatasetExistsError):
        butler.put(sources(9), "src", data_id(1))
    # As a dataset: exactly what was put, units too, also without what the cache has.
    daemon.stop()
    for one in (daemon.cache / "objects").rglob("*"):
        if one.is_file():
            one.unlink()
    (daemon.cache / "index.sqlite3").unlink()
    daemon.start()
    with Butler("outputs", collections="night", socket=daemon.socket) as reader:
        found = reader.get("src", data_id(2))
        assert found.meta == sources(2).meta
        assert found["flux"].unit == "nJy"
        assert found["flux"].description == "of the whole source"
        assert (found["flux"] == 2.0).all()
        assert (reader.get("image", data_id(1)) == pixels).all()
        # As rows, for whoever asks the database.
        assert outputs.rows("SELECT exposure, COUNT(*), MAX(flux) FROM src GROUP BY exposure ORDER BY exposure") == [
            (1, ROWS, 1.0),
            (2, ROWS, 2.0),
            (3, ROWS, 3.0),
        ]
        # And as datasets by query, and by statements with a selection.
        assert len(reader.get("brightest", data_id(2))) == ROWS
        assert len(reader.get("brightest", data_id(1))) == 0
        assert reader.get("brightest", data_id(3))["flux"].tolist() == [3.0] * ROWS
        service = QueryService("outputs", socket=daemon.socket)
        counted = service.run("SELECT COUNT(*) AS n FROM @bright WHERE bright.instrument = :i", {"i": INSTRUMENT})
        assert counted["n"].tolist() == [ROWS]


@pytest.mark.req("DMS-MWBT-REQ-0076")
def test_a_put_that_is_refused_leaves_nothing(butler: Butler, outputs: Outputs) -> None:
    butler.put(sources(1), "src", data_id(1))
    wrong = sources(2)
    wrong["shape"] = np.zeros((ROWS, 3))
    with pytest.raises(InvalidRequestError, match="'shape' of .* has no exact place"):
        butler.put(wrong, "src", data_id(2))
    assert [ref.data_id["exposure"] for ref in butler.query_datasets("src", collections="night")] == [1]
    assert outputs.rows("SELECT COUNT(*) FROM pantry_object WHERE key LIKE '%/src/%'") == [(1,)]
    butler.put(sources(2), "src", data_id(2))
    assert outputs.rows("SELECT COUNT(*) FROM src") == [(2 * ROWS,)]


@pytest.mark.req("DMS-MWBT-REQ-0076")
def test_killed_at_any_step_rows_are_those_of_the_datasets(
    short_dir: Path, daemon: PantryDaemon, butler: Butler, outputs: Outputs
) -> None:
    """The daemon dies before or after each step of a put; what it left is put right when it starts."""
    steps = short_dir / "steps"
    daemon.stop()
    daemon.module = "tests.fault.stepping_daemon"
    # The journal's record, the object, the token's end, the record's end: at each of them, and once at none.
    seen: list[str] = []
    for exposure, (at, do) in enumerate([(-1, ""), *itertools.product(range(4), ("kill-before", "kill-after"))], 1):
        environment = {"STEPS_FILE": str(steps), "STEP_AT": str(at), "STEP_DO": do, "PYTHONPATH": str(ROOT)}
        daemon.start(env=environment)
        steps.touch()
        answered = True
        try:
            with Butler("outputs", run="night", socket=daemon.socket) as writer:
                writer.put(sources(exposure), "src", data_id(exposure))
        except DaemonUnavailableError:
            answered = False
        deadline = time.monotonic() + 30
        while daemon.is_alive and "Journal.clear" not in steps.read_text():
            assert time.monotonic() < deadline, steps.read_text()
            time.sleep(0.005)
        seen = seen or steps.read_text().split()
        steps.unlink()
        daemon.stop()
        daemon.start(env=environment | {"STEP_AT": "-1"})
        with Butler("outputs", collections="night", socket=daemon.socket) as reader:
            there = {ref.data_id["exposure"] for ref in reader.query_datasets("src", collections="night")}
            assert not answered or exposure in there
            rows = dict(outputs.rows("SELECT exposure, COUNT(*) FROM src GROUP BY exposure"))
            assert rows == dict.fromkeys(there, ROWS), (at, do)
            assert outputs.rows("SELECT COUNT(*) FROM pantry_object WHERE key LIKE '%/src/%'") == [(len(there),)]
            assert outputs.rows("SELECT COUNT(*) FROM pantry_object WHERE token IS NOT NULL") == [(0,)]
            for one in there:
                assert (reader.get("src", data_id(one))["flux"] == float(one)).all()
        daemon.stop()
    assert seen[:2] == ["Journal.record", "SqlBackend.write_from"]
    assert len(seen) == 4


def test_statements_can_only_read_and_values_stay_values(
    daemon: PantryDaemon, butler: Butler, outputs: Outputs
) -> None:
    butler.put(sources(1), "src", data_id(1))
    service = QueryService("outputs", socket=daemon.socket)
    for text in (
        "DELETE FROM src",
        "SELECT 1; DELETE FROM src",
        "SELECT 1) AS x; DELETE FROM src; SELECT * FROM (SELECT 1",
        "SELECT 1; COMMIT; DELETE FROM src",
        "WITH gone AS (DELETE FROM src RETURNING id) SELECT * FROM gone",
        "DROP TABLE src",
        "no statement",
        "SELECT id FROM absent",
        # SQLite gives the second one another name.
        *(["SELECT id, id FROM src"] if outputs.options else []),
    ):
        with pytest.raises(InvalidQueryError):
            service.run(text)
    assert outputs.rows("SELECT COUNT(*) FROM src") == [(ROWS,)]
    for evil in ("'", "' OR 1=1 --", "%s", "%(x)s", ":x", "\\'", '"', "/*", "x'); DELETE FROM src; --"):
        text = "SELECT :v AS v, '100%' AS w FROM src WHERE id = :i AND '%s%s' <> :v -- end"
        got = service.run(text, {"v": evil, "i": 1})
        assert (got["v"].tolist(), got["w"].tolist()) == ([evil], ["100%"])
    got = service.run("SELECT id FROM src WHERE id IN :ids ORDER BY id", {"ids": [5, 3, 2**40]})
    assert got["id"].tolist() == [3, 5]
    # No database's driver is given what it cannot take, nor anything but what was said.
    for value in (2**63, -(2**63) - 1, [1, 2**63], [2**63, 0.5], "\ud800", ["a", "\ud800"], "a\0b", float("nan")):
        text = "SELECT :v AS v" if not isinstance(value, list) else "SELECT id FROM src WHERE id IN :v"
        with pytest.raises(InvalidQueryError, match="'v'"):
            service.run(text, {"v": value})
    for sent in (2**63, (1, 2**63), (2**63, 0.5)):
        question = Statement(text="SELECT id FROM src WHERE id IN :v", parameters={"v": sent})
        with pytest.raises(InvalidQueryError, match="64 bits"):
            service.connection.call(RunQuery(service="outputs", question=question))
    assert service.run("SELECT id FROM src WHERE id < :v", {"v": 2**63 - 1})["id"].size == ROWS
    with pytest.raises(LimitExceededError):
        service.run("SELECT id FROM src", max_rows=10)
    assert len(service.run("SELECT id FROM src", max_rows=ROWS)) == ROWS
    with pytest.raises(InvalidQueryError, match="has no circle"):
        service.run("SELECT id FROM src WHERE :c = id", {"c": Circle(ra=1.0, dec=2.0, radius=3.0)})


@pytest.mark.root
def test_who_is_not_named_may_not_ask(
    needs_root: None, make_daemon: Callable[..., PantryDaemon], outputs: Outputs
) -> None:
    daemon = make_daemon({"services": {"outputs": {"root": outputs.service, "options": outputs.options}}}, system=True)
    code = "import sys; from pantry.client import QueryService as S; S('outputs', socket=sys.argv[1]).run('SELECT 1')"
    assert PermissionDeniedError.__name__ in run_as(41003, code, daemon.socket).stderr
