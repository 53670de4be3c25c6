"""Whether a process is being ended or interrupted by its user."""

from __future__ import annotations

import signal
from enum import IntEnum

_ASKING = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT)
_ASKING_BITS = sum(1 << (number - 1) for number in _ASKING)
_KILLED_BIT = 1 << (signal.SIGKILL - 1)


class Ending(IntEnum):
    """What signals wait for a process."""

    NO = 0
    """None that are meant to end it or what it does, such as a child's end or a profiler's timer."""
    ASKED = 1
    """One that it is going to handle itself, as soon as the system call in which it waits returns."""
    KILLED = 2
    """It will not run again. The kernel shows every signal that kills as SIGKILL."""


def ending_of(thread: int) -> Ending:
    """Tell whether a thread is being ended.

    Parameters
    ----------
    thread : int
        Its number; 0, for one that cannot be seen, and one that is gone count as killed.
    """
    if not thread:
        return Ending.KILLED
    pending = blocked = 0
    try:
        with open(f"/proc/{thread}/status", encoding="ascii", errors="replace") as lines:
            for line in lines:
                if line.startswith(("SigPnd:", "ShdPnd:")):
                    pending |= int(line.split()[1], 16)
                elif line.startswith("SigBlk:"):
                    blocked = int(line.split()[1], 16)
    except OSError:
        return Ending.KILLED
    if pending & _KILLED_BIT:
        return Ending.KILLED
    return Ending.ASKED if pending & ~blocked & _ASKING_BITS else Ending.NO
