"""A repository that lives in a VOSpace: made, written and read as any other, and pulled only as needed."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from astropy.nddata import CCDData
from tests.integration.observatory import INSTRUMENT, furnish
from tests.servers.pantryd import PantryDaemon
from tests.servers.vospace import VospaceServer

from pantry.client import Butler
from pantry.errors import BackendAccessError, DatasetExistsError, OriginUnavailableError, TransientBackendError


@pytest.fixture
def daemon(make_daemon: Callable[..., PantryDaemon], vospace: VospaceServer) -> PantryDaemon:
    options = {"endpoint_url": vospace.endpoint, "token": vospace.owner.token}
    return make_daemon({"storage": [{"match": "vos://pantry.test", "options": options}]})


def image(number: int) -> CCDData:
    return CCDData(np.arange(512 * 512, dtype="f4").reshape(512, 512) + number, unit="adu")


def data_id(exposure: int) -> dict[str, object]:
    return {"instrument": INSTRUMENT, "exposure": exposure}


@pytest.mark.req("DMS-MWBT-REQ-0028")
def test_it_is_pulled_only_as_needed_and_read_on_without_the_service(
    daemon: PantryDaemon, vospace: VospaceServer
) -> None:
    made = Butler.create("space", vospace.uri("observatory/space"), socket=daemon.socket)
    furnish(made, 5)
    made.register_dataset_type("image", ["exposure"], "CCDData")
    butler = Butler("space", run="night", socket=daemon.socket)
    for exposure in (1, 2, 3):
        butler.put(image(exposure), "image", data_id(exposure))
    # Each is one node, by the name that the repository gives it, and nothing else is left.
    stored = {path for path, kind in vospace.paths("observatory/space").items() if kind != "ContainerNode"}
    assert len([path for path in stored if path.endswith(".fits")]) == 3
    with pytest.raises(DatasetExistsError):
        butler.put(image(9), "image", data_id(1))

    # Another node: nothing is in its cache.
    daemon.stop()
    assert not any(".pantry-" in path for path in vospace.paths("observatory/space"))
    for one in (daemon.cache / "objects").rglob("*"):
        if one.is_file():
            one.unlink()
    (daemon.cache / "index.sqlite3").unlink()
    daemon.start()
    butler = Butler("space", collections="night", socket=daemon.socket)
    vospace.forget_requests()
    assert len(butler.query_datasets("image", collections="night")) == 3
    assert sum(one.sent_bytes for one in vospace.requests() if one.endpoint in ("files", "data")) < 100_000
    vospace.forget_requests()
    box = butler.get("image", data_id(1), parameters={"bbox": (200, 100, 220, 110)})
    assert np.array_equal(box.data, image(1).data[100:110, 200:220])
    got = butler.get("image", data_id(2))
    assert np.array_equal(got.data, image(2).data)
    asked = vospace.requests()
    sent = {number: sum(one.sent_bytes for one in asked if f"_{number}.fits" in one.path) for number in (1, 2, 3)}
    assert sent[2] > image(2).data.nbytes
    assert 0 < sent[1] < sent[2], "of what is cut out, not all"
    assert not any("_3.fits" in one.path for one in asked)
    vospace.kill()
    try:
        assert np.array_equal(butler.get("image", data_id(2)).data, image(2).data)
        with pytest.raises((OriginUnavailableError, TransientBackendError)):
            butler.get("image", data_id(3))
        daemon.expected_log = ("vos", "cannot", "failed")
    finally:
        vospace.restart()


def test_who_may_not_write_is_told_and_nothing_is_left(daemon: PantryDaemon, vospace: VospaceServer) -> None:
    """A put is all or nothing here too."""
    made = Butler.create("space", vospace.uri("observatory/other"), socket=daemon.socket)
    furnish(made, 2)
    butler = Butler("space", run="night", socket=daemon.socket)
    butler.put({"a": 1}, "config", data_id(1))
    daemon.stop()
    before = vospace.paths("observatory/other")
    daemon.config["storage"][0]["options"]["token"] = vospace.member.token
    daemon.start()
    butler = Butler("space", run="night", socket=daemon.socket)
    with pytest.raises(BackendAccessError) as caught:
        butler.put({"a": 2}, "config", data_id(2))
    assert vospace.member.token not in str(caught.value)
    assert vospace.paths("observatory/other") == before
    assert len(butler.query_datasets("config", collections="night")) == 1
