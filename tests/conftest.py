"""Real servers for all tests, one per session, and daemons of the tests' own."""

from __future__ import annotations

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


@pytest.fixture(scope="session")
def postgresql() -> Iterator[PostgresqlServer]:
    """A real PostgreSQL server for the whole session."""
    path = Path(tempfile.mkdtemp(prefix="pty-"))
    path.chmod(0o755)  # its own user must reach the directory below
    server = PostgresqlServer(path / "pg")
    try:
        yield server.start()
    finally:
        server.stop()
        shutil.rmtree(path, ignore_errors=True)


@pytest.fixture(scope="session")
def dachs(postgresql: PostgresqlServer) -> Iterator[DachsServer]:
    """A real TAP and cone search service, in the session's database server."""
    path = Path(tempfile.mkdtemp(prefix="pty-"))
    path.chmod(0o755)
    server = DachsServer(postgresql, path / "dachs")
    try:
        yield server.start()
    finally:
        server.stop()
        shutil.rmtree(path, ignore_errors=True)


@pytest.fixture(scope="session")
def efd(postgresql: PostgresqlServer) -> Iterator[EfdPair]:
    """A base and a transformed engineering facility database with the same topics."""
    path = Path(tempfile.mkdtemp(prefix="pty-"))
    try:
        with efd_pair(path, postgresql) as pair:
            yield pair
    finally:
        shutil.rmtree(path, ignore_errors=True)


@pytest.fixture(scope="session")
def seaweed() -> Iterator[SeaweedServer]:
    """A real S3 server."""
    run_dir = Path(tempfile.mkdtemp(prefix="swfs-"))  # a short path: it holds Unix sockets
    try:
        with SeaweedServer() as server:
            server.start(run_dir / "data", run_dir / "run")
            yield server
    finally:
        shutil.rmtree(run_dir)


@pytest.fixture(scope="session")
def nginx() -> Iterator[NginxServer]:
    """A real web server."""
    path = Path(tempfile.mkdtemp(prefix="nginx-"))
    path.chmod(0o755)  # its workers are another user's when it is started by root
    try:
        with NginxServer(path) as server:
            yield server
    finally:
        shutil.rmtree(path)


@pytest.fixture(scope="session")
def vospace() -> Iterator[VospaceServer]:
    """A VOSpace service for the whole session; whoever changes its dialect changes it back."""
    path = Path(tempfile.mkdtemp(prefix="vos-"))
    try:
        with VospaceServer() as server:
            server.start(path)
            yield server
    finally:
        shutil.rmtree(path)


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


@pytest.fixture(scope="session")
def seaweed_mounts(seaweed: SeaweedServer) -> tuple[FuseMount, FuseMount]:
    """The S3 server's store mounted twice, as two hosts would."""
    if shutil.which("fusermount3") is None:
        pytest.skip("not installed: fusermount3 (scripts/system-packages)")
    return seaweed.mount("host0"), seaweed.mount("host1")


@pytest.fixture(scope="session")
def gluster() -> Iterator[GlusterServer]:
    """A real GlusterFS with two replicas."""
    if reason := GlusterServer.why_not():
        pytest.skip(reason)
    path = Path(tempfile.mkdtemp(prefix="glfs-"))
    try:
        with GlusterServer(path) as server:
            yield server
    finally:
        shutil.rmtree(path)


@pytest.fixture(scope="session")
def gluster_mounts(gluster: GlusterServer) -> tuple[FuseMount, FuseMount]:
    """Its volume mounted twice, as two hosts would."""
    return gluster.mount("host0"), gluster.mount("host1")


@pytest.fixture
def short_dir() -> Iterator[Path]:
    """A temporary directory with a path short enough for a Unix socket, that other users may pass."""
    path = Path(tempfile.mkdtemp(prefix="pty-"))
    path.chmod(0o755)
    yield path
    shutil.rmtree(path, ignore_errors=True)


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
