"""What opens resolve to, kept for a moment, so that a warm open needs no thread and no registry.

An answer holds until this daemon writes to the registry, and no longer than `HOLDS_S` since other daemons
may write to the same one: after that it is asked for again. What does not exist is asked for each time.
Who may read is not decided here, but for each open.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable
from typing import NamedTuple

import trio

from pantry.daemon.registry import Registry
from pantry.model.datasets import DatasetRef, StoredFile
from pantry.wire.operations import OpenDataset

HOLDS_S = 1.0
"""How late another daemon's change may be seen, in seconds."""

MOST = 10_000


class Resolved(NamedTuple):
    """What an open resolves to.

    Attributes
    ----------
    ref : DatasetRef
        The dataset.
    file : StoredFile
        Its file.
    name : str
        Its path in the mounted view.
    """

    ref: DatasetRef
    file: StoredFile
    name: str


class _Answer(NamedTuple):
    resolved: Resolved
    writes: int
    until: float


class ResolvedOpens:
    """The last answers, least recently used first."""

    def __init__(self, *, most: int = MOST) -> None:
        self._most = most
        self._answers: OrderedDict[Hashable, _Answer] = OrderedDict()

    def __len__(self) -> int:
        return len(self._answers)

    def find(self, registry: Registry, asked: OpenDataset) -> Resolved | None:
        """Return a kept answer that still holds."""
        key = _key(registry, asked)
        answer = self._answers.get(key)
        if answer is None:
            return None
        if answer.writes != registry.writes or trio.current_time() >= answer.until:
            del self._answers[key]
            return None
        self._answers.move_to_end(key)
        return answer.resolved

    def keep(self, registry: Registry, asked: OpenDataset, resolved: Resolved, *, writes: int) -> None:
        """Keep an answer; ``writes`` is what the registry's counter was before it was asked."""
        key = _key(registry, asked)
        self._answers[key] = _Answer(resolved, writes, trio.current_time() + HOLDS_S)
        self._answers.move_to_end(key)
        if len(self._answers) > self._most:
            self._answers.popitem(last=False)


def _key(registry: Registry, asked: OpenDataset) -> Hashable:
    if asked.id is not None:
        return registry.uuid, asked.id
    return (
        registry.uuid,
        asked.dataset_type,
        # 1, 1.0 and True are equal, and not the same data id.
        tuple((name, type(value), value) for name, value in sorted(asked.data_id.items())),
        asked.collections,
        asked.timespan,
    )
