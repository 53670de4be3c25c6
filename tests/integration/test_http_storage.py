"""A repository, and plain objects, behind a real web server."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from tests.integration.observatory import INSTRUMENT, furnish
from tests.servers.nginx import NginxServer
from tests.servers.pantryd import PantryDaemon

from pantry.client import Butler, ObjectPrefix
from pantry.errors import ObjectNotFoundError, PermissionDeniedError


def test_a_repository_and_a_prefix_are_read(make_daemon: Callable[..., PantryDaemon], nginx: NginxServer) -> None:
    """Made in a directory by one node, served by nginx behind a token, and read by another node."""
    root = nginx.files / "dp1"
    here = Butler.create("dp1", str(root), socket=make_daemon().socket)
    furnish(here, 1)
    here.register_dataset_type("seeing", ["exposure"], "StructuredDataDict")
    here.put({"seeing": 0.7}, "seeing", instrument=INSTRUMENT, exposure=1, run="run")
    url = f"{nginx.endpoint_url}/private/dp1"
    config = {
        "storage": [{"match": f"{nginx.endpoint_url}/private/", "options": {"token": nginx.token}}],
        "repositories": {"remote": {"root": url, "registry": f"sqlite:///{root}/.pantry/registry.sqlite3"}},
        "prefixes": {"files": {"root": url}},
    }
    there = make_daemon(config)
    butler = Butler("remote", collections="run", socket=there.socket)
    assert butler.get("seeing", instrument=INSTRUMENT, exposure=1) == {"seeing": 0.7}
    assert not butler.info.writable
    with pytest.raises(PermissionDeniedError, match="only read"):
        Butler("remote", run="run", socket=there.socket).put({}, "seeing", instrument=INSTRUMENT, exposure=1)
    with ObjectPrefix("files", socket=there.socket) as files:
        assert b"uuid" in files.read("pantry.yaml")
        assert "pantry.yaml" in {one.key for one in files.list()}
        with pytest.raises(ObjectNotFoundError):
            files.read("nothing")
    assert nginx.token not in there.log.read_text()
