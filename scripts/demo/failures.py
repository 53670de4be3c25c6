"""What can go wrong with the demo, in words for whoever watches it."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import NoReturn

ENDING_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
TAIL_LINES = 12
_TAIL_BYTES = 8000


class DemoError(Exception):
    """The demo cannot go on.

    Parameters
    ----------
    message : str
        What failed.
    hint : str
        What to do.
    log : Path, optional
        Whose end says more.
    """

    def __init__(self, message: str, *, hint: str = "", log: Path | None = None) -> None:
        super().__init__(message)
        self.hint = hint
        self.log = log
        # At once: the log is gone when the demo has cleaned up.
        self.tail = tail(log) if log is not None else []


class Interrupted(KeyboardInterrupt):
    """Somebody wants the demo to end: Ctrl-C, SIGTERM or a closed terminal.

    Parameters
    ----------
    number : int
        Of the signal.
    """

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


class Interruptions:
    """Turns the signals that ask for an end into `Interrupted`."""

    def __init__(self) -> None:
        self._number = 0

    def install(self) -> None:
        """Take the signals from now on."""
        for number in ENDING_SIGNALS:
            signal.signal(number, self._take)

    def ignore(self) -> None:
        """Pass over the signals from now on: cleaning up is not cut off."""
        for number in ENDING_SIGNALS:
            signal.signal(number, signal.SIG_IGN)

    def check(self) -> None:
        """Raise again what a library has swallowed: some catch everything, and so does every `__del__`."""
        if self._number:
            raise Interrupted(self._number)

    def _take(self, number: int, frame: object) -> NoReturn:
        self._number = number
        raise Interrupted(number)


def tail(log: Path) -> list[str]:
    """Return the last lines of a log, none if there is no log."""
    try:
        with log.open("rb") as file:
            file.seek(max(0, log.stat().st_size - _TAIL_BYTES))
            lines = file.read().decode(errors="replace").splitlines()
    except OSError:
        return []
    return [line for line in lines if line.strip()][-TAIL_LINES:]
