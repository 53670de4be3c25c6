"""Who asks."""

from __future__ import annotations

from collections import OrderedDict

import trio

from pantry.fusefs.kernel.filesystem import Caller
from pantry.fusefs.link import User
from pantry.wire.envelope import Behalf

_GROUPS_VALID_S = 1.0
"""For how long a process is believed to be in the same groups; reading /proc costs as much as a look-up."""
_MOST_KNOWN = 1024


class Callers:
    """Tells for whom the daemon is asked.

    Parameters
    ----------
    many_users : bool
        Whether the mount serves users other than its owner; if not, everything is asked for the owner.
    """

    def __init__(self, *, many_users: bool) -> None:
        self._many_users = many_users
        self._known: OrderedDict[tuple[int, int, int], tuple[float, Behalf]] = OrderedDict()

    def user(self, caller: Caller) -> User:
        """Return the user who makes a request."""
        if not self._many_users:
            return None
        key = (caller.pid, caller.uid, caller.gid)
        now = trio.current_time()
        known = self._known.get(key)
        if known is not None and now < known[0]:
            return known[1]
        behalf = Behalf(caller.uid, caller.gid, _groups_of(caller.pid))
        self._known[key] = (now + _GROUPS_VALID_S, behalf)
        self._known.move_to_end(key)
        if len(self._known) > _MOST_KNOWN:
            self._known.popitem(last=False)
        return behalf


def _groups_of(pid: int) -> tuple[int, ...]:
    """Supplementary groups of a process; none if it cannot be seen, which gives the least rights."""
    if not pid:
        return ()
    try:
        with open(f"/proc/{pid}/status", encoding="ascii", errors="replace") as lines:
            for line in lines:
                if line.startswith("Groups:"):
                    return tuple(sorted({int(word) for word in line.split()[1:]}))
    except (OSError, ValueError):
        pass  # it is gone
    return ()
