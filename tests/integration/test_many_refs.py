"""As many references as a repository has stream through daemon and client in memory that does not grow with them."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from tests.servers.pantryd import PantryDaemon
from tests.servers.postgresql import PostgresqlServer
from tests.unit.registry.survey import CHAIN, MILLION, RAWS, Survey, observe

from pantry.client import Butler
from pantry.daemon.registry import Registry

HUNDRED_THOUSAND = Survey(raw_visits=200, visits=200, visits_per_run=7)
GROWTH_BYTES = 24 << 20
"""How much more anonymous memory either process may have while it streams; a million refs as objects are 500 MiB."""

# The client, in a process of its own. The memory of both is looked at while the stream runs.
_CLIENT = """
import json, sys
from pathlib import Path
from pantry.client import Butler

socket, daemon, runs = sys.argv[1], sys.argv[2], json.loads(sys.argv[3])

def anonymous(pid):
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(1024 * int(line.split()[1]) for line in lines if line.startswith("RssAnon:"))

with Butler("survey", socket=socket) as butler:
    # Once, so that statements, threads and pools are there.
    for _ in butler.iter_datasets("*", collections=runs, find_first=False, limit=20_000):
        pass
    before = anonymous("self"), anonymous(daemon)
    most = list(before)
    count = 0
    for ref in butler.iter_datasets("*", collections=runs, find_first=False):
        count += 1
        if count % 2_500 == 0:
            most = [max(most[0], anonymous("self")), max(most[1], anonymous(daemon))]
    print(json.dumps({"count": count, "client": most[0] - before[0], "daemon": most[1] - before[1]}))
"""


@pytest.fixture(
    params=[
        pytest.param((dialect, survey), id=f"{dialect}-{survey.n_datasets}", marks=marks)
        for survey, marks in ((HUNDRED_THOUSAND, ()), (MILLION, pytest.mark.soak))
        for dialect in ("sqlite", "postgresql")
    ]
)
def survey(
    request: pytest.FixtureRequest, short_dir: Path, make_daemon: Callable[..., PantryDaemon]
) -> Iterator[tuple[PantryDaemon, Survey, str]]:
    dialect, size = request.param
    with ExitStack() as stack:
        root, url = short_dir / "repo", ""
        if dialect == "postgresql":
            server: PostgresqlServer = request.getfixturevalue("postgresql")
            url = stack.enter_context(server.database())
        daemon = make_daemon()
        stack.callback(daemon.stop)  # before its database goes
        Butler.create("survey", str(root), registry=url, socket=daemon.socket).close()
        registry = Registry.open(url or f"sqlite:///{root}/.pantry/registry.sqlite3")
        observe(registry, size)
        registry.close()
        yield daemon, size, dialect


def test_all_refs_stream_in_bounded_memory(survey: tuple[PantryDaemon, Survey, str]) -> None:
    daemon, size, _ = survey
    done = subprocess.run(
        [sys.executable, "-c", _CLIENT, daemon.socket, str(daemon.pid), json.dumps([CHAIN, RAWS])],
        check=True,
        capture_output=True,
        text=True,
        timeout=300,
    )
    found = json.loads(done.stdout)
    print(found)
    assert found["count"] == size.n_datasets
    assert found["client"] < GROWTH_BYTES
    assert found["daemon"] < GROWTH_BYTES
