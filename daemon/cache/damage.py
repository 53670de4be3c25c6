"""Damage to cached objects on purpose, so that tests can see what the cache does about it."""

from __future__ import annotations

import os
from typing import Literal

from pantry.errors import InvalidRequestError

BLOCK_BYTES = 4096

How = Literal["flip", "zero", "truncate"]


def damage(path: str, how: How, at: int) -> None:
    """Damage a file in place, with its length's and name's account left as they were.

    Parameters
    ----------
    path : str
        Of the file.
    how : str
        ``flip`` the bits of a byte, ``zero`` a block, or ``truncate``.
    at : int
        Where, in bytes from the beginning.

    Raises
    ------
    InvalidRequestError
        The file does not reach so far, or what shall be zero is.
    """
    os.chmod(path, 0o600)
    try:
        with open(path, "r+b", buffering=0) as file:
            os.lseek(file.fileno(), at, os.SEEK_SET)
            old = file.read(1 if how == "flip" else BLOCK_BYTES)
            if not old:
                raise InvalidRequestError(f"the object does not reach to byte {at}")
            if how == "truncate":
                file.truncate(at)
                return
            new = bytes([old[0] ^ 0xFF]) if how == "flip" else bytes(len(old))
            if new == old:
                raise InvalidRequestError(f"the bytes from {at} on are zero already")
            os.pwrite(file.fileno(), new, at)
            os.fsync(file.fileno())
    finally:
        os.chmod(path, 0o444)
