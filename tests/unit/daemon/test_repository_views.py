"""Who is believed to be able to read a repository while its root is down, and a copy of it says something else."""

from __future__ import annotations

from collections.abc import Mapping
from types import SimpleNamespace
from typing import cast

import pytest
import trio
import trio.testing

from pantry.backends.admission import Admission
from pantry.backends.contract import ObjectBackend
from pantry.backends.flaky import FlakyBackend
from pantry.backends.memory import MemoryBackend
from pantry.daemon.cache.counters import Counters
from pantry.daemon.config import DaemonConfig, StorageConfig
from pantry.daemon.credentials.held import HeldCredentials
from pantry.daemon.repositories.access import AccessRules
from pantry.daemon.repositories.description import DESCRIPTION_KEY, RepositoryDescription, dump_description
from pantry.daemon.repositories.repository import Repository
from pantry.daemon.repositories.site_index import Registration
from pantry.daemon.repositories.views import VIEW_S, RepositoryViews
from pantry.daemon.transfers import storage
from pantry.daemon.transfers.origin import Origin
from pantry.errors import BackendAccessError, PantryError, TransientBackendError

ROOT, COPY = "https://root.example.org/x", "https://copy.example.org/x"
USER = 7
DESCRIBED = RepositoryDescription(version=1, uuid="u", registry="state", access=AccessRules(owner="me"))
DOWN, REFUSED = TransientBackendError("it is down"), BackendAccessError("not for you")


class House:
    """A repository at a root with a copy, read with users' own rights, and one user's view of it."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.held = HeldCredentials(per_user=4, longest_s=10 * VIEW_S, wanted=lambda _: True)
        content = {DESCRIPTION_KEY: dump_description(DESCRIBED)}
        self.stores = {uri: FlakyBackend(MemoryBackend(content), only="stat") for uri in (ROOT, COPY)}

        def make(uri: str, options: Mapping[str, object], admission: Admission) -> ObjectBackend:
            return self.stores[uri]

        monkeypatch.setattr(storage, "make_backend", make)
        entries = [StorageConfig(match=one.removesuffix("x"), rights="user") for one in (ROOT, COPY)]
        copied = StorageConfig(match=ROOT, replicas=(COPY,))
        admission = Admission(user_limit=1, node_limit=1)
        made = storage.Storage(
            DaemonConfig(storage=(*entries, copied)), admission, Counters(), lambda: False, self.held
        )
        self.views = RepositoryViews(
            self.held, lambda one, uid: made.origin_for(one.root, one.options, uid), lambda: False
        )

    def add(self, uri: str, value: str = "t") -> None:
        self.held.add(USER, uri, {"token": value}, 9 * VIEW_S)

    async def view(self) -> Repository:
        async def assemble(description: RepositoryDescription, origin: Origin) -> Repository:
            await trio.lowlevel.checkpoint()
            return cast(Repository, SimpleNamespace(seen_by=lambda uid, description, origin: (uid, description.uuid)))

        return await self.views.get("x", Registration(root=ROOT), USER, assemble)


@pytest.mark.parametrize(
    ("copys", "root_says", "copy_says", "error"),
    [
        (True, DOWN, DOWN, None),
        (True, DOWN, REFUSED, REFUSED),
        (True, REFUSED, DOWN, REFUSED),
        (True, DOWN, None, None),
        # That there is no credential for the copy says nothing of who may read the root.
        (False, DOWN, None, None),
        (False, REFUSED, None, REFUSED),
    ],
)
def test_what_a_root_and_its_copy_say_together(
    monkeypatch: pytest.MonkeyPatch,
    copys: bool,
    root_says: PantryError | None,
    copy_says: PantryError | None,
    error: PantryError | None,
) -> None:
    async def main() -> None:
        house = House(monkeypatch)
        house.add(ROOT)
        if copys:
            house.add(COPY)
        found = await house.view()
        await trio.sleep(VIEW_S)
        house.stores[ROOT].fail(root_says)
        house.stores[COPY].fail(copy_says)
        if error is None:
            assert await house.view() == found
            return
        with pytest.raises(type(error), match=error.message):
            await house.view()

    trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0))


def test_another_credential_for_the_copy_alone_is_asked_about(monkeypatch: pytest.MonkeyPatch) -> None:
    """It was the copy that said yes."""

    async def main() -> None:
        house = House(monkeypatch)
        house.add(ROOT)
        house.add(COPY)
        house.stores[ROOT].fail(DOWN)
        await house.view()
        asked = len(house.stores[COPY].calls)
        await house.view()
        assert len(house.stores[COPY].calls) == asked
        house.add(COPY, "another")
        house.stores[ROOT].fail(DOWN)
        house.stores[COPY].fail(REFUSED)
        with pytest.raises(BackendAccessError, match="not for you"):
            await house.view()

    trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0))
