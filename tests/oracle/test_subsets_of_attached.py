"""Subsets of repositories of the Gen3 Butler: copies that are read alone, and views of what it holds."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.oracle.test_attached import make_repository
from tests.servers.pantryd import PantryDaemon

from pantry.client import Butler
from pantry.errors import ConflictError, DatasetNotFoundError, IntegrityError, InvalidRequestError

EXPOSURES = (1, 3)
WHERE = "instrument = 'Cam' AND exposure IN (1, 3)"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_repository(tmp_path_factory.mktemp("gen3") / "repository")


@pytest.fixture
def gen3(made: Path, short_dir: Path) -> Path:
    """A Gen3 repository of the test's own."""
    return Path(shutil.copytree(made, short_dir / "gen3"))


def attached(daemon: PantryDaemon, gen3: Path) -> Butler:
    words = [sys.executable, "-m", "pantry.client.cli.main", "repo", "attach", "old", str(gen3 / "butler.yaml")]
    done = subprocess.run(
        words, env={**os.environ, "PANTRY_SOCKET": daemon.socket}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return Butler("old", socket=daemon.socket)


def expected(butler: Butler) -> dict[str, Any]:
    """Read and ask everything that the part can answer."""
    found: dict[str, Any] = {}
    for number in EXPOSURES:
        at = {"instrument": "Cam", "exposure": number, "detector": 0}
        found[f"meta {number}"] = butler.get("meta", at, collections="chain")
        found[f"bias {number}"] = butler.get("bias", at, collections="calib")
    refs = butler.query_datasets("meta", "chain", where=WHERE)
    found["refs"] = sorted((str(ref.id), ref.run, ref.data_id["exposure"], ref.data_id["detector"]) for ref in refs)
    found["tagged"] = sorted(str(ref.id) for ref in butler.query_datasets("meta", "tag"))
    near = "visit.region OVERLAPS CIRCLE(10, 0, 1)"
    found["near"] = [ref.data_id["visit"] for ref in butler.query_datasets("cat", "run/1", where=near)]
    found["x"] = butler.get("cat", instrument="Cam", visit=1, collections="run/1")["x"].tolist()
    return found


@pytest.mark.req("DMS-MWBT-REQ-0011")
@pytest.mark.parametrize("where", ["directory", "s3"])
def test_a_part_of_a_gen3_repository_is_used_alone(
    make_daemon: Callable[..., PantryDaemon],
    storage_config: dict[str, Any],
    s3_root: str,
    short_dir: Path,
    gen3: Path,
    where: str,
) -> None:
    daemon = make_daemon(storage_config)
    root = s3_root if where == "s3" else str(short_dir / "mini")
    registry = f"sqlite:///{short_dir}/mini.sqlite3" if where == "s3" else ""
    with attached(daemon, gen3) as old:
        refs = [*old.query_datasets("meta", "run/1", where=WHERE)]
        refs += old.query_datasets("bias", "calib", find_first=False)
        refs += old.query_datasets("cat", "run/1", where="instrument = 'Cam' AND visit = 1")
        before = expected(old)
        done = old.subset(refs, "mini", root, collections=["chain", "tag", "calib"], registry=registry)
        assert (done.datasets, done.present) == (len(refs), 0) == (9, 0)
        assert old.subset(refs, "mini", root, collections=["chain"], registry=registry).present == len(refs)
    daemon.stop()
    shutil.rmtree(gen3)
    own = {"root": root, "registry": registry} if registry else {"root": root}
    alone = make_daemon({**storage_config, "repositories": {"mini": own}})
    with Butler("mini", socket=alone.socket) as mini:
        assert expected(mini) == before
        assert {ref.id for ref in mini.query_datasets("*", "*", find_first=False)} == {ref.id for ref in refs}
        # Unlike the source it may be written to, and its files can be verified.
        mini.put({"e": 1}, "meta", instrument="Cam", exposure=1, detector=0, run="u/new")
        assert mini.get("meta", instrument="Cam", exposure=1, detector=0, collections="u/new") == {"e": 1}
        with pytest.raises(DatasetNotFoundError):
            mini.get("meta", instrument="Cam", exposure=2, detector=0, collections="chain")


@pytest.mark.req("DMS-MWBT-REQ-0010")
def test_a_view_of_a_gen3_repository(make_daemon: Callable[..., PantryDaemon], short_dir: Path, gen3: Path) -> None:
    """Its files are read where Gen3 has them; outputs go beside it, where Gen3 could not take them."""
    daemon = make_daemon()
    files = {path: path.read_bytes() for path in gen3.rglob("*") if path.is_file()}
    with attached(daemon, gen3) as old:
        refs = [*old.query_datasets("meta", "run/1", where=WHERE)]
        refs += old.query_datasets("bias", "calib", find_first=False)
        refs += old.query_datasets("cat", "run/1", where="instrument = 'Cam' AND visit = 1")
        before = expected(old)
        assert old.create_view(refs, "v", short_dir / "v", collections=["chain", "tag", "calib"]).datasets == 9
        with pytest.raises(ConflictError, match="'v' is a view, and files of it are in 'old'"):
            Butler.remove_repository("old", socket=daemon.socket)
    daemon.stop()
    daemon.start()
    with Butler("v", socket=daemon.socket) as view:
        assert expected(view) == before
        assert len(list(view.stage(refs, short_dir / "staged").paths)) == 9
        view.put({"e": 1}, "meta", instrument="Cam", exposure=1, detector=0, run="u/new")
        assert view.get("meta", instrument="Cam", exposure=1, detector=0, collections="u/new") == {"e": 1}
        view.create_view(refs[:1], "w", short_dir / "w")
        with pytest.raises(InvalidRequestError, match="not registered"):
            view.prefetch("meta", collections="run/1")
    Butler.remove_repository("v", socket=daemon.socket)
    with Butler("w", socket=daemon.socket) as second:
        assert second.get(refs[0]) is not None
    assert {path: path.read_bytes() for path in gen3.rglob("*") if path.is_file()} == files


def test_by_command_and_a_file_of_another_length(
    make_daemon: Callable[..., PantryDaemon], short_dir: Path, gen3: Path
) -> None:
    """Gen3 has registered no hash of ours; its sizes are believed and checked."""
    daemon = make_daemon()
    attached(daemon, gen3).close()
    words = [sys.executable, "-m", "pantry.client.cli.main", "repo", "subset", "old", "mini", str(short_dir / "mini")]
    words += ["meta", "-c", "run/1", "--where", WHERE, "--copy", "--json"]
    environment = {**os.environ, "PANTRY_SOCKET": daemon.socket}
    done = subprocess.run(words, env=environment, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["datasets"] == 6
    damaged = next(path for path in sorted((gen3 / "run/1/cat").rglob("*")) if path.is_file())
    damaged.write_bytes(damaged.read_bytes()[:-1])
    with Butler("old", socket=daemon.socket) as old, pytest.raises(IntegrityError, match="registered are"):
        old.subset(old.query_datasets("cat", "run/1"), "other", short_dir / "other")
