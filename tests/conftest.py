"""Real servers for all tests, one per session, and daemons of the tests' own."""

from __future__ import annotations

import contextlib
import itertools
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from tests import quiet
from tests.servers.dachs import DachsServer
from tests.servers.efd import EfdPair, efd_pair
from tests.servers.fuse_mount import FuseMount
from tests.servers.glusterfs import GlusterServer
from tests.servers.nginx import NginxServer
from tests.servers.pantryd import PantryDaemon
from tests.servers.postgresql import PostgresqlServer
from tests.servers.seaweedfs import SeaweedServer
from tests.servers.vospace import VospaceServer

settings.register_profile("pantry", deadline=None, suppress_health_check=[HealthCheck.too_slow], print_blob=True)
settings.load_profile("pantry")

PROJECT = Path(__file__).parents[1]
_numbers = itertools.count()


def pytest_configure(config: pytest.Config) -> None:
    quiet.register(config)


@contextlib.contextmanager
def short_path(prefix: str = "pty-", *, for_others: bool = False) -> Iterator[Path]:
    """Make a directory, and remove it at the end; its path is short enough for Unix sockets.

    With ``for_others``, servers that another user runs may pass it.
    """
    path = Path(tempfile.mkdtemp(prefix=prefix))
    if for_others:
        path.chmod(0o755)
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)


@pytest.fixture(scope="session")
def postgresql() -> Iterator[PostgresqlServer]:
    """A real PostgreSQL server for the whole session."""
    with short_path(for_others=True) as path:
        server = PostgresqlServer(path / "pg")
        try:
            yield server.start()
        finally:
            server.stop()


@pytest.fixture(scope="session")
def dachs(postgresql: PostgresqlServer) -> Iterator[DachsServer]:
    """A real TAP and cone search service, in the session's database server."""
    with short_path(for_others=True) as path:
        server = DachsServer(postgresql, path / "dachs")
        try:
            yield server.start()
        finally:
            server.stop()


@pytest.fixture(scope="session")
def efd(postgresql: PostgresqlServer) -> Iterator[EfdPair]:
    """A base and a transformed engineering facility database with the same topics."""
    with short_path() as path, efd_pair(path, postgresql) as pair:
        yield pair


@pytest.fixture(scope="session")
def seaweed() -> Iterator[SeaweedServer]:
    """A real S3 server."""
    with short_path("swfs-") as path, SeaweedServer() as server:
        server.start(path / "data", path / "run")
        yield server


@pytest.fixture(scope="session")
def nginx() -> Iterator[NginxServer]:
    """A real web server."""
    with short_path("nginx-", for_others=True) as path, NginxServer(path) as server:
        yield server


@pytest.fixture(scope="session")
def vospace() -> Iterator[VospaceServer]:
    """A VOSpace service for the whole session; whoever changes its dialect changes it back."""
    with short_path("vos-") as path, VospaceServer() as server:
        server.start(path)
        yield server


@pytest.fixture(scope="session")
def bucket(seaweed: SeaweedServer) -> str:
    """One bucket for the session; each test takes a prefix of its own."""
    return seaweed.bucket("pantry")


@pytest.fixture
def s3_root(bucket: str) -> str:
    """An empty root in the session's bucket."""
    return f"s3://{bucket}/root-{next(_numbers):04d}"


@pytest.fixture
def storage_config(seaweed: SeaweedServer) -> dict[str, Any]:
    """Daemon configuration that reaches the S3 server."""
    return {
        "storage": [
            {
                "match": "s3://",
                "options": {
                    "endpoint_url": seaweed.endpoint_url,
                    "access_key_id": seaweed.access_key,
                    "secret_access_key": seaweed.secret_key,
                    "region": seaweed.region,
                },
            }
        ]
    }


def _has_fuse() -> bool:
    return os.access("/dev/fuse", os.R_OK | os.W_OK)


@pytest.fixture(scope="session")
def seaweed_mounts(seaweed: SeaweedServer) -> tuple[FuseMount, FuseMount]:
    """The S3 server's store mounted twice, as two hosts would."""
    if not _has_fuse():
        pytest.skip("mounting needs /dev/fuse")
    return seaweed.mount("host0"), seaweed.mount("host1")


@pytest.fixture(scope="session")
def gluster() -> Iterator[GlusterServer]:
    """A real GlusterFS with two replicas."""
    if os.geteuid() != 0 or not _has_fuse():
        pytest.skip("GlusterFS needs root and /dev/fuse")
    with short_path("glfs-") as path, GlusterServer(path) as server:
        yield server


@pytest.fixture(scope="session")
def gluster_mounts(gluster: GlusterServer) -> tuple[FuseMount, FuseMount]:
    """Its volume mounted twice, as two hosts would."""
    return gluster.mount("host0"), gluster.mount("host1")


@pytest.fixture
def short_dir() -> Iterator[Path]:
    """A temporary directory with a path short enough for a Unix socket, that other users may pass."""
    with short_path(for_others=True) as path:
        yield path


@pytest.fixture
def make_daemon(short_dir: Path) -> Iterator[Callable[..., PantryDaemon]]:
    """Start daemons; unexpected warnings in their logs fail the test, unless `expected_log` has them."""
    made: list[PantryDaemon] = []

    def make(config: dict[str, Any] | None = None, *, system: bool = False, start: bool = True) -> PantryDaemon:
        directory = short_dir / str(len(made))
        directory.mkdir()
        daemon = PantryDaemon(directory, config, system=system)
        made.append(daemon)
        return daemon.start() if start else daemon

    yield make
    unexpected: list[str] = []
    for daemon in made:
        daemon.stop()
        allowed = daemon.expected_log
        unexpected += [line for line in daemon.unexpected_log_lines() if not any(text in line for text in allowed)]
    assert not unexpected, "unexpected lines in the daemon's log:\n" + "\n".join(unexpected)


@pytest.fixture(scope="session")
def rubin_data() -> Path:
    """Real Rubin files beside the project's checkout."""
    path = PROJECT.parent / "shared" / "data" / "rubin"
    if not path.is_dir():
        pytest.skip("the real Rubin files are not beside this checkout (../shared/data/rubin)")
    return path


@pytest.fixture
def needs_root() -> None:
    """Skip, with the reason, where the test cannot become other users."""
    if os.geteuid() != 0:
        pytest.skip("needs root, to become other users")
