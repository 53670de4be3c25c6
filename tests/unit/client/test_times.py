from __future__ import annotations

import subprocess
import sys
from datetime import datetime

import pytest

from pantry.client.butler.times import as_timespan
from pantry.errors import InvalidRequestError
from pantry.model.timespan import ALL_TIMES, BEGIN_NS, END_NS, Timespan

# 2025-04-15T00:00:00 is 20193 days after 1970-01-01.
DAY_NS = 20193 * 86_400_000_000_000


@pytest.mark.parametrize(
    ("given", "meant"),
    [
        (Timespan(1, 2), Timespan(1, 2)),
        ((None, None), ALL_TIMES),
        ([5, None], Timespan(5, END_NS)),
        (("2025-04-15", None), Timespan(DAY_NS, END_NS)),
        ((None, "2025-04-15T00:00:01.000001"), Timespan(BEGIN_NS, DAY_NS + 1_000_001_000)),
        (("2025-04-15 01:00", "2025-04-15T01:00:00"), Timespan(DAY_NS + 3600 * 10**9, DAY_NS + 3600 * 10**9)),
    ],
)
def test_what_a_timespan_may_be(given: object, meant: Timespan) -> None:
    assert as_timespan(given) == meant  # type: ignore[arg-type]


def test_times_of_astropy_are_exact() -> None:
    from astropy.time import Time

    utc = Time("2025-04-15T00:00:00.123456789", scale="utc", precision=9)
    assert as_timespan((utc, Time("2025-04-15T12:00:40.5", scale="tai"))) == Timespan(
        DAY_NS + 37_123_456_789, DAY_NS + 43_240_500_000_000
    )


@pytest.mark.parametrize(
    "bad",
    [
        "2025-04-15",
        (1,),
        5,
        (2, 1),
        ("someday", None),
        (None, "2025-04-15T00:00Z"),
        (1.5, None),
        (datetime(2025, 4, 15), None),
    ],
)
def test_what_it_may_not_be(bad: object) -> None:
    with pytest.raises(InvalidRequestError) as caught:
        as_timespan(bad)  # type: ignore[arg-type]
    assert caught.value.hint


def test_text_needs_no_astropy() -> None:
    code = "import sys; from pantry.client.butler.times import as_timespan as t; t(('2025-04-15', None)); "
    subprocess.run([sys.executable, "-c", code + "assert 'astropy' not in sys.modules"], check=True)


def test_the_ends_are_those_of_the_gen3_registry() -> None:
    assert (0, int((datetime(2100, 1, 1) - datetime(1970, 1, 1)).total_seconds()) * 10**9) == (BEGIN_NS, END_NS)
