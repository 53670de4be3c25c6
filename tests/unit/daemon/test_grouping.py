"""Groups of puts: each registry is asked once, and the order is that of the wishes."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast
from uuid import UUID, uuid4

import trio

from pantry.daemon.datasets.grouping import PutGroups
from pantry.daemon.registry import PutWish
from pantry.wire.operations import BeginPut


class Puts:
    """Says what was asked at once."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, list[str]]] = []

    async def begin_all(self, repository: Any, wishes: list[tuple[PutWish, UUID | None]]) -> list[Any]:
        self.asked.append((repository.name, [wish.dataset_type for wish, _ in wishes]))
        return [
            SimpleNamespace(repository=repository, key=wish.dataset_type, ref=SimpleNamespace(id=id_))
            for wish, id_ in wishes
        ]


def test_each_registry_is_asked_once() -> None:
    puts = Puts()
    groups = PutGroups(cast("Any", puts), cast("Any", None), cast("Any", None), cast("Any", None))
    names = [("a", "x"), ("b", "x"), ("a", "x.psf"), ("b", "x.psf"), ("a", "x.wcs")]
    wishes = [
        (
            cast("Any", SimpleNamespace(name=repository)),
            BeginPut(repository=repository, dataset_type=kind, data_id={}, run="r", id=uuid4()),
        )
        for repository, kind in names
    ]
    group = trio.run(groups.begin, wishes)
    assert puts.asked == [("a", ["x", "x.psf", "x.wcs"]), ("b", ["x", "x.psf"])]
    assert [(put.repository.name, put.key, put.ref.id) for put in group.puts] == [
        (repository.name, one.dataset_type, one.id) for repository, one in wishes
    ]
