"""The same `put` and `get`, word for word, for every kind of repository and in every context (MWBT-0036, 0067)."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from astropy.io import fits
from tests.fault.proxy import Fault, FaultProxy
from tests.integration.observatory import INSTRUMENT, furnish
from tests.integration.test_outputs import files
from tests.servers.isolated import run_isolated
from tests.servers.pantryd import PantryDaemon
from tests.servers.postgresql import PostgresqlServer
from tests.servers.seaweedfs import SeaweedServer

from pantry.client import Butler
from pantry.errors import BackendError

# What a pipeline's step would do: not a word of where the data are.
STEP = """
from astropy import units
from astropy.nddata import CCDData
from astropy.table import Table
import numpy

def step(butler, exposure):
    given = [butler.get(ref)["n"] for ref in butler.query_datasets("config")]
    image = CCDData(numpy.full((4, 5), float(exposure), numpy.float32), unit="adu", meta={"EXPNUM": exposure})
    table = Table({"flux": [1.0, 2.0] * units.Jy, "exposure": [exposure] * 2})
    data_id = {"instrument": "TestCam", "exposure": exposure}
    refs = [
        butler.put(image, "image", data_id),
        butler.put(table, "stars", data_id),
        butler.put({"n": exposure}, "config", data_id),
    ]
    back = butler.get(refs[0]), butler.get("stars", data_id), butler.get_deferred("config", data_id).get()
    assert (back[0].data == exposure).all() and back[0].unit == "adu" and back[0].header["EXPNUM"] == exposure
    assert back[1]["flux"].unit == "Jy" and list(back[1]["flux"]) == [1.0, 2.0]
    assert back[2] == {"n": exposure}
    return sorted(given)
"""
JOB = f"""
import json, sys
from pantry.client import Butler
{STEP}
butler = Butler.from_bundle(sys.argv[2]) if sys.argv[1] == "bundle" else Butler("d")
butler = butler.clone(run="night")
print(json.dumps(step(butler, int(sys.argv[3]))))
"""

KINDS = ("directory", "postgresql", "bucket", "bundle")


@pytest.fixture(params=KINDS)
def place(
    request: pytest.FixtureRequest,
    make_daemon: Callable[..., PantryDaemon],
    storage_config: dict[str, Any],
    tmp_path: Path,
) -> Iterator[tuple[str, Butler, Path]]:
    kind: str = request.param
    daemon = make_daemon(storage_config)
    root = request.getfixturevalue("s3_root") if kind == "bucket" else str(tmp_path / "repo")
    if kind == "postgresql":
        server: PostgresqlServer = request.getfixturevalue("postgresql")
        with server.database() as url:
            yield kind, made(daemon, root, url), tmp_path
            daemon.stop()
        return
    butler = made(daemon, root, "")
    if kind == "bundle":
        butler.put({"n": 0}, "config", instrument=INSTRUMENT, exposure=9)
        outputs = [{"instrument": INSTRUMENT, "exposure": number} for number in range(1, 9)]
        butler.create_bundle(butler.query_datasets("config"), tmp_path / "bundle", run="night", data_ids=outputs)
        butler = Butler.from_bundle(tmp_path / "bundle").clone(run="night")
    yield kind, butler, tmp_path


def made(daemon: PantryDaemon, root: str, registry: str) -> Butler:
    butler = Butler.create("d", root, registry=registry, socket=daemon.socket)
    furnish(butler, 9)
    butler.register_dataset_type("image", ["exposure"], "CCDData")
    butler.register_dataset_type("stars", ["exposure"], "FitsTable")
    butler.collections.register("night")
    return Butler("d", run="night", socket=daemon.socket)


@pytest.mark.req("DMS-MWBT-REQ-0036")
@pytest.mark.req("DMS-MWBT-REQ-0039")
@pytest.mark.req("DMS-MWBT-REQ-0064")
@pytest.mark.req("DMS-MWBT-REQ-0067")
@pytest.mark.req("DMS-MWBT-REQ-0068")
@pytest.mark.req("DMS-MWBT-REQ-0070")
@pytest.mark.req("DMS-MWBT-REQ-0071")
def test_one_step_runs_unchanged_everywhere(place: tuple[str, Butler, Path]) -> None:
    """In a batch job, in a notebook, in a test; each adds to what the one before has left, and reads it."""
    from IPython.core.interactiveshell import InteractiveShell

    kind, butler, path = place
    before = [0] if kind == "bundle" else []
    script = path / "job.py"
    script.write_text(JOB)
    command = [sys.executable, str(script), kind, str(path / "bundle"), "1"]
    if kind == "bundle":
        job = run_isolated(JOB, *command[2:], home=path / "home", check=False)  # without network and daemon
    else:
        environment = {**os.environ, "PANTRY_SOCKET": butler.connection.socket_path}
        job = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=60)
    assert job.returncode == 0, job.stderr
    assert json.loads(job.stdout) == before
    notebook = InteractiveShell()
    notebook.user_ns.update(butler=butler)
    assert notebook.run_cell(STEP).success
    assert notebook.run_cell("seen = step(butler, 2)").success
    assert notebook.user_ns["seen"] == [*before, 1]
    test: dict[str, Any] = {}
    exec(STEP, test)  # noqa: S102 - the text above
    assert test["step"](butler, 3) == [*before, 1, 2]
    assert np.array_equal(butler.get("image", instrument=INSTRUMENT, exposure=1).data, np.full((4, 5), 1.0))


@pytest.mark.req("DMS-MWBT-REQ-0061")
@pytest.mark.req("DMS-MWBT-REQ-0062")
def test_images_and_tables_are_standard_fits(make_daemon: Callable[..., PantryDaemon], tmp_path: Path) -> None:
    import fitsio

    butler = made(make_daemon(), str(tmp_path / "repo"), "")
    scope: dict[str, Any] = {}
    exec(STEP, scope)  # noqa: S102
    scope["step"](butler, 1)
    found = {path.name.partition("_")[0]: path for path in files(tmp_path / "repo") if path.suffix == ".fits"}
    assert fitsio.read(found["image"]).tolist() == np.full((4, 5), 1.0).tolist()
    assert fitsio.read_header(found["image"])["BUNIT"].strip() == "adu"
    assert fitsio.read(found["stars"])["flux"].tolist() == [1.0, 2.0]
    for path in found.values():
        with fits.open(path, checksum=True) as hdus:
            hdus.verify("exception")


@pytest.mark.req("DMS-MWBT-REQ-0073")
def test_put_returns_when_it_is_stored_or_raises(
    make_daemon: Callable[..., PantryDaemon], seaweed: SeaweedServer, storage_config: dict[str, Any], s3_root: str
) -> None:
    client = seaweed.client()
    with FaultProxy(("127.0.0.1", seaweed.port)) as proxy:
        storage_config["storage"][0]["options"] |= {"endpoint_url": proxy.endpoint_url, "max_attempts": 1}
        daemon = make_daemon(storage_config)
        butler = made(daemon, s3_root, "")
        butler.put({"n": 1}, "config", instrument=INSTRUMENT, exposure=1)
        # At once: another process finds it, and the service itself has it.
        look = (
            "from pantry.client import Butler\n"
            "print(Butler('d', collections='night').get('config', instrument='TestCam', exposure=1))"
        )
        environment = {**os.environ, "PANTRY_SOCKET": daemon.socket}
        seen = subprocess.run([sys.executable, "-c", look], env=environment, capture_output=True, text=True, check=True)
        assert seen.stdout == "{'n': 1}\n"
        bucket, prefix = s3_root.removeprefix("s3://").split("/", 1)
        key = f"{prefix}/night/config/{INSTRUMENT}/config_{INSTRUMENT}_1.json"
        assert json.loads(client.get_object(Bucket=bucket, Key=key)["Body"].read()) == {"n": 1}
        proxy.inject(Fault(method="PUT", status=403, times=-1))
        with pytest.raises(BackendError):
            butler.put({"n": 2}, "config", instrument=INSTRUMENT, exposure=2)
        assert not butler.exists("config", instrument=INSTRUMENT, exposure=2)
        proxy.clear()
        butler.put({"n": 2}, "config", instrument=INSTRUMENT, exposure=2)
    client.close()
