"""The shared VOSpace of a science platform: batch jobs put files there, notebooks read them through the node."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from astropy.io import fits
from tests.servers.pantryd import PantryDaemon
from tests.servers.vos_client import VosClient
from tests.servers.vospace import VospaceServer

CELLS = (
    "from astropy.io import fits\nfrom pantry.client import ObjectPrefix\nspace = ObjectPrefix('space', socket=socket)",
    "names = sorted(one.key for one in space.list('night/'))",
    "with space.open('night/calexp-1.fits', partial=True) as file, fits.open(file) as hdus:\n"
    "    box = hdus[1].section[100:110, 200:220].copy()",
    "log = space.read('night/job.log')",
)


@pytest.mark.req("DMS-MWBT-REQ-0029")
@pytest.mark.req("DMS-MWBT-REQ-0038")
def test_a_notebook_reads_what_a_batch_job_has_harvested(
    make_daemon: Callable[..., PantryDaemon], vospace: VospaceServer, tmp_path: Path
) -> None:
    """Harvested by the client that the platform has; read in a notebook's cells, and only as much as is asked for."""
    from IPython.core.interactiveshell import InteractiveShell

    options = {"endpoint_url": vospace.endpoint, "token": vospace.owner.token}
    daemon = make_daemon(
        {
            "storage": [{"match": "vos://", "options": options}],
            "prefixes": {"space": {"root": vospace.uri("observatory/harvest"), "readers": ["*"]}},
            "cache": {"chunk_bytes": 1 << 20},
        }
    )
    pixels = np.arange(2048 * 2048, dtype=np.int32).reshape(2048, 2048)
    image = tmp_path / "calexp-1.fits"
    fits.HDUList([fits.PrimaryHDU(), fits.ImageHDU(pixels)]).writeto(image)
    (tmp_path / "job.log").write_text("done\n")
    vospace.make_containers("observatory/harvest/night")
    home = tmp_path / "home"
    home.mkdir()
    with VosClient(vospace, home) as batch:
        for name in ("calexp-1.fits", "job.log"):
            batch("copy", str(tmp_path / name), vospace.uri(f"observatory/harvest/night/{name}"))

    shell = InteractiveShell()
    shell.push({"socket": daemon.socket})
    vospace.forget_requests()
    for cell in CELLS[:3]:
        shell.run_cell(cell).raise_error()
    came = sum(one.sent_bytes for one in vospace.requests() if one.endpoint in ("files", "data"))
    shell.run_cell(CELLS[3]).raise_error()
    found: dict[str, Any] = shell.user_ns
    assert found["names"] == ["night/calexp-1.fits", "night/job.log"]
    assert np.array_equal(found["box"], pixels[100:110, 200:220])
    assert came < image.stat().st_size / 2
    assert found["log"] == b"done\n"
    found["space"].close()
    InteractiveShell.clear_instance()
