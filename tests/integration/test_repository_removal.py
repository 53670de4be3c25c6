"""Repositories are removed: files, registry and registration; what others refer to stays (DMS-MWBT-REQ-0005, 0006)."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import sqlalchemy as sa
from tests.fault.proxy import FaultProxy
from tests.integration.command_line import pantry
from tests.integration.observatory import INSTRUMENT, furnish
from tests.servers.other_user import run_as
from tests.servers.pantryd import PantryDaemon
from tests.servers.postgresql import PostgresqlServer
from tests.servers.seaweedfs import SeaweedServer

from pantry.client import Butler
from pantry.errors import ConflictError, InvalidRequestError, PantryError, RepositoryNotFoundError
from pantry.wire.operations import ChainRepositories

WRITER, OWNER = 4711, 4712


class Site(NamedTuple):
    """Where a repository is to be made, and how to look at it from outside."""

    daemon: PantryDaemon
    root: str
    registry: str
    client: Any

    def create(self) -> Butler:
        butler = Butler.create("demo", self.root, registry=self.registry, socket=self.daemon.socket)
        furnish(butler, n_exposures=5)
        return butler

    def files(self) -> set[str]:
        if not self.root.startswith("s3:"):
            return {str(path) for path in Path(self.root).rglob("*")} | ({self.root} & {str(p) for p in _there(self)})
        bucket, prefix = self.root.removeprefix("s3://").split("/", 1)
        pages = self.client.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix + "/")
        return {one["Key"] for page in pages for one in page.get("Contents", ())}

    def tables(self) -> list[str]:
        if not self.registry:
            return [str(path) for path in self.daemon.state.rglob("*.sqlite3") if "registries" in str(path)]
        engine = sa.create_engine(self.registry)
        try:
            return [name for name in sa.inspect(engine).get_table_names() if name != "operators_own"]
        finally:
            engine.dispose()


def _there(site: Site) -> list[Path]:
    return [path for path in [Path(site.root)] if path.exists()]


@pytest.fixture(params=["POSIX, SQLite", "S3, SQLite", "S3, PostgreSQL"])
def site(
    request: pytest.FixtureRequest,
    seaweed: SeaweedServer,
    postgresql: PostgresqlServer,
    storage_config: dict[str, Any],
    make_daemon: Callable[..., PantryDaemon],
    short_dir: Path,
) -> Iterator[Site]:
    root = request.getfixturevalue("s3_root") + "/root" if "S3" in request.param else str(short_dir / "root")
    client = seaweed.client()
    with postgresql.database() as url:
        yield Site(make_daemon(storage_config), root, url if "PostgreSQL" in request.param else "", client)
    client.close()


def where(exposure: int) -> dict[str, Any]:
    return {"instrument": INSTRUMENT, "exposure": exposure, "detector": 0}


@pytest.mark.req("DMS-MWBT-REQ-0005")
def test_nothing_is_left_and_the_name_is_free(site: Site) -> None:
    butler = site.create()
    for number in range(1, 6):
        butler.put(b"x" * 10, "blob", where(number), run="u/run")
    if site.registry:
        engine = sa.create_engine(site.registry)
        with engine.begin() as connection:
            connection.execute(sa.text("CREATE TABLE operators_own (id INTEGER)"))
        engine.dispose()
    before = site.files()
    planned = Butler.remove_repository("demo", dry_run=True, socket=site.daemon.socket)
    assert (planned.datasets, planned.files, planned.size_bytes, planned.kept) == (5, 5, 50, 0)
    assert site.files() == before
    done = pantry(butler, "repo", "remove", "demo", "--yes")
    assert done.returncode == 0, done.stderr
    assert "removed: 5 datasets, 5 files" in done.stderr
    assert site.files() == set()
    assert site.tables() == []
    if site.registry:
        assert sa.inspect(engine).has_table("operators_own"), "only ours"
        engine.dispose()
    with pytest.raises(RepositoryNotFoundError):
        butler.query_datasets("blob", "u/run")
    assert list(Butler.repositories(socket=site.daemon.socket)) == []
    again = site.create()
    again.put(b"y", "blob", where(1), run="u/run")
    assert len(again.query_datasets("blob", "u/run")) == 1


@pytest.mark.req("DMS-MWBT-REQ-0006")
def test_files_of_others_stay(site: Site, short_dir: Path) -> None:
    """Others refer to them in place, from a root above, or by symbolic links."""
    butler = site.create()
    for number in range(1, 6):
        butler.put(f"{number}".encode() * 10, "blob", where(number), run="u/run")
    local = not site.root.startswith("s3:")
    above, _, name = site.root.rpartition("/")
    others = ["above"]
    with Butler.create("above", above, socket=site.daemon.socket) as other:
        furnish(other, n_exposures=5)
        path = f"{name}/u/run/blob/{INSTRUMENT}/1/blob_{INSTRUMENT}_1_0.bin"
        other.ingest("blob", [(path, where(1))], run="u/in", transfer="in_place")
        if local:
            others.append("linked")
            with Butler.create("linked", str(short_dir / "linked"), socket=site.daemon.socket) as links:
                furnish(links, n_exposures=5)
                target = f"{site.root}/u/run/blob/{INSTRUMENT}/2/blob_{INSTRUMENT}_2_0.bin"
                links.ingest("blob", [(target, where(2))], run="u/in", transfer="symlink")
        done = Butler.remove_repository("demo", keep_files_of=others, socket=site.daemon.socket)
        assert (done.datasets, done.files, done.kept, done.others) == (5, 5 - len(others), len(others), len(others))
        with Butler(others, collections="u/in", socket=site.daemon.socket) as rest:
            for number in range(1, len(others) + 1):
                with rest.open("blob", where(number)) as file:
                    assert file.read() == f"{number}".encode() * 10
        assert not any("3/blob" in one for one in site.files())


@pytest.mark.req("DMS-MWBT-REQ-0006")
def test_what_nobody_names_is_not_kept(site: Site) -> None:
    butler = site.create()
    butler.put(b"x", "blob", where(1), run="u/run")
    with pytest.raises(RepositoryNotFoundError):
        Butler.remove_repository("demo", keep_files_of="unknown", socket=site.daemon.socket)
    with pytest.raises(InvalidRequestError, match="itself"):
        Butler.remove_repository("demo", keep_files_of="demo", socket=site.daemon.socket)
    assert len(butler.query_datasets("blob", "u/run")) == 1, "refused, so nothing has changed"


@pytest.mark.req("DMS-MWBT-REQ-0005")
def test_it_says_what_is_left_and_goes_on(
    seaweed: SeaweedServer, storage_config: dict[str, Any], s3_root: str, make_daemon: Callable[..., PantryDaemon]
) -> None:
    with FaultProxy(("127.0.0.1", seaweed.port)) as proxy:
        storage_config["storage"][0]["options"] |= {"endpoint_url": proxy.endpoint_url, "max_attempts": 1}
        daemon = make_daemon(storage_config)
        daemon.expected_log = (" WARNING ",)
        site = Site(daemon, s3_root, "", seaweed.client())
        butler = site.create()
        for number in range(1, 6):
            butler.put(b"x", "blob", where(number), run="u/run")
        proxy.refusing = True
        done = pantry(butler, "repo", "remove", "demo", "--yes")
        assert done.returncode == 1
        assert "5 files are left" in done.stderr
        assert "`pantry repo remove demo` goes on" in done.stderr
        with pytest.raises(RepositoryNotFoundError, match="is being removed"):
            butler.query_datasets("blob", "u/run")
        with pytest.raises(PantryError):
            butler.put(b"x", "blob", where(1), run="u/other")
        proxy.refusing = False
        done = pantry(butler, "repo", "remove", "demo", "--yes")
        assert done.returncode == 0, done.stderr
        assert site.files() == set()
        site.client.close()


def test_not_while_a_chain_names_it(site: Site) -> None:
    butler = site.create()
    with Butler.create("other", site.root + "-other", socket=site.daemon.socket) as other:
        other.connection.call(ChainRepositories(name="both", members=("demo", "other")))
    with pytest.raises(ConflictError, match="'both' names 'demo'"):
        Butler.remove_repository("demo", socket=site.daemon.socket)
    assert butler.query_dimension_records("exposure")


REMOVE = """
import sys
from pantry.client import Butler
from pantry.errors import PantryError
for dry_run in (True, False):
    try:
        print(Butler.remove_repository("shared", dry_run=dry_run, socket=sys.argv[1]).datasets)
    except PantryError as exc:
        print(exc.code, exc.message)
"""


@pytest.mark.root
@pytest.mark.req("DMS-MWBT-REQ-0005")
def test_only_its_owner_removes_it(
    needs_root: None, make_daemon: Callable[..., PantryDaemon], storage_config: dict[str, Any], s3_root: str
) -> None:
    daemon = make_daemon(storage_config | {"administrators": [str(OWNER)]}, system=True)
    create = f"""
import sys
from pantry.client import Butler
Butler.create("shared", sys.argv[2], writers=["{WRITER}"], socket=sys.argv[1])
"""
    made = run_as(OWNER, create, daemon.socket, s3_root)
    assert made.returncode == 0, made.stderr
    refused = run_as(WRITER, REMOVE, daemon.socket)
    said = f"permission_denied user {WRITER} may not remove the repository 'shared'"
    assert refused.stdout.splitlines() == [said] * 2, refused.stderr
    done = run_as(OWNER, REMOVE, daemon.socket)
    assert done.stdout.split() == ["0", "0"], done.stdout + done.stderr
    assert list(Butler.repositories(socket=daemon.socket)) == []
