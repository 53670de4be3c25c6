"""Inode numbers: the same for the same thing, also after the mount was restarted."""

from __future__ import annotations

import hashlib

import msgspec

from pantry.fusefs.self_test import INODE
from pantry.fusefs.slots import Slot, Slots
from pantry.fusefs.tree import Directory, File, IdDirectory, Node, Root

ROOT_INODE = 1
INODE_KIND = 1
_MASK = (1 << 63) - 1
_ROOT = Root()


class InodeTable:
    """The nodes that the kernel knows, with as many references as it holds.

    A number is 63 bits of a hash of the node's key. Should two keys meet, the later one takes the next free
    number; that alone is not stable from one mount to the next. The nodes lie in shared memory, so that a successor has
    them, and a million of them take 130 MB less than as objects.

    Parameters
    ----------
    slots : Slots
        Where they are kept.
    """

    def __init__(self, slots: Slots) -> None:
        self._slots = slots
        self._offsets: dict[int, int] = {}
        self._decoder = msgspec.msgpack.Decoder(Directory | IdDirectory | File)
        self._encoder = msgspec.msgpack.Encoder()

    def __getitem__(self, number: int) -> Node:
        if number == ROOT_INODE:
            return _ROOT
        node: Node = self._decoder.decode(self._slots.payload(self._offsets[number]))
        return node

    def __len__(self) -> int:
        return len(self._offsets) + 1

    def take_over(self, slot: Slot) -> None:
        """Enter what a process before this one left."""
        self._offsets[slot.number] = slot.offset

    def number_of(self, node: Node) -> int:
        """Return the number that the node has or would get; it is not entered."""
        if isinstance(node, Root):
            return ROOT_INODE
        key = node.key
        number = _hash(key)
        while number <= INODE or (number in self._offsets and self[number].key != key):
            number = (number + 1) & _MASK
        return number

    def count(self, number: int, node: Node) -> None:
        """Enter a node by the number that `number_of` gave: the kernel is about to be told of it once more.

        The newer node replaces an older one by the same key.
        """
        if number == ROOT_INODE:
            return
        payload = self._encoder.encode(node)
        offset = self._offsets.get(number)
        if offset is None:
            self._offsets[number] = self._slots.add(INODE_KIND, number, 1, payload)
        elif self._slots.payload(offset) == payload:
            self._slots.set_count(offset, self._slots.count(offset) + 1)
        else:
            self._offsets[number] = self._slots.add(INODE_KIND, number, self._slots.count(offset) + 1, payload)
            self._slots.remove(offset)

    def forget(self, number: int, references: int) -> bool:
        """Drop references; return whether the number is now unknown to the kernel."""
        offset = self._offsets.get(number)
        if offset is None:
            return False
        left = self._slots.count(offset) - references
        if left > 0:
            self._slots.set_count(offset, left)
            return False
        self._slots.remove(offset)
        del self._offsets[number]
        return True


def _hash(key: str) -> int:
    digest = hashlib.blake2b(key.encode("utf-8", "surrogateescape"), digest_size=8).digest()
    return int.from_bytes(digest, "big") & _MASK
