"""Which listings the kernel may use again: those of directories in which nothing changed since it made them."""

from __future__ import annotations

from typing import NamedTuple

import trio

_MOST = 65536


class _Listing(NamedTuple):
    state: str
    good_until: float


class KeptListings:
    """The listings that the kernel keeps.

    A listing with attributes also renews what the kernel knows of each name. One that it keeps does not, so it is
    used again only for as long as the names that came with it are good: then looking at each needs no request either.
    """

    def __init__(self) -> None:
        self._kept: dict[int, _Listing] = {}

    def may_use_again(self, inode: int, state: str, valid_s: float) -> bool:
        """Whether the kernel may answer from what it keeps; if not, it makes a new listing.

        Parameters
        ----------
        inode : int
            Of the directory.
        state : str
            Of the registry; empty if it is not known.
        valid_s : float
            For how long names of a new listing are good, in seconds.
        """
        now = trio.current_time()
        known = self._kept.get(inode)
        if known is not None and state and known.state == state and now < known.good_until:
            return True
        if len(self._kept) >= _MOST:
            self._kept.clear()
        self._kept[inode] = _Listing(state, now + valid_s)
        return False

    def forget(self, inode: int) -> None:
        """Take note that the kernel has forgotten the directory."""
        self._kept.pop(inode, None)
