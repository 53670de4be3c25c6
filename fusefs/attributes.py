"""What ``stat`` and the extended attributes tell of a node."""

from __future__ import annotations

import json
import os
import stat
import time
from typing import NamedTuple

import pyfuse3
from pyfuse3 import InodeT, ModeT, XAttrNameT

from pantry.errors import NotFoundError
from pantry.fusefs.expiring import ExpiringMap
from pantry.fusefs.link import User
from pantry.fusefs.reading import Files
from pantry.fusefs.tree import File, Node, Tree
from pantry.wire.operations import FoundDataset

_FILE_MODE = ModeT(stat.S_IFREG | 0o444)
_DIRECTORY_MODE = ModeT(stat.S_IFDIR | 0o555)
_BLOCK_BYTES = 512
_PREFERRED_BYTES = 1 << 20
"""What ``cat`` and ``cp`` read at once."""


class Owner(NamedTuple):
    """Whom everything in the mount belongs to, and when it was mounted, in nanoseconds since 1970 UTC."""

    uid: int
    gid: int
    mounted_ns: int

    @classmethod
    def of_process(cls) -> Owner:
        """Name the user of this process, and now."""
        return cls(os.getuid(), os.getgid(), time.time_ns())


def fill_attributes(attributes: pyfuse3.EntryAttributes, number: int, node: Node, owner: Owner) -> None:
    """Write a node's attributes, all but the timeouts; an object may be used again for the next node."""
    attributes.st_ino = InodeT(number)
    attributes.st_uid = owner.uid
    attributes.st_gid = owner.gid
    attributes.st_nlink = 1
    if isinstance(node, File):
        attributes.st_mode = _FILE_MODE
        attributes.st_size = node.size_bytes
        attributes.st_blocks = -(-node.size_bytes // _BLOCK_BYTES)
        attributes.st_blksize = _PREFERRED_BYTES
        modified_ns = node.modified_ns
    else:
        attributes.st_mode = _DIRECTORY_MODE
        attributes.st_size = 0
        attributes.st_blocks = 0
        attributes.st_blksize = 4096
        modified_ns = owner.mounted_ns
    attributes.st_mtime_ns = modified_ns
    attributes.st_ctime_ns = modified_ns
    attributes.st_atime_ns = modified_ns


class DatasetAttributes:
    """The extended attributes of files."""

    names: tuple[XAttrNameT, ...] = tuple(
        XAttrNameT(f"user.pantry.{name}".encode())
        for name in ("uuid", "hash", "size", "data_id", "dataset_type", "run", "origin", "cached")
    )

    def __init__(self, tree: Tree, files: Files) -> None:
        self._tree = tree
        self._files = files
        self._found: ExpiringMap[tuple[str, User], FoundDataset] = ExpiringMap(tree.collections_ttl_s, most=256)

    async def get(self, file: File, name: XAttrNameT, user: User) -> bytes:
        """Return the value of one of `names`."""
        await self._tree.authorise(file, user)
        short = name.decode().rpartition(".")[2]
        if short == "uuid":
            return str(file.id).encode()
        if short == "cached":
            return (await self._files.cached(file, user)).encode()
        found = await self._found.get((file.key, user), lambda: self._tree.describe(file, user))
        if found.ref is None or found.file is None:
            raise NotFoundError(f"dataset {file.id} is gone")
        match short:
            case "hash":
                return found.file.hash.encode()
            case "size":
                return str(found.file.size_bytes).encode()
            case "data_id":
                return json.dumps(found.ref.data_id.required).encode()
            case "dataset_type":
                return found.ref.dataset_type.name.encode()
            case "run":
                return found.ref.run.encode()
            case _:
                root = (await self._tree.repository(file.repository, user)).root
                path = found.file.path
                return (path if "://" in path else f"{root.rstrip('/')}/{path}").encode()
