"""Bytes that are used and promised, of the disk's quota or of the memory for what the disk cannot take.

They are counted as they are taken, in whole blocks: ten thousand files of 300 bytes are 40 MB.
"""

from __future__ import annotations

BLOCK_BYTES = 4096
"""What file systems give files, and memory its pages: everything is counted in whole ones."""


def charged(size_bytes: int) -> int:
    """Return how many bytes a file, or a part of it that begins at a block, takes where it lies."""
    return -(-size_bytes // BLOCK_BYTES) * BLOCK_BYTES


class Account:
    """What is used and promised of one limit.

    Attributes
    ----------
    used_bytes : int
        Written, and still taken.
    reserved_bytes : int
        Promised to what is being written.
    """

    used_bytes: int = 0
    reserved_bytes: int = 0


class Reservation:
    """Bytes that are promised; become used as they are written, or are given back."""

    def __init__(self, account: Account, size_bytes: int) -> None:
        self._account = account
        self.left_bytes = size_bytes
        account.reserved_bytes += size_bytes

    def use(self, size_bytes: int) -> None:
        """Turn reserved bytes into used ones."""
        if size_bytes > self.left_bytes:
            raise ValueError(f"{size_bytes} bytes used of {self.left_bytes} reserved")
        self.left_bytes -= size_bytes
        self._account.reserved_bytes -= size_bytes
        self._account.used_bytes += size_bytes

    def release(self) -> None:
        """Give back what was not used."""
        self._account.reserved_bytes -= self.left_bytes
        self.left_bytes = 0
