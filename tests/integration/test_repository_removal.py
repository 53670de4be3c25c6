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
from tests.unit.fusefs.mounted import wait_until

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
    above = request.getfixturevalue("s3_root") if "S3" in request.param else str(short_dir / "over")
    root = above + ("/above/root" if "S3" in request.param else "/above/a root=1")
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
    # The proof of a write goes a moment after its answer.
    wait_until(lambda: not [one for one in site.files() if ".pantry-" in one], what="the end of the puts")
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
    """Though others refer to it: only those that are named are asked."""
    butler = site.create()
    for number in (1, 2):
        butler.put(b"x", "blob", where(number), run="u/run")
    above, _, name = site.root.rpartition("/")
    for number, called in ((1, "named"), (2, "unnamed")):
        root = above if called == "named" else above.rpartition("/")[0]
        within = name if called == "named" else f"{above.rpartition('/')[2]}/{name}"
        with Butler.create(called, root, socket=site.daemon.socket) as other:
            furnish(other, n_exposures=5)
            path = f"{within}/u/run/blob/{INSTRUMENT}/{number}/blob_{INSTRUMENT}_{number}_0.bin"
            other.ingest("blob", [(path, where(number))], run="u/in", transfer="in_place")
    with pytest.raises(RepositoryNotFoundError):
        Butler.remove_repository("demo", keep_files_of="unknown", socket=site.daemon.socket)
    with pytest.raises(InvalidRequestError, match="itself"):
        Butler.remove_repository("demo", keep_files_of="demo", socket=site.daemon.socket)
    assert len(butler.query_datasets("blob", "u/run")) == 2, "refused, so nothing has changed"
    done = Butler.remove_repository("demo", keep_files_of="named", socket=site.daemon.socket)
    assert (done.files, done.kept) == (1, 1)
    left = {one for one in site.files() if "_2_0" in one or "_1_0" in one}
    assert len(left) == 1
    assert left.pop().endswith("_1_0.bin")


@pytest.mark.req("DMS-MWBT-REQ-0005")
def test_it_says_what_is_left_and_goes_on(
    seaweed: SeaweedServer, storage_config: dict[str, Any], s3_root: str, make_daemon: Callable[..., PantryDaemon]
) -> None:
    with FaultProxy(("127.0.0.1", seaweed.port)) as proxy:
        storage_config["storage"][0]["options"] |= {"endpoint_url": proxy.endpoint_url, "max_attempts": 1}
        daemon = make_daemon(storage_config)
        daemon.expected_log = (" WARNING ",)
        site = Site(daemon, s3_root + "/demo", "", seaweed.client())
        butler = site.create()
        for number in range(1, 6):
            butler.put(b"x", "blob", where(number), run="u/run")
        # Another one refers to the first file, from the root above.
        above, _, name = site.root.rpartition("/")
        with Butler.create("above", above, socket=daemon.socket) as other:
            furnish(other, n_exposures=5)
            path = f"{name}/u/run/blob/{INSTRUMENT}/1/blob_{INSTRUMENT}_1_0.bin"
            other.ingest("blob", [(path, where(1))], run="u/in", transfer="in_place")
        proxy.refusing = True
        done = pantry(butler, "repo", "remove", "demo", "--keep-files-of", "above", "--yes")
        assert done.returncode == 1
        assert "4 files are left" in done.stderr
        assert "`pantry repo remove demo --keep-files-of above` goes on" in done.stderr
        with pytest.raises(RepositoryNotFoundError, match=r"is being removed(.|\n)*demo --keep-files-of above`"):
            butler.query_datasets("blob", "u/run")
        with pytest.raises(PantryError):
            butler.put(b"x", "blob", where(1), run="u/other")
        proxy.refusing = False
        done = pantry(butler, "repo", "remove", "demo", "--yes")
        assert done.returncode == 0, done.stderr
        assert {one.rpartition("/")[2] for one in site.files()} == {path.rpartition("/")[2]}
        with Butler("above", collections="u/in", socket=daemon.socket) as other:
            assert other.get("blob", where(1)) == b"x"
        site.client.close()


@pytest.mark.req("DMS-MWBT-REQ-0006")
def test_who_goes_on_need_not_say_again_whose_files_stay(
    make_daemon: Callable[..., PantryDaemon], storage_config: dict[str, Any], short_dir: Path
) -> None:
    """It is cut off between two chunks; whoever goes on leaves it out."""
    daemon = make_daemon(storage_config, start=False)
    daemon.module = "tests.fault.stepping_daemon"
    steps = short_dir / "steps"

    def start(at: int = -1) -> None:
        env = {"STEPS_FILE": str(steps), "STEP_AT": str(at), "STEP_DO": "kill-after"}
        daemon.start(env=env | {"PYTHONPATH": str(Path(__file__).parents[2])})

    start(at=0)
    site = Site(daemon, str(short_dir / "above" / "demo"), "", None)
    with site.create() as butler:
        butler.put(b"kept", "blob", where(1), run="u/run")
        butler.put(b"gone", "blob", where(2), run="u/run")
    with Butler.create("above", str(short_dir / "above"), socket=daemon.socket) as other:
        furnish(other, n_exposures=5)
        path = f"demo/u/run/blob/{INSTRUMENT}/1/blob_{INSTRUMENT}_1_0.bin"
        other.ingest("blob", [(path, where(1))], run="u/in", transfer="in_place")
    steps.touch()
    with pytest.raises(PantryError):
        Butler.remove_repository("demo", keep_files_of="above", socket=daemon.socket)
    assert steps.read_text().split() == ["Registry.begin_removal"]
    steps.unlink()
    daemon.kill()
    start()
    planned = Butler.remove_repository("demo", dry_run=True, socket=daemon.socket)
    assert (planned.files, planned.kept, planned.keep_files_of) == (1, 1, ("above",))
    # Nor is it forgotten if that one cannot be asked now.
    assert pantry(other, "repo", "remove", "above", "--yes", "--keep-files-of", "above").returncode != 0
    index = daemon.state / "repositories.json"
    daemon.stop()
    whole = index.read_text()
    index.write_text(whole.replace('"above": {', '"hidden": {'))
    start()
    with pytest.raises(RepositoryNotFoundError, match=r"files of 'above' were to be kept(.|\n)*an empty one does"):
        Butler.remove_repository("demo", socket=daemon.socket)
    daemon.stop()
    index.write_text(whole)
    start()
    done = Butler.remove_repository("demo", socket=daemon.socket)
    assert (done.files, done.kept, done.left) == (1, 1, 0)
    with Butler("above", collections="u/in", socket=daemon.socket) as other:
        assert other.get("blob", where(1)) == b"kept"


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


@pytest.mark.req("DMS-MWBT-REQ-0005")
def test_the_password_of_its_registry_is_looked_up_again(
    make_daemon: Callable[..., PantryDaemon],
    storage_config: dict[str, Any],
    s3_root: str,
    postgresql: PostgresqlServer,
    short_dir: Path,
) -> None:
    """It is cut off when the files are gone; what is remembered of the rest holds no password."""
    with postgresql.database() as url:
        with Butler.create("made", s3_root, registry=url, socket=make_daemon(storage_config).socket) as butler:
            furnish(butler)
        secret = short_dir / "secret"
        secret.write_text(postgresql.password)
        secret.chmod(0o600)
        bare = url.replace(f":{postgresql.password}@", "@")
        repository = {"root": s3_root, "registry": bare, "registry_password": {"file": str(secret)}}
        daemon = make_daemon(storage_config | {"repositories": {"demo": repository}}, start=False)
        daemon.module = "tests.fault.stepping_daemon"
        steps = short_dir / "steps"
        env = {"STEPS_FILE": str(steps), "PYTHONPATH": str(Path(__file__).parents[2]), "STEP_DO": "kill-after"}
        daemon.start(env=env | {"STEP_AT": "2"})
        site = Site(daemon, s3_root, url, None)
        steps.touch()
        with pytest.raises(PantryError):
            Butler.remove_repository("demo", socket=daemon.socket)
        assert steps.read_text().split()[-1] == "SiteIndex.replace"
        steps.unlink()
        daemon.kill()
        daemon.start(env=env)
        remembered = (daemon.state / "repositories.json").read_text()
        assert '"remains"' in remembered
        assert postgresql.password not in remembered
        assert site.tables() != []
        assert Butler.remove_repository("demo", socket=daemon.socket).left == 0
        assert site.tables() == []
