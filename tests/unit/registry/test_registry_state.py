"""Whether anything changed can be told without looking, whoever changed it."""

from __future__ import annotations

import sqlite3

from pantry.daemon.registry import Registry
from pantry.model.collections import CollectionType


def test_each_change_shows_and_looking_is_none(registry: Registry, registry_url: str) -> None:
    before = registry.state()
    registry.list_dataset_types()
    assert registry.state() == before
    registry.register_collection("another", CollectionType.RUN)
    after = registry.state()
    assert after != before

    other = Registry.open(registry_url)
    try:
        other.register_collection("by-another-daemon", CollectionType.TAGGED)
    finally:
        other.close()
    assert registry.state() != after
    after = registry.state()
    assert after == registry.state()
    if registry_url.startswith("sqlite"):
        # The log is brought into the file now and then, by which nothing changes.
        with sqlite3.connect(registry_url.removeprefix("sqlite:///")) as connection:
            busy, pages, brought = connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
        connection.close()
        assert not busy
        assert pages == brought > 0
        assert registry.state() == after


def test_another_opening_never_has_the_same_state(registry: Registry, registry_url: str) -> None:
    """A mount may keep a listing over a restart of the daemon, in which something else changed."""
    before = registry.state()
    registry.close()
    again = Registry.open(registry_url)
    try:
        assert registry_url.startswith("postgresql") or again.state() != before
    finally:
        again.close()
