"""Inode numbers: the same for the same thing, also after the mount was restarted."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from typing import Generic, Protocol, TypeVar

ROOT_INODE = 1
_MASK = (1 << 63) - 1


class Keyed(Protocol):
    """What can have an inode number."""

    @property
    def key(self) -> str:
        """What identifies it for ever."""
        ...


N = TypeVar("N", bound=Keyed)


class InodeTable(Generic[N]):
    """The nodes that the kernel knows, with as many references as it holds.

    A number is 63 bits of a hash of the node's key. Should two keys meet, the later one takes the next free
    number; that alone is not stable across restarts.

    Parameters
    ----------
    root : N
        Node of the root, which is never forgotten.
    """

    def __init__(self, root: N) -> None:
        self._nodes: dict[int, N] = {ROOT_INODE: root}
        self._counts: dict[int, int] = {}
        self._root_key = root.key

    def __getitem__(self, number: int) -> N:
        return self._nodes[number]

    def __len__(self) -> int:
        return len(self._nodes)

    def number_of(self, node: N) -> int:
        """Return the number that the node has or would get; it is not entered."""
        key = node.key
        if key == self._root_key:
            return ROOT_INODE
        number = _hash(key)
        while number <= ROOT_INODE or (number in self._nodes and self._nodes[number].key != key):
            number = (number + 1) & _MASK
        return number

    def count(self, number: int, node: N) -> None:
        """Enter a node by the number that `number_of` gave: the kernel was told of it once more.

        The newer node replaces an older one by the same key.
        """
        if number != ROOT_INODE:
            self._nodes[number] = node
            self._counts[number] = self._counts.get(number, 0) + 1

    def forget(self, forgotten: Iterable[tuple[int, int]]) -> list[int]:
        """Drop references; return the numbers that are now unknown to the kernel."""
        gone = []
        for number, references in forgotten:
            left = self._counts.get(number, 0) - references
            if left > 0:
                self._counts[number] = left
            elif number in self._counts:
                del self._counts[number]
                del self._nodes[number]
                gone.append(number)
        return gone


def _hash(key: str) -> int:
    digest = hashlib.blake2b(key.encode("utf-8", "surrogateescape"), digest_size=8).digest()
    return int.from_bytes(digest, "big") & _MASK
