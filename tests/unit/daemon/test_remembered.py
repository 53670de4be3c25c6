"""A repository opens with what its pantry.yaml last said when its root cannot be asked."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
import trio

from pantry.backends.admission import Admission
from pantry.backends.contract import ObjectBackend
from pantry.backends.flaky import FlakyBackend
from pantry.backends.memory import MemoryBackend
from pantry.daemon.config import DaemonConfig
from pantry.daemon.credentials.held import HeldCredentials
from pantry.daemon.repositories.access import AccessRules
from pantry.daemon.repositories.description import DESCRIPTION_KEY, RepositoryDescription, dump_description
from pantry.daemon.repositories.service import Repositories
from pantry.daemon.transfers import storage
from pantry.errors import BackendAccessError, OriginUnavailableError, PantryError, TransientBackendError

ROOT = "memory:x"
DESCRIBED = RepositoryDescription(
    version=1, uuid="u", registry="state", access=AccessRules(owner="me", readers=("you", "@them"))
)


@pytest.fixture
def root(monkeypatch: pytest.MonkeyPatch) -> FlakyBackend:
    made = FlakyBackend(MemoryBackend({DESCRIPTION_KEY: dump_description(DESCRIBED)}))

    def make(uri: str, options: object, admission: Admission) -> ObjectBackend:
        return made

    monkeypatch.setattr(storage, "make_backend", make)
    return made


def describing(state: Path, *, offline: bool = False) -> Callable[[], Awaitable[RepositoryDescription]]:
    admission = Admission(user_limit=1, node_limit=1)
    repositories = Repositories(
        DaemonConfig(state_directory=str(state)),
        transfers=admission,
        queries=admission,
        held=HeldCredentials(per_user=0, longest_s=0, wanted=lambda _: False),
        offline=lambda: offline,
    )
    opener = repositories.opener
    return lambda: opener.describe(ROOT, opener.origin_for(ROOT, {}))


def test_a_root_that_is_down_is_opened_as_it_was(tmp_path: Path, root: FlakyBackend) -> None:
    assert trio.run(describing(tmp_path)) == DESCRIBED
    root.fail(TransientBackendError("down"))
    assert trio.run(describing(tmp_path)) == DESCRIBED
    assert len(root.calls) == 3  # stat and read, then the stat that failed


def test_what_changed_at_the_root_is_remembered(tmp_path: Path, root: FlakyBackend) -> None:
    trio.run(describing(tmp_path))
    changed = RepositoryDescription(version=1, uuid="u", registry="state", access=AccessRules(owner="me"))
    assert isinstance(root.inner, MemoryBackend)
    root.inner.put(DESCRIPTION_KEY, dump_description(changed))
    trio.run(describing(tmp_path))
    root.fail(TransientBackendError("down"))
    assert trio.run(describing(tmp_path)) == changed


def test_a_damaged_memory_is_replaced(tmp_path: Path, root: FlakyBackend) -> None:
    trio.run(describing(tmp_path))
    (file,) = (tmp_path / "descriptions").iterdir()
    file.write_text("[")
    trio.run(describing(tmp_path))
    root.fail(TransientBackendError("down"))
    assert trio.run(describing(tmp_path)) == DESCRIBED


def test_a_state_directory_that_cannot_be_written_is_in_nobodys_way(tmp_path: Path, root: FlakyBackend) -> None:
    (tmp_path / "descriptions").write_text("not a directory")
    assert trio.run(describing(tmp_path)) == DESCRIBED


def test_offline_the_root_is_not_asked(tmp_path: Path, root: FlakyBackend) -> None:
    with pytest.raises(OriginUnavailableError, match="never opened"):
        trio.run(describing(tmp_path, offline=True))
    assert root.calls == []
    trio.run(describing(tmp_path))
    asked = len(root.calls)
    assert trio.run(describing(tmp_path, offline=True)) == DESCRIBED
    assert len(root.calls) == asked


@pytest.mark.parametrize("error", [TransientBackendError("down"), BackendAccessError("no")])
def test_without_a_memory_the_failure_is_told(tmp_path: Path, root: FlakyBackend, error: PantryError) -> None:
    root.fail(error)
    with pytest.raises(type(error)):
        trio.run(describing(tmp_path))


def test_a_root_that_refuses_the_daemon_is_not_opened_from_memory(tmp_path: Path, root: FlakyBackend) -> None:
    trio.run(describing(tmp_path))
    root.fail(BackendAccessError("no more"))
    with pytest.raises(BackendAccessError):
        trio.run(describing(tmp_path))
