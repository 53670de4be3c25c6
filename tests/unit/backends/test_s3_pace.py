"""What the S3 backend makes of slow answers and of Retry-After."""

from __future__ import annotations

import time
from email.utils import formatdate

import pytest

from pantry.backends import pumping
from pantry.backends.pumping import Pace
from pantry.backends.retry_after import retry_after_s


@pytest.fixture
def begin(monkeypatch: pytest.MonkeyPatch) -> float:
    monkeypatch.setattr(pumping.time, "monotonic", lambda: 1000.0)
    return 1000.0


def test_a_window_that_is_too_slow(begin: float) -> None:
    pace = Pace(1000, 10.0)
    assert not pace.too_slow(0, begin + 9.9)
    assert not pace.too_slow(10_000, begin + 10)  # exactly fast enough
    assert not pace.too_slow(9_999, begin + 19.9)
    assert pace.too_slow(0, begin + 20)


def test_a_fast_beginning_does_not_excuse_what_follows(begin: float) -> None:
    pace = Pace(1000, 10.0)
    assert not pace.too_slow(1 << 30, begin + 10)
    assert pace.too_slow(9_000, begin + 20)


def test_any_pace_will_do(begin: float) -> None:
    assert not Pace(0, 10.0).too_slow(0, begin + 1e6)


@pytest.mark.parametrize(
    ("value", "wait_s"),
    [("0", 0.0), ("12", 12.0), ("1.5", 1.5), ("-4", 0.0), ("100000", 300.0), ("soon", None), ("", None), ("nan", None)],
)
def test_retry_after_in_seconds(value: str, wait_s: float | None) -> None:
    assert retry_after_s({"retry-after": value}) == wait_s


def test_retry_after_as_a_date(monkeypatch: pytest.MonkeyPatch) -> None:
    now_s = 1_800_000_000.0
    monkeypatch.setattr(time, "time", lambda: now_s)
    assert retry_after_s({"retry-after": formatdate(now_s + 30, usegmt=True)}) == 30.0
    assert retry_after_s({"retry-after": formatdate(now_s - 30, usegmt=True)}) == 0.0
    assert retry_after_s({"retry-after": formatdate(now_s + 3000, usegmt=True)}) == 300.0
    assert retry_after_s({}) is None
