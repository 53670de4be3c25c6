"""What is opened of prefixes for whom."""

from __future__ import annotations

from pathlib import Path
from typing import cast

import pytest
import trio

from pantry.backends.admission import Admission
from pantry.daemon.cache.counters import Counters
from pantry.daemon.cache.objects import ObjectCache
from pantry.daemon.config import CacheConfig, DaemonConfig, PrefixConfig, StorageConfig
from pantry.daemon.credentials.held import HeldCredentials
from pantry.daemon.datasets.opening import Opener
from pantry.daemon.prefixes.service import Prefixes
from pantry.daemon.server.identity import Identity
from pantry.daemon.transfers.storage import Storage

ROOT = "https://archive.example.org/files"


def test_looking_at_the_list_opens_nothing_for_each_user(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    held = HeldCredentials(per_user=1, longest_s=10, wanted=lambda _: True)
    watched: list[int] = []
    monkeypatch.setattr(held, "watch", lambda uid, uri, forget: watched.append(uid))
    config = DaemonConfig(storage=(StorageConfig(match=ROOT, rights="user"),))
    storage = Storage(config, Admission(user_limit=1, node_limit=1), Counters(), lambda: False, held)
    cache = ObjectCache(CacheConfig(directory=str(tmp_path), quota_bytes=1 << 20, keep_free_bytes=0))
    configured = {"files": PrefixConfig(root=ROOT, readers=("*",)), "others": PrefixConfig(root=ROOT, readers=("5",))}
    # Nothing is read here.
    opener = cast(Opener, None)
    prefixes = Prefixes(configured, storage, held, cache=cache, opener=opener, offline=lambda: False)

    async def main() -> None:
        for uid in range(100, 200):
            who = Identity(uid, uid, frozenset({uid}))
            (one,) = prefixes.all_readable(who, administers=False)
            assert (one.name, one.location) == ("files", ROOT)
        assert len(prefixes.opened()) == len(watched) == 1
        await prefixes.aclose()

    try:
        trio.run(main)
    finally:
        cache.close()
