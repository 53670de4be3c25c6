"""Repositories: registered by name as they are made, versioned, and ready for new dataset types."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from tests.integration.command_line import pantry
from tests.integration.observatory import INSTRUMENT, furnish
from tests.servers.pantryd import PantryDaemon
from tests.servers.postgresql import PostgresqlServer

from pantry.client import Butler
from pantry.errors import ConfigError, ConflictingDefinitionError, DatasetTypeError, MissingDatasetTypeError
from pantry.model.datasets import DatasetType
from pantry.model.repository import DATA_MODEL_VERSION

_ELSEWHERE = """
import sys
from pantry.client import Butler
butler = Butler(sys.argv[1], collections="run", socket=sys.argv[2])
print(butler.get("config", instrument="TestCam", exposure=1)["n"], butler.info.root)
"""


@pytest.mark.req("DMS-MWBT-REQ-0024")
@pytest.mark.parametrize("where", ["directory", "bucket"])
def test_a_repository_is_known_by_its_name_at_once_and_for_good(
    make_daemon: Callable[..., PantryDaemon], storage_config: dict[str, Any], s3_root: str, tmp_path: Path, where: str
) -> None:
    root = s3_root if where == "bucket" else f"file://{tmp_path}/repo"
    daemon = make_daemon(storage_config)
    made = Butler.create("mine", root, socket=daemon.socket)
    furnish(made, 1)
    made.put({"n": 7}, "config", instrument=INSTRUMENT, exposure=1, run="run")
    assert "mine" in [one.name for one in Butler.repositories(socket=daemon.socket)]

    def elsewhere() -> str:
        argv = [sys.executable, "-c", _ELSEWHERE, "mine", daemon.socket]
        return subprocess.run(argv, capture_output=True, text=True, timeout=60, check=True).stdout

    # Another process says only the name, wherever the files are; also after a restart of the daemon.
    assert elsewhere() == f"7 {root}\n"
    daemon.stop()
    daemon.start()
    assert elsewhere() == f"7 {root}\n"


@pytest.mark.req("DMS-MWBT-REQ-0002")
def test_a_repository_says_its_version_and_a_newer_one_is_refused(
    make_daemon: Callable[..., PantryDaemon], tmp_path: Path
) -> None:
    root = tmp_path / "repo"
    with make_daemon() as daemon:
        made = Butler.create("d", str(root), socket=daemon.socket)
        assert made.info.version == DATA_MODEL_VERSION
        shown = pantry(made, "repo", "info", "d")
        assert f"data model  {DATA_MODEL_VERSION}\n" in shown.stdout
        assert json.loads(pantry(made, "repo", "info", "d", "--json").stdout)["version"] == DATA_MODEL_VERSION
    description = root / "pantry.yaml"
    newer = DATA_MODEL_VERSION + 1
    written = description.read_text()
    description.write_text(written.replace(f"version: {DATA_MODEL_VERSION}", f"version: {newer}") + "unheard_of: 1\n")
    later = make_daemon({"repositories": {"d": {"root": str(root)}}})
    with pytest.raises(ConfigError, match=f"data model version {newer} is newer") as caught:
        Butler("d", socket=later.socket)
    assert "update Pantry" in caught.value.hint
    description.write_text(written)
    assert Butler("d", socket=later.socket).info.version == DATA_MODEL_VERSION


def test_the_description_has_the_registrys_address_without_its_password(
    make_daemon: Callable[..., PantryDaemon], postgresql: PostgresqlServer, tmp_path: Path
) -> None:
    """Whoever reads it can put the password in; a placeholder would be taken for one."""
    root = tmp_path / "repo"
    daemon = make_daemon()
    with postgresql.database() as url:
        Butler.create("d", str(root), registry=url, socket=daemon.socket)
        written = yaml.safe_load((root / "pantry.yaml").read_text())["registry"]
        daemon.stop()
    assert f":{postgresql.password}@" in url
    assert written == url.replace(f":{postgresql.password}@", "@")


@pytest.mark.req("DMS-MWBT-REQ-0059")
def test_new_dataset_types_are_made_by_a_call(make_daemon: Callable[..., PantryDaemon], tmp_path: Path) -> None:
    daemon = make_daemon()
    first = Butler.create("d", str(tmp_path / "repo"), socket=daemon.socket)
    furnish(first, 1)
    second = Butler("d", run="run", socket=daemon.socket)
    with pytest.raises(MissingDatasetTypeError):
        second.put({"a": 1}, "seeing", instrument=INSTRUMENT, exposure=1)
    assert first.register_dataset_type("seeing", ["exposure"], "StructuredDataDict")
    # Everybody can use it at once, and its dimensions are complete.
    ref = second.put({"a": 1}, "seeing", instrument=INSTRUMENT, exposure=1)
    assert first.get(ref) == {"a": 1}
    complete = second.get_dataset_type("seeing")
    assert {"instrument", "exposure", "physical_filter", "day_obs", "band"} <= set(complete.dimensions)
    assert not second.register_dataset_type(complete)
    with pytest.raises(ConflictingDefinitionError, match="storage_class is"):
        second.register_dataset_type("seeing", ["exposure"], "StructuredDataList")
    with pytest.raises(DatasetTypeError, match="unknown storage class"):
        second.register_dataset_type(DatasetType(name="x", dimensions=("exposure",), storage_class="Nonsense"))
    assert [one.name for one in first.query_dataset_types("see*")] == ["seeing"]
