"""A mounted file system that hangs: nobody else is held up, and what is cached reads on."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tests.integration.observatory import INSTRUMENT, furnish
from tests.servers.fuse_mount import FuseMount
from tests.servers.pantryd import PantryDaemon

from pantry.client import Butler
from pantry.errors import OriginUnavailableError, PantryError
from pantry.wire.operations import EvictObjects

COUNT = 8
BACK_WITHIN_S = 30.0

CONFIG = {
    # Few, so that those who hang would take them all; and soon given up.
    "limits": {"transfers_per_user": 4, "transfers": 4, "stall_s": 8},
    "cache": {"negative_ttl_s": 0},
}


@pytest.fixture
def mount(seaweed_mounts: tuple[FuseMount, FuseMount]) -> Iterator[FuseMount]:
    yield seaweed_mounts[0]
    seaweed_mounts[0].wake()


def fill(name: str, root: Path, socket: str) -> None:
    with Butler.create(name, str(root), socket=socket) as butler:
        furnish(butler, n_exposures=COUNT, n_detectors=1)
        for exposure in range(1, COUNT + 1):
            butler.put(content(name, exposure), "blob", where(exposure), run="u/h")
        butler.connection.call(EvictObjects(everything=True))


def where(exposure: int) -> dict[str, object]:
    return {"instrument": INSTRUMENT, "exposure": exposure, "detector": 0}


def content(name: str, exposure: int) -> bytes:
    return f"{name} {exposure} ".encode() * 1000


def test_a_hung_mount_holds_nobody_else_up(
    mount: FuseMount, make_daemon: Callable[..., PantryDaemon], tmp_path: Path
) -> None:
    daemon = make_daemon(CONFIG)
    daemon.expected_log = (" WARNING ",)
    fill("hung", mount.directory / "hung", daemon.socket)
    fill("local", tmp_path / "local", daemon.socket)
    errors: list[PantryError] = []

    def ask(exposure: int) -> None:
        with Butler("hung", collections="u/h", socket=daemon.socket) as own:
            try:
                own.get("blob", where(exposure))
            except PantryError as exc:
                errors.append(exc)

    with (
        Butler("hung", collections="u/h", socket=daemon.socket) as hung,
        Butler("local", collections="u/h", socket=daemon.socket) as local,
    ):
        assert hung.get("blob", where(1)) == content("hung", 1)
        mount.hang()
        askers = [threading.Thread(target=ask, args=(exposure,), daemon=True) for exposure in range(2, COUNT)]
        for one in askers:
            one.start()
        # More requests hang than there are turns on this node; all else goes on meanwhile.
        assert local.get("blob", where(1)) == content("local", 1)
        assert hung.get("blob", where(1)) == content("hung", 1), "what is cached reads"
        assert local.get("blob", where(2)) == content("local", 2)
        assert all(one.is_alive() for one in askers), "they had to be given up before others had a turn"
        for one in askers:
            one.join(120)
        assert not any(one.is_alive() for one in askers)
        assert len(errors) == len(askers)
        assert {type(one) for one in errors} == {OriginUnavailableError}
        assert local.get("blob", where(3)) == content("local", 3)
        mount.wake()
        assert eventually(lambda: hung.get("blob", where(COUNT))) == content("hung", COUNT)


def eventually(get: Callable[[], bytes]) -> bytes:
    """Try until the daemon asks the storage again."""
    deadline = time.monotonic() + BACK_WITHIN_S
    while True:
        try:
            return get()
        except PantryError:
            assert time.monotonic() < deadline, "the storage is not asked after it came back"
            time.sleep(0.1)
