"""The posix backend on file systems that are really distributed, each mounted twice as two hosts would."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterator

import pytest
from tests.contract.conftest import PosixOutside
from tests.servers.fuse_mount import FuseMount

from pantry.backends.admission import Admission
from pantry.backends.posix import PosixBackend, _blocking
from pantry.backends.suite import ObjectBackendContract
from pantry.backends.suite_calls import run

_numbers = itertools.count()
SEEN_WITHIN_S = 10.0


@pytest.fixture(autouse=True)
def _short_patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is missing here is missing: the other host's changes are waited for."""
    monkeypatch.setattr(_blocking, "LATE_S", 0.2)


class OtherHost(PosixOutside):
    """The look from another host; what it changes is seen by the host of the backend when `put` returns."""

    def __init__(self, mounts: tuple[FuseMount, FuseMount], root: str) -> None:
        super().__init__(mounts[1].directory / root)
        self._here = PosixOutside(mounts[0].directory / root)

    def put(self, key: str, content: bytes) -> None:
        super().put(key, content)
        wait_until(lambda: self._here.get(key) == content)


def wait_until(holds: Callable[[], bool]) -> None:
    """Wait for the caches of a mount to expire; how soon they do is the file system's."""
    deadline = time.monotonic() + SEEN_WITHIN_S
    while not holds():
        assert time.monotonic() < deadline, "the other host does not see it"
        time.sleep(0.01)


def new_root(mounts: tuple[FuseMount, FuseMount]) -> str:
    """Make a directory of a test's own on the volume, and name it."""
    name = f"contract-{next(_numbers):04d}"
    (mounts[0].directory / name).mkdir()
    return name


class MountedContract(ObjectBackendContract):
    """The backend on one host, the look from outside on the other."""

    test_listing_has_more_than_one_page = None  # type: ignore[assignment]  # slow, and no matter of the file system

    @pytest.fixture
    def root(self, mounts: tuple[FuseMount, FuseMount]) -> str:
        return new_root(mounts)

    @pytest.fixture
    def backend(self, root: str, mounts: tuple[FuseMount, FuseMount], admission: Admission) -> Iterator[PosixBackend]:
        made = PosixBackend(str(mounts[0].directory / root), admission)
        yield made
        run(made.aclose)

    @pytest.fixture
    def outside(self, root: str, mounts: tuple[FuseMount, FuseMount]) -> PosixOutside:
        return OtherHost(mounts, root)


class TestGlusterFS(MountedContract):
    """GlusterFS, mounted twice."""

    @pytest.fixture
    def mounts(self, gluster_mounts: tuple[FuseMount, FuseMount]) -> tuple[FuseMount, FuseMount]:
        return gluster_mounts


class TestSeaweedMount(MountedContract):
    """SeaweedFS, mounted twice."""

    @pytest.fixture
    def mounts(self, seaweed_mounts: tuple[FuseMount, FuseMount]) -> tuple[FuseMount, FuseMount]:
        return seaweed_mounts

    def test_undo_leaves_what_replaced_our_object(  # type: ignore[override]
        self, backend: PosixBackend, root: str, mounts: tuple[FuseMount, FuseMount]
    ) -> None:
        """From the same host: a mount goes on showing a file that has hard links when another host replaces it."""
        super().test_undo_leaves_what_replaced_our_object(backend, PosixOutside(mounts[0].directory / root))
