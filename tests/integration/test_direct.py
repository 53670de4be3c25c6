"""The stored file itself is handed out where the configuration says that its file system is fast."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.integration.observatory import INSTRUMENT, furnish
from tests.servers.fuse_mount import FuseMount
from tests.servers.pantryd import PantryDaemon

from pantry.client import Butler
from pantry.errors import IntegrityError, PantryError
from pantry.wire.operations import GetCacheStatus

WHERE = {"instrument": INSTRUMENT, "exposure": 1, "detector": 0}
CONTENT = bytes(range(256)) * 1000


def stored_in(root: Path) -> Path:
    (path,) = root.rglob("blob_*.bin")
    return path


def is_same(butler: Butler, path: Path) -> bool:
    with butler.open("blob", WHERE, collections="u/d") as file:
        assert file.read() == CONTENT
        return os.path.samestat(os.fstat(file.fileno()), path.stat())


@pytest.fixture(params=["local", "gluster_mounts", "seaweed_mounts"])
def root(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    if request.param == "local":
        return tmp_path / "direct"
    mounts: tuple[FuseMount, FuseMount] = request.getfixturevalue(request.param)
    return mounts[0].directory / "direct"


@pytest.mark.parametrize("direct", [True, False])
def test_the_file_itself_is_handed_out_only_if_configured(
    root: Path, direct: bool, make_daemon: Callable[..., PantryDaemon]
) -> None:
    root = root.with_name(f"{root.name}-{direct}")
    daemon = make_daemon({"storage": [{"match": str(root), "direct": direct}]})
    with Butler.create("direct", str(root), socket=daemon.socket) as butler:
        furnish(butler, n_exposures=1, n_detectors=1)
        butler.put(CONTENT, "blob", WHERE, run="u/d")
        assert is_same(butler, stored_in(root)) == direct
        with butler.open("blob", WHERE, collections="u/d") as file, pytest.raises(OSError, match="Bad file"):
            os.write(file.fileno(), b"x")
        assert (butler.connection.call(GetCacheStatus()).used_bytes == 0) == direct, "a copy is in the cache"


def test_a_file_that_was_changed_is_not_handed_out(tmp_path: Path, make_daemon: Callable[..., PantryDaemon]) -> None:
    """Neither before it was checked, nor after; nor though size and modification time are the same."""
    root = tmp_path / "direct"
    daemon = make_daemon({"storage": [{"match": str(root), "direct": True}]})
    with Butler.create("direct", str(root), socket=daemon.socket) as butler:
        furnish(butler, n_exposures=1, n_detectors=1)
        butler.put(CONTENT, "blob", WHERE, run="u/d")
        path = stored_in(root)
        for checked_before in (False, True):
            if checked_before:
                assert is_same(butler, path)
            status = path.stat()
            for bad in (CONTENT[:-1] + b"?", CONTENT[:-1]):
                path.write_bytes(bad)
                os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
                with pytest.raises(IntegrityError):
                    butler.get("blob", WHERE, collections="u/d")
            path.write_bytes(CONTENT)
            assert is_same(butler, path), "restored, it reads again"
        path.unlink()
        with pytest.raises(PantryError):
            butler.get("blob", WHERE, collections="u/d")
