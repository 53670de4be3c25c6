"""Whether an origin may be asked now: a storm of failing requests must not become a storm upstream."""

from __future__ import annotations

import enum
import logging
import random
from collections.abc import Iterator
from contextlib import contextmanager

import trio

from pantry.backends.contract import SinkError
from pantry.daemon.transfers.traffic import Asked, Traffic
from pantry.errors import OriginUnavailableError, PantryError, TransientBackendError

FAILURES_TO_OPEN = 3
BASE_S = 0.5
LONGEST_S = 60.0

log = logging.getLogger(__name__)


class Circuit(enum.Enum):
    """Whether requests pass."""

    CLOSED = "closed"
    """All."""
    OPEN = "open"
    """None, until a time."""
    HALF_OPEN = "half-open"
    """One, as a probe, whose end decides."""


class Health:
    """Counts failures in a row; after some, the origin is left alone for a while, and then probed.

    Parameters
    ----------
    name : str
        Of the origin, for people.
    jitter : random.Random, optional
        Spreads the waits.

    Attributes
    ----------
    traffic : Traffic
        What it was asked, and how it answered.
    """

    def __init__(self, name: str, *, jitter: random.Random | None = None) -> None:
        self.traffic = Traffic()
        self._name = name
        self._jitter = jitter or random.Random()  # noqa: S311 - not a secret
        self._failures = 0
        self._openings = 0
        self._next_probe_s = 0.0
        self._probing = False
        self._last_failure = ""

    @property
    def is_well(self) -> bool:
        """Whether all requests pass."""
        return not self._openings

    @property
    def may_ask(self) -> bool:
        """Whether a request would pass now."""
        return self.is_well or (not self._probing and trio.current_time() >= self._next_probe_s)

    @property
    def circuit(self) -> Circuit:
        """Whether requests pass now."""
        if self.is_well:
            return Circuit.CLOSED
        return Circuit.HALF_OPEN if self._probing or self.retry_in_s <= 0 else Circuit.OPEN

    @property
    def retry_in_s(self) -> float:
        """Time until the next probe may pass, in seconds; 0 if the circuit is not open."""
        return 0.0 if self.is_well else max(0.0, self._next_probe_s - trio.current_time())

    @contextmanager
    def admit(self) -> Iterator[Asked]:
        """Let one request pass, and learn from how it ends.

        A `TransientBackendError` is a failure; any other `PantryError` is an answer. What is neither, a
        cancellation above all, says nothing of the origin.

        Raises
        ------
        OriginUnavailableError
            The origin is left alone at present.
        """
        if not self.may_ask:
            raise self._unavailable()
        # No await between the look and this: one probe at a time.
        is_probe = self._probing = not self.is_well
        try:
            with self.traffic.request() as asked:
                yield asked
        except TransientBackendError as exc:
            self._failed(exc, is_probe=is_probe)
            raise
        except PantryError:
            self._answered(is_probe=is_probe)
            raise
        except SinkError:
            raise  # bytes came, but nowhere to put them: says little
        else:
            self._answered(is_probe=is_probe)
        finally:
            if is_probe:
                self._probing = False

    def _answered(self, *, is_probe: bool) -> None:
        if self.is_well:
            self._failures = 0
        elif is_probe:
            self._failures = self._openings = 0
            log.info("%s answers again", self._name)

    def _failed(self, error: TransientBackendError, *, is_probe: bool) -> None:
        asked_s = error.fields.get("retry_after_s")
        retry_after_s = float(asked_s) if isinstance(asked_s, int | float) else 0.0
        self._last_failure = error.message
        if not self.is_well and not is_probe:
            # Passed before the origin was left alone: no news, unless it now says for how long.
            self._next_probe_s = max(self._next_probe_s, trio.current_time() + retry_after_s)
            return
        self._failures += 1
        if self.is_well and self._failures < FAILURES_TO_OPEN:
            return
        ceiling_s = min(LONGEST_S, BASE_S * 2.0 ** min(self._openings, 20))
        wait_s = max(self._jitter.uniform(0.0, ceiling_s), retry_after_s)
        self._next_probe_s = trio.current_time() + wait_s
        self._openings += 1
        if self._openings == 1:
            log.warning("%s failed %d times in a row, is left alone: %s", self._name, self._failures, error.message)

    def _unavailable(self) -> OriginUnavailableError:
        when = "now" if self._probing else f"in {self.retry_in_s:.1f} s"
        return OriginUnavailableError(
            f"{self._name} does not answer and is tried again {when}; it last failed so: {self._last_failure}",
            hint="what is complete in the cache can be read; the daemon's log has when the failures began",
            retry_after_s=self.retry_in_s,
        )
