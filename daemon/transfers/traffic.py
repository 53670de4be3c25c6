"""What an origin was asked since the start, and how it answered: counts, errors, latencies."""

from __future__ import annotations

import math
import time
from collections import Counter, deque
from collections.abc import Iterator
from contextlib import contextmanager

from pantry.errors import BackendError, ObjectChangedError, ObjectExistsError, ObjectNotFoundError, PantryError

MOST_LATENCIES = 1000
"""Latencies of so many last requests are kept."""

MOST_TEXT = 300
"""Characters of an error's message that are kept."""

_ANSWERS = (ObjectChangedError, ObjectExistsError, ObjectNotFoundError)
"""What an origin says of an object, and is no failure."""


class Asked:
    """One request under way."""

    def __init__(self) -> None:
        self.begun_s = time.perf_counter()
        self.answered_s = math.nan

    def answered(self) -> None:
        """Note that the first of the answer is here; from any thread."""
        if math.isnan(self.answered_s):
            self.answered_s = time.perf_counter()


class Traffic:
    """Totals and latencies of one origin; only the trio thread changes them.

    Attributes
    ----------
    under_way, requests : int
        Requests at present, and since the start.
    errors : Counter of str
        Failures by the error's code; that an object is absent or has changed is an answer.
    last_error, last_error_code, last_error_ns : str, str, int
        The last failure's message and code, and when, nanoseconds since 1970-01-01 UTC; empty and 0 if there was none.
    """

    def __init__(self) -> None:
        self.under_way = 0
        self.requests = 0
        self.errors: Counter[str] = Counter()
        self.last_error = ""
        self.last_error_code = ""
        self.last_error_ns = 0
        self._latencies: deque[float] = deque(maxlen=MOST_LATENCIES)

    @contextmanager
    def request(self, *, timed: bool = True) -> Iterator[Asked]:
        """Count one request, and learn from how it ends.

        Parameters
        ----------
        timed : bool
            Take its latency: from here to the first of the answer, or its end.
        """
        asked = Asked()
        self.under_way += 1
        self.requests += 1
        is_answered = False
        try:
            yield asked
            is_answered = True
        except PantryError as exc:
            is_answered = not isinstance(exc, BackendError) or isinstance(exc, _ANSWERS)
            if not is_answered:
                self.errors[exc.code] += 1
                self.last_error, self.last_error_code = exc.message[:MOST_TEXT], exc.code
                self.last_error_ns = time.time_ns()
            raise
        finally:
            self.under_way -= 1
            if timed and is_answered:
                asked.answered()
                self._latencies.append(asked.answered_s - asked.begun_s)

    def latency_s(self, fraction: float) -> float | None:
        """Return the latency, in seconds, that a fraction of the last requests did not exceed; None without any."""
        if not self._latencies:
            return None
        ordered = sorted(self._latencies)
        return ordered[max(0, math.ceil(fraction * len(ordered)) - 1)]
