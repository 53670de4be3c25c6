"""Claims on names, for file systems on which linking does not exclude other hosts.

A claim on the name N is the directory ``.pantry-<hash of N>.claim`` beside it, and in it an empty file called
by the token of the write that holds it. Making a directory is what even a client that trusts its own
memory leaves to its server. It is held until the write is settled or undone, by when other hosts know N.
"""

from __future__ import annotations

import errno
import os
from contextlib import suppress

import xxhash

from pantry.backends.contract import RESERVED_PREFIX


def _claim_on(name: str) -> str:
    return f"{RESERVED_PREFIX}{xxhash.xxh3_64_hexdigest(name.encode())}.claim"


def claim(directory: int, name: str, token: str) -> None:
    """Claim ``name`` in the open ``directory`` for the write with ``token``.

    Raises
    ------
    FileExistsError
        The name is taken, or somebody else has claimed it.
    """
    path = _claim_on(name)
    os.mkdir(path, 0o755, dir_fd=directory)
    try:
        owner = os.open(f"{path}/{token}", os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o644, dir_fd=directory)
        os.close(owner)
        with suppress(FileNotFoundError):
            os.stat(name, dir_fd=directory, follow_symlinks=False)
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), name)
    except BaseException:
        release_claim(directory, name, token)
        raise


def release_claim(directory: int, name: str, token: str) -> None:
    """Give up the claim on ``name``, if it is of the write with ``token``."""
    path = _claim_on(name)
    with suppress(FileNotFoundError, NotADirectoryError):
        os.unlink(f"{path}/{token}", dir_fd=directory)
        os.rmdir(path, dir_fd=directory)
