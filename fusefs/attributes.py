"""What ``stat`` and the extended attributes tell of a node."""

from __future__ import annotations

import json
import os
import stat
from typing import NamedTuple

from pantry.errors import NotFoundError
from pantry.fusefs.expiring import ExpiringMap
from pantry.fusefs.kernel.messages import Attributes
from pantry.fusefs.link import User
from pantry.fusefs.reading import Files
from pantry.fusefs.tree import File, Node, Tree
from pantry.wire.operations import FoundDataset

_FILE_MODE = stat.S_IFREG | 0o444
_DIRECTORY_MODE = stat.S_IFDIR | 0o555
_PREFERRED_BYTES = 1 << 20
"""What ``cat`` and ``cp`` read at once."""


class Owner(NamedTuple):
    """Whom everything in the mount belongs to, and when it was mounted, in nanoseconds since 1970 UTC."""

    uid: int
    gid: int
    mounted_ns: int

    @classmethod
    def of_process(cls, mounted_ns: int) -> Owner:
        """Name the user of this process."""
        return cls(os.getuid(), os.getgid(), mounted_ns)


def attributes_of(number: int, node: Node, owner: Owner) -> Attributes:
    """Tell a node's attributes."""
    if isinstance(node, File):
        return Attributes(number, _FILE_MODE, node.size_bytes, node.modified_ns, owner.uid, owner.gid, _PREFERRED_BYTES)
    return Attributes(number, _DIRECTORY_MODE, 0, owner.mounted_ns, owner.uid, owner.gid)


class DatasetAttributes:
    """The extended attributes of files."""

    names: tuple[bytes, ...] = tuple(
        f"user.pantry.{name}".encode()
        for name in ("uuid", "hash", "size", "data_id", "dataset_type", "run", "origin", "cached")
    )

    def __init__(self, tree: Tree, files: Files) -> None:
        self._tree = tree
        self._files = files
        self._found: ExpiringMap[tuple[str, User], FoundDataset] = ExpiringMap(tree.collections_ttl_s, most=256)

    async def get(self, file: File, name: bytes, user: User) -> bytes:
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
