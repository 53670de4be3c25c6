"""Whether anything changed can be told without looking, whoever changed it."""

from __future__ import annotations

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
