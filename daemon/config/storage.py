"""The entries of ``storage``: which of them hold for a root, where its copies are, and with whose rights it is read."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from typing import Literal

import msgspec

from pantry.backends.credentials import NOT_FOR_USERS
from pantry.daemon.config.secrets import SecretSource

ROOT = re.compile(r"/|[A-Za-z][A-Za-z0-9+.-]*:")
"""How an absolute path or a URI begins."""

_ELSEWHERE = re.compile(r"(?!file:)[A-Za-z][A-Za-z0-9+.-]*:")


class StorageConfig(msgspec.Struct, frozen=True, kw_only=True):
    """Options and credentials for every storage root that begins with ``match``.

    Attributes
    ----------
    match : str
        Beginning of a root's URI, such as ``s3://bucket/``; the longest match wins.
    options : dict
        Options of the storage backend; a secret is a text, never shown, or says where it is kept.
    replicas : tuple of str
        URIs or absolute paths that stand in a root for ``match`` to give its copies: read, in this
        order, when the root itself fails; never written.
    direct : bool
        Readers get the files of a mounted file system themselves, not copies in the cache: it is as fast.
    max_concurrent : int
        Requests that may be under way, of all users together, to all roots for which this entry is the longest
        that says so; 0 for no limit of their own.
    rights : str
        ``node``: the options say who asks. ``user``: each user, with a credential of his own, only to read. Empty:
        as the longest other match says, else ``node``.
    """

    match: str
    options: dict[str, str | int | float | bool | SecretSource] = {}
    replicas: tuple[str, ...] = ()
    direct: bool = False
    max_concurrent: int = 0
    rights: Literal["", "node", "user"] = ""

    def holds_for(self, root: str) -> bool:
        """Whether a root begins with ``match``; a slash at its end does not matter."""
        return root.startswith(self.match) or root + "/" == self.match


Says = Callable[[StorageConfig], object]


def entries_for(root: str, storage: Sequence[StorageConfig]) -> list[StorageConfig]:
    """Return the entries that hold for a root, those with the longest matches last."""
    return sorted((one for one in storage if one.holds_for(root)), key=lambda one: len(one.match))


def longest_for(root: str, storage: Sequence[StorageConfig], says: Says) -> StorageConfig | None:
    """Return which of the entries that say something holds for a root: the one with the longest match."""
    return next((one for one in reversed(entries_for(root, storage)) if says(one)), None)


def is_for_each(root: str, storage: Sequence[StorageConfig]) -> bool:
    """Whether a root is read with each user's own rights."""
    said = longest_for(root, storage, lambda one: one.rights)
    return said is not None and said.rights == "user"


def replica_roots(root: str, storage: Sequence[StorageConfig]) -> list[str]:
    """Give the roots of the copies of ``root``, in order of preference; of no slash too many or too few."""
    longest = longest_for(root, storage, lambda one: one.replicas)
    if longest is None:
        return []
    rest = root[len(longest.match) :]
    if longest.match.endswith("/") or rest.startswith("/"):
        return [f"{replica.rstrip('/')}/{rest.lstrip('/')}".rstrip("/") for replica in longest.replicas]
    return [replica + rest for replica in longest.replicas]


def storage_problems(storage: Sequence[StorageConfig]) -> Iterator[str]:
    """Tell what is impossible in the entries, each with the place where it stands."""
    for number, one in enumerate(storage):
        where = f"storage[{number}]"
        if one.rights == "user" and not _ELSEWHERE.match(one.match):
            yield f"{where}.rights: there are no credentials for {one.match!r}"
        if one.rights == "user" and (given := sorted(NOT_FOR_USERS & one.options.keys())):
            yield f"{where}: with rights of users, {given[0]!r} would never be used"
        if one.max_concurrent < 0:
            yield f"{where}.max_concurrent: must not be negative"
        for replica in one.replicas:
            if not ROOT.match(replica):
                yield f"{where}.replicas: {replica!r} is no URI and no absolute path"
        yield from (f"{where}.replicas: {problem}" for problem in _mixed_rights(one, storage))


def _mixed_rights(entry: StorageConfig, storage: Sequence[StorageConfig]) -> Iterator[str]:
    """Tell for which roots of an entry the copies are not read with the same rights.

    Rights change only where some entry's match ends, on either side: it is enough to look there.
    """
    rests = {one.match[len(side) :] for side in (entry.match, *entry.replicas) for one in _below(side, storage)}
    roots = {entry.match, *(f"{entry.match.rstrip('/')}/{rest.lstrip('/')}" for rest in rests)}
    if not entry.match.endswith("/"):
        roots |= {entry.match + rest for rest in rests}
    for root in sorted(roots):
        if longest_for(root, storage, lambda one: one.replicas) is not entry:
            continue
        for copy in replica_roots(root, storage):
            if is_for_each(root, storage) != is_for_each(copy, storage):
                whose = "users' own rights" if is_for_each(root, storage) else "the node's rights"
                yield f"{root!r} is read with {whose}, and its copy {copy!r} is not"


def _below(side: str, storage: Sequence[StorageConfig]) -> list[StorageConfig]:
    return [one for one in storage if one.rights and one.match.startswith(side)]
