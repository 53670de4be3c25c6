"""The active configuration: each value with what set it, no secrets, and mistakes told before anything starts."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.servers.other_user import start_as
from tests.servers.pantryd import PantryDaemon

from pantry.client import Butler

SECRET = "n0t-to-be-seen"


def pantry(daemon: PantryDaemon, *words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "pantry.client.cli.main", "--socket", daemon.socket, *words]
    return subprocess.run(
        command, env={**os.environ, **environment}, capture_output=True, text=True, timeout=60, check=False
    )


@pytest.mark.req("DMS-MWBT-REQ-0026")
def test_each_value_with_the_file_and_line_that_set_it(
    make_daemon: Callable[..., PantryDaemon], tmp_path: Path
) -> None:
    options = {"access_key_id": SECRET, "secret_access_key": SECRET, "region": "here"}
    daemon = make_daemon(
        {"storage": [{"match": "s3://x/", "options": options}], "cache": {"quota_bytes": 10**9}, "log_level": "info"}
    )
    formats = {"dataset_types": {"cat": {"formatter": "hdf5"}}}
    Butler.create(
        "d", str(tmp_path / "repo"), formats=formats, templates={"cat": "{run}/x/{exposure}"}, socket=daemon.socket
    )
    own = tmp_path / "formats.yaml"
    own.write_text("dataset_types:\n  image: {formatter: fits_image}\n")
    done = pantry(daemon, "config", "dump", "d", "--json", PANTRY_FORMATS=str(own), PANTRY_PASSWORD=SECRET)
    assert done.returncode == 0, done.stderr
    assert SECRET not in done.stdout + done.stderr
    found = {(one["part"], one["name"]): one for one in json.loads(done.stdout)}
    file = daemon.directory / "pantryd.yaml"
    lines = file.read_text().splitlines()

    def line(text: str) -> int:
        return next(number for number, one in enumerate(lines, 1) if text in one)

    assert found["daemon", "cache.quota_bytes"] == {
        "part": "daemon",
        "name": "cache.quota_bytes",
        "value": 10**9,
        "origin": f"{file}:{line('quota_bytes')}",
    }
    assert found["daemon", "storage[0].options.secret_access_key"]["value"] == "(hidden)"
    assert found["daemon", "storage[0].options.region"]["origin"] == f"{file}:{line('region')}"
    assert found["daemon", "socket"]["origin"].startswith("command line")
    assert ("daemon", "cache.chunk_bytes") not in found, "a default"
    assert found["environment", "PANTRY_PASSWORD"]["value"] == "(hidden)"
    assert found["own formats", "dataset_types.image.formatter"]["origin"] == f"{own}:2"
    assert found["d", "formats.dataset_types.cat.formatter"]["value"] == "hdf5"
    assert found["d", "templates.cat"]["value"] == "{run}/x/{exposure}"
    everything = pantry(daemon, "config", "dump", "--all")
    assert "cache.chunk_bytes" in everything.stdout
    assert SECRET not in everything.stdout
    # What was changed since is not what the daemon runs with.
    file.write_text(file.read_text().replace("1000000000", "2000000000"))
    again = pantry(daemon, "config", "dump")
    assert "1000000000" in again.stdout
    assert "has been changed since" in " ".join(again.stdout.split())


@pytest.mark.req("DMS-MWBT-REQ-0026")
def test_only_administrators_see_the_daemons(needs_root: None, make_daemon: Callable[..., PantryDaemon]) -> None:
    daemon = make_daemon({"metrics_port": 0}, system=True)
    code = (
        "import sys\nfrom pantry.client.connection import connect\nfrom pantry.errors import PantryError\n"
        "from pantry.wire.operations import GetConfiguration\n"
        "try:\n    print(len(connect(sys.argv[1]).call(GetConfiguration()).values))\n"
        "except PantryError as exc:\n    print(exc.code)\n"
    )
    stranger = start_as(40001, code, daemon.socket)
    out, _ = stranger.communicate(timeout=60)
    assert out.strip() == "permission_denied"


def test_check_tells_what_is_wrong_where(make_daemon: Callable[..., PantryDaemon], tmp_path: Path) -> None:
    daemon: Any = make_daemon()
    good = pantry(daemon, "config", "check", "--config", str(daemon.directory / "pantryd.yaml"))
    assert (good.returncode, "in order" in good.stdout) == (0, True)
    bad, own = tmp_path / "bad.yaml", tmp_path / "formats.yaml"
    bad.write_text("cache:\n  quota_byte: 5\n")
    own.write_text("dataset_types:\n  a: {formatter: jsn}\n")
    done = pantry(daemon, "config", "check", "--config", str(bad), PANTRY_FORMATS=str(own))
    assert done.returncode == 1
    assert f"{bad}:2: " in done.stdout
    assert "unknown formatter 'jsn'" in done.stdout
    assert "Traceback" not in done.stdout + done.stderr
