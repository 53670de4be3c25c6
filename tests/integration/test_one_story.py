"""The same story on every storage: only where the repository lives differs; in the end one chain of them all."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import sqlalchemy as sa
from astropy.io import fits
from tests.fault.proxy import FaultProxy
from tests.integration.observatory import INSTRUMENT, furnish
from tests.servers.fuse_mount import FuseMount
from tests.servers.glusterfs import GlusterServer
from tests.servers.mounting import PantryMount
from tests.servers.pantryd import PantryDaemon
from tests.servers.postgresql import PostgresqlServer
from tests.servers.seaweedfs import SeaweedServer
from tests.servers.vospace import VospaceServer
from tests.unit.fusefs.mounted import can_mount

from pantry.client import Butler
from pantry.client.instruments import translate
from pantry.client.simulation import simulate_observing_night
from pantry.errors import BackendError, PantryError, RepositoryNotFoundError
from pantry.wire.operations import EvictObjects

PROJECT = Path(__file__).parents[2]
BACK_WITHIN_S = 60.0
SIDE = 400


class Place(NamedTuple):
    """Where a repository lives.

    Attributes
    ----------
    root : str
        Of the repository.
    storage : list
        What the daemon's configuration says of it.
    fail, recover : Callable
        Take the storage away from the daemon, and give it back.
    """

    root: str
    storage: list[dict[str, Any]]
    fail: Callable[[], None]
    recover: Callable[[], None]


def posix(request: pytest.FixtureRequest, stack: ExitStack) -> Place:
    root: Path = request.getfixturevalue("tmp_path") / "repository"
    away = root.with_name("away")

    def recover() -> None:
        if away.exists():
            away.rename(root / "u")

    # Its files are gone: of a local disk, that is what can fail without the machine.
    return Place(str(root), [], lambda: (root / "u").rename(away) and None, recover)


def glusterfs(request: pytest.FixtureRequest, stack: ExitStack) -> Place:
    server: GlusterServer = request.getfixturevalue("gluster")
    mounts: tuple[FuseMount, FuseMount] = request.getfixturevalue("gluster_mounts")

    def fail() -> None:
        for brick in (0, 1):
            server.kill_brick(brick)

    return Place(str(mounts[0].directory / "story"), [], fail, server.revive_bricks)


def seaweed_mount(request: pytest.FixtureRequest, stack: ExitStack) -> Place:
    mount: FuseMount = request.getfixturevalue("seaweed_mounts")[0]
    return Place(str(mount.directory / "story"), [], mount.kill, mount.restart)


def s3(request: pytest.FixtureRequest, stack: ExitStack) -> Place:
    server: SeaweedServer = request.getfixturevalue("seaweed")
    storage: list[dict[str, Any]] = request.getfixturevalue("storage_config")["storage"]
    proxy = stack.enter_context(FaultProxy(("127.0.0.1", server.port)))
    storage[0]["options"] |= {"endpoint_url": proxy.endpoint_url, "max_attempts": 1, "read_timeout_s": 2}

    def refuse(refusing: bool) -> None:
        proxy.refusing = refusing

    return Place(request.getfixturevalue("s3_root"), storage, lambda: refuse(True), lambda: refuse(False))


def vospace(request: pytest.FixtureRequest, stack: ExitStack) -> Place:
    server: VospaceServer = request.getfixturevalue("vospace")
    options = {"endpoint_url": server.endpoint, "token": server.owner.token, "max_attempts": 1, "read_timeout_s": 2.0}
    away: list[None] = []

    def fail() -> None:
        server.kill()
        away.append(None)

    def recover() -> None:
        if away:
            away.clear()
            server.restart()

    return Place(server.uri("observatory/story"), [{"match": "vos://pantry.test", "options": options}], fail, recover)


def postgresql(request: pytest.FixtureRequest, stack: ExitStack) -> Place:
    server: PostgresqlServer = request.getfixturevalue("postgresql")
    name = stack.enter_context(server.database()).rpartition("/")[2]

    def allow(allowed: bool) -> None:
        engine = sa.create_engine(server.url("postgres"), isolation_level="AUTOCOMMIT", poolclass=sa.NullPool)
        with engine.connect() as connection:
            connection.execute(sa.text(f"ALTER DATABASE {name} ALLOW_CONNECTIONS {str(allowed).lower()}"))
            if not allowed:
                ended = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = :name"
                connection.execute(sa.text(ended), {"name": name})

    root = f"sql+postgresql://127.0.0.1:{server.port}/{name}"
    options = {"username": "postgres", "password": server.password}
    storage = [{"match": root, "options": options}]
    return Place(f"{root}/story", storage, lambda: allow(False), lambda: allow(True))


# A storage of another kind comes here: how to reach it, how to take it away, and how to give it back.
STORAGES: Mapping[str, Callable[[pytest.FixtureRequest, ExitStack], Place]] = {
    "POSIX": posix,
    "GlusterFS": glusterfs,
    "SeaweedFS-mount": seaweed_mount,
    "S3": s3,
    "VOSpace": vospace,
    "PostgreSQL": postgresql,
}


@pytest.fixture(scope="session")
def raws(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Real raws of three instruments where they are at hand, else simulated ones."""
    real = sorted((PROJECT.parent / "shared" / "data" / "rubin").glob("*/raw/**/*.fits"))
    night = tmp_path_factory.mktemp("night")
    return real or list(simulate_observing_night(night, 1, [93, 94], amplifier_shape=(64, 128)))


@pytest.fixture(params=STORAGES)
def place(request: pytest.FixtureRequest) -> Iterator[Place]:
    with ExitStack() as stack:
        made = STORAGES[request.param](request, stack)
        yield made
        made.recover()


@pytest.mark.req("DMS-MWBT-REQ-0004")
@pytest.mark.req("DMS-MWBT-REQ-0005")
@pytest.mark.req("DMS-MWBT-REQ-0030")
@pytest.mark.req("DMS-MWBT-REQ-0040")
@pytest.mark.req("DMS-MWBT-REQ-0065")
@can_mount
def test_the_story(
    place: Place, raws: list[Path], make_daemon: Callable[..., PantryDaemon], short_dir: Path, tmp_path: Path
) -> None:
    daemon = make_daemon({"storage": place.storage, "cache": {"negative_ttl_s": 0}})
    daemon.expected_log = (" WARNING ",)  # that the storage fails may be said
    pixels = np.arange(SIDE * SIDE, dtype=np.int32).reshape(SIDE, SIDE)

    with Butler.create("story", place.root, socket=daemon.socket) as butler:
        # Ingest, query, read: byte for byte what came from the telescope.
        ingest(daemon.socket, raws)
        refs = butler.query_datasets("raw", "u/raw")
        assert {(ref.data_id["instrument"], ref.data_id["exposure"]) for ref in refs} == {
            (translate(raw).data_id["instrument"], translate(raw).data_id["exposure"]) for raw in raws
        }
        butler.connection.call(EvictObjects(everything=True))
        for raw in raws:
            with butler.open("raw", translate(raw).data_id, collections="u/raw") as file:
                assert file.read() == raw.read_bytes()

        # Put, and get a part.
        furnish(butler, n_exposures=3, n_detectors=1)
        butler.register_dataset_type("image", ["instrument", "exposure", "detector"], "CCDData")
        path = tmp_path / "image.fits"
        fits.PrimaryHDU(pixels).writeto(path)
        butler.ingest("image", [(str(path), where(1))], run="u/own", transfer="copy")
        for exposure in (1, 2, 3):
            butler.put(blob(exposure), "blob", where(exposure), run="u/own")
        with pytest.raises(PantryError):
            butler.put(b"another", "blob", where(1), run="u/own")
        butler.connection.call(EvictObjects(everything=True))
        part = butler.get("image", where(1), collections="u/own", parameters={"bbox": (10, 20, 30, 50)})
        assert np.array_equal(part.data, pixels[20:50, 10:30])
        for exposure in (1, 2):
            assert butler.get("blob", where(exposure), collections="u/own") == blob(exposure)

        with PantryMount(daemon.socket, short_dir / "mnt") as mount:
            # The storage fails: what is cached reads on, by every door; what is not says so.
            files = mount.directory / "story/u/own/blob" / INSTRUMENT
            assert (files / f"1/blob_{INSTRUMENT}_1_0.bin").read_bytes() == blob(1)
            place.fail()
            assert butler.get("blob", where(1), collections="u/own") == blob(1)
            assert (files / f"2/blob_{INSTRUMENT}_2_0.bin").read_bytes() == blob(2)
            assert len(butler.query_datasets("blob", "u/own")) == 3
            with pytest.raises(BackendError):
                butler.get("blob", where(3), collections="u/own")

            # It comes back, and nobody has to do anything.
            place.recover()
            assert eventually(lambda: butler.get("blob", where(3), collections="u/own")) == blob(3)
            assert (files / f"3/blob_{INSTRUMENT}_3_0.bin").read_bytes() == blob(3)
            eventually(lambda: butler.put(blob(1), "blob", where(1), run="u/after"))
            assert butler.get("blob", where(1), collections="u/after") == blob(1)

            # Delete: gone by every door, with its file; its place is free, and the others stay.
            (ref,) = butler.query_datasets("blob", "u/own", where="exposure = 2")
            with butler.open(ref) as file:
                done = butler.delete([ref])
                assert (done.datasets, done.files, done.left) == (1, 1, 0)
                assert file.read() == blob(2)
            assert not butler.exists("blob", where(2), collections="u/own")
            with pytest.raises(PantryError):
                butler.get(ref)
            # The kernel may know the name a little longer; there is nothing behind it.
            with pytest.raises(FileNotFoundError):
                (files / f"2/blob_{INSTRUMENT}_2_0.bin").read_bytes()
            butler.put(b"anew", "blob", where(2), run="u/own")
            butler.connection.call(EvictObjects(everything=True))
            assert butler.get("blob", where(2), collections="u/own") == b"anew"
            assert butler.get("blob", where(3), collections="u/own") == blob(3)

        # Remove: nothing is left, and the same place takes another repository.
        done = Butler.remove_repository("story", socket=daemon.socket)
        assert (done.datasets > len(raws), done.kept, done.left, done.others) == (True, 0, 0, 0)
        with pytest.raises(RepositoryNotFoundError):
            butler.get("blob", where(3), collections="u/own")
    with Butler.create("story", place.root, socket=daemon.socket) as butler:
        furnish(butler, n_exposures=1, n_detectors=1)
        butler.put(blob(1), "blob", where(1), run="u/own")
        assert len(butler.query_datasets("blob", "u/own")) == 1


def ingest(socket: str, raws: list[Path]) -> None:
    argv = [sys.executable, "-m", "pantry.client.cli.main", "ingest-raws", "story", *map(str, raws), "--run", "u/raw"]
    environment = {**os.environ, "PANTRY_SOCKET": socket}
    done = subprocess.run(argv, env=environment, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stderr


def where(exposure: int) -> dict[str, object]:
    return {"instrument": INSTRUMENT, "exposure": exposure, "detector": 0}


def blob(exposure: int) -> bytes:
    return f"exposure {exposure} ".encode() * 5000


def eventually(call: Callable[[], Any]) -> Any:
    """Try until the daemon asks the storage again."""
    deadline = time.monotonic() + BACK_WITHIN_S
    while True:
        try:
            return call()
        except BackendError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.1)


@pytest.mark.req("DMS-MWBT-REQ-0081")
def test_a_chain_of_all_storages_reads_as_one(
    request: pytest.FixtureRequest, make_daemon: Callable[..., PantryDaemon]
) -> None:
    with ExitStack() as stack:
        places = {name: make(request, stack) for name, make in STORAGES.items()}
        daemon = make_daemon({"storage": [one for place in places.values() for one in place.storage]})
        for number, (name, place) in enumerate(places.items(), 1):
            root = place.root.rstrip("/") + "-chained"
            with Butler.create(name, root, socket=daemon.socket) as butler:
                furnish(butler, n_exposures=len(places), n_detectors=1)
                butler.put(blob(number), "blob", where(number), run="u/chained")
        with Butler(list(places), collections="u/chained", socket=daemon.socket) as chain:
            chain.connection.call(EvictObjects(everything=True))
            found = {ref.data_id["exposure"]: ref for ref in chain.query_datasets("blob")}
            assert {exposure: ref.repository for exposure, ref in found.items()} == dict(enumerate(places, 1))
            assert [chain.get(found[number]) for number in sorted(found)] == [
                blob(number) for number in range(1, len(places) + 1)
            ]
