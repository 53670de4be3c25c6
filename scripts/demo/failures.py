"""What can go wrong with the demo, in words for whoever watches it."""

from __future__ import annotations

from pathlib import Path

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


def tail(log: Path) -> list[str]:
    """Return the last lines of a log, none if there is no log."""
    try:
        with log.open("rb") as file:
            file.seek(max(0, log.stat().st_size - _TAIL_BYTES))
            lines = file.read().decode(errors="replace").splitlines()
    except OSError:
        return []
    return [line for line in lines if line.strip()][-TAIL_LINES:]
