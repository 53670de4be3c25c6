"""Which files of one storage another one refers to: by their place, or by symbolic links (DMS-MWBT-REQ-0006)."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator, Sequence
from urllib.parse import unquote

from pantry.daemon.repositories.roots import is_local, local_directory
from pantry.errors import BackendError

MOST_LINKS = 40
"""So many symbolic links are followed for one name, as the kernel does."""


def keys_below(root: str, other: str, paths: Sequence[str]) -> list[str]:
    """Give the keys below a root of files that have these keys in another storage; blocks.

    Parameters
    ----------
    root, other : str
        Locations of two storages.
    paths : sequence of str
        Keys in the other; of a symbolic link every name that it passes counts.

    Raises
    ------
    BackendError
        It cannot be seen where a link leads.
    """
    if not (is_local(root) and is_local(other)):
        begin, above = _decoded(root) + "/", _decoded(other)
        places = [f"{above}/{path}" for path in paths if path]
        return [place.removeprefix(begin) for place in places if place.startswith(begin)]
    directory, above = local_directory(root), local_directory(other)
    # The root may be called by its name or by what that leads to.
    begins = {one.rstrip("/") + "/" for one in (directory, os.path.realpath(directory))}
    names = _Names()
    found: dict[str, None] = {}
    for path in filter(None, paths):
        for place in names.of(os.path.join(above, path)):
            found.update((place.removeprefix(begin), None) for begin in begins if place.startswith(begin))
    return list(found)


def _decoded(location: str) -> str:
    location = location.rstrip("/")
    return unquote(location) if location.startswith("vos://") else location


class _Names:
    """Gives all names that a file has on the way from one of them to the file itself."""

    def __init__(self) -> None:
        self._links: dict[str, str] = {}

    def of(self, place: str) -> Iterator[str]:
        """Give ``place``, and what it becomes each time that one of its components is followed."""
        behind, ahead, links = "", place.split("/")[1:], 0
        yield place
        while ahead:
            name, ahead = ahead[0], ahead[1:]
            if name in ("", "."):
                continue
            if name == "..":
                behind = behind.rpartition("/")[0]
            elif target := self._follow(f"{behind}/{name}"):
                links += 1
                if links > MOST_LINKS:
                    return
                ahead = target.split("/") + ahead
                behind = "" if target.startswith("/") else behind
            else:
                behind = f"{behind}/{name}"
                continue
            yield "/".join([behind, *(one for one in ahead if one not in ("", "."))])

    def _follow(self, place: str) -> str:
        """Return what a symbolic link says; empty if it is none."""
        found = self._links.get(place)
        if found is None:
            try:
                found = os.readlink(place)
            except OSError as exc:
                # No link, or nothing at all, to which nobody refers.
                if exc.errno not in (errno.EINVAL, errno.ENOENT, errno.ENOTDIR):
                    raise BackendError(
                        f"it cannot be seen where {place} leads: {exc.strerror}",
                        hint="a file that another repository refers to could be lost",
                    ) from None
                found = ""
            self._links[place] = found
        return found
