"""Answers are kept until the registry changes, and not for long."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any, cast

import pytest
import trio
import trio.testing

from pantry.daemon.datasets.resolved import HOLDS_S, Resolved, ResolvedOpens
from pantry.daemon.registry import Registry
from pantry.wire.operations import OpenDataset

ANSWER = cast(Resolved, object())


def registry(name: str = "one") -> Registry:
    return cast(Registry, SimpleNamespace(uuid=name, writes=0))


def asked(**more: Any) -> OpenDataset:
    return OpenDataset(
        **{"repository": "r", "dataset_type": "raw", "data_id": {"a": 1, "b": "x"}, "collections": ("c",), **more}
    )


def timed(check: Callable[[ResolvedOpens, trio.testing.MockClock], None]) -> None:
    clock = trio.testing.MockClock()

    async def main() -> None:
        check(ResolvedOpens(most=3), clock)

    trio.run(main, clock=clock)


def test_an_answer_is_kept_for_a_moment() -> None:
    def check(opens: ResolvedOpens, clock: trio.testing.MockClock) -> None:
        one = registry()
        assert opens.find(one, asked()) is None
        opens.keep(one, asked(), ANSWER, writes=0)
        assert opens.find(one, asked(data_id={"b": "x", "a": 1})) is ANSWER
        assert opens.find(one, asked(partial=True)) is ANSWER
        clock.jump(HOLDS_S)
        assert opens.find(one, asked()) is None
        assert len(opens) == 0

    timed(check)


@pytest.mark.parametrize(
    "other",
    [
        {"data_id": {"a": True, "b": "x"}},
        {"data_id": {"a": 1}},
        {"dataset_type": "calexp"},
        {"collections": ("d",)},
        {"id": uuid.uuid4()},
    ],
)
def test_other_questions_have_other_answers(other: dict[str, Any]) -> None:
    def check(opens: ResolvedOpens, clock: trio.testing.MockClock) -> None:
        opens.keep(registry(), asked(), ANSWER, writes=0)
        assert opens.find(registry(), asked(**other)) is None
        assert opens.find(registry("two"), asked()) is None

    timed(check)


def test_a_write_ends_all_answers_also_those_that_were_asked_for_before_it() -> None:
    def check(opens: ResolvedOpens, clock: trio.testing.MockClock) -> None:
        one = registry()
        opens.keep(one, asked(), ANSWER, writes=0)
        cast(Any, one).writes = 1
        assert opens.find(one, asked()) is None
        # The answer to a question that was asked before the write comes after it.
        opens.keep(one, asked(), ANSWER, writes=0)
        assert opens.find(one, asked()) is None

    timed(check)


def test_the_least_used_answers_go() -> None:
    def check(opens: ResolvedOpens, clock: trio.testing.MockClock) -> None:
        one = registry()
        for number in range(3):
            opens.keep(one, asked(data_id={"a": number}), ANSWER, writes=0)
        assert opens.find(one, asked(data_id={"a": 0})) is ANSWER
        opens.keep(one, asked(data_id={"a": 3}), ANSWER, writes=0)
        assert opens.find(one, asked(data_id={"a": 0})) is ANSWER
        assert opens.find(one, asked(data_id={"a": 1})) is None
        assert len(opens) == 3

    timed(check)
