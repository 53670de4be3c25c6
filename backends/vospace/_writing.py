"""Writing data nodes all or nothing, in threads: a hidden draft gets its name by a move, which never replaces."""

from __future__ import annotations

import xxhash

from pantry.backends.contract import RESERVED_PREFIX, ObjectStat
from pantry.backends.vospace._blocking import Checkpoint
from pantry.backends.vospace._data import Data
from pantry.backends.vospace._described import described
from pantry.backends.vospace._documents import LENGTH, MD5, WRITE_PROPERTY, Child
from pantry.backends.vospace._service import Service
from pantry.errors import (
    BackendAccessError,
    BackendError,
    ObjectExistsError,
    ObjectNotFoundError,
    TransientBackendError,
)


class Writer:
    """Writes below one root; safe for use by many threads.

    Parameters
    ----------
    service : Service
        Makes, marks, moves and deletes nodes.
    data : Data
        Takes their bytes.
    location : str
        The root, for messages.
    """

    def __init__(self, service: Service, data: Data, location: str) -> None:
        self._service = service
        self._data = data
        self._location = location

    def write(self, key: str, fd: int, size_bytes: int, token: str, checkpoint: Checkpoint) -> ObjectStat:
        """Send the bytes to a node of a hidden container, and move it to its name."""
        service = self._service
        parent, _, name = key.rpartition("/")
        if self._exists(key, checkpoint):
            raise ObjectExistsError(f"{key!r} exists already", key=key)
        hidden = _hidden(key, token)
        try:
            service.make_container(hidden, checkpoint)
            draft = f"{hidden}/{name}"
            md5 = self._data.send(draft, fd, size_bytes, checkpoint)
            found = service.node(draft, checkpoint).itself
            _check_stored(key, found, size_bytes, md5)
            mark = f"{token} {size_bytes} {found.properties.get(MD5, '')}".rstrip()
            service.set_properties(draft, found.kind, {WRITE_PROPERTY: mark}, checkpoint)
            if service.node(draft, checkpoint).itself.properties.get(WRITE_PROPERTY) != mark:
                raise BackendError(
                    f"{self._location} does not keep properties of nodes",
                    hint="Pantry could not take back what it writes there: use this space for reading only.",
                )
            self._move(draft, key, parent, checkpoint)
            return described(key, service.node(key, checkpoint).itself)
        except BaseException:
            # Cancelled or failed: nothing of it may stay. What cannot be removed now, `undo_write` removes.
            self._undo_quietly(key, token)
            raise

    def _exists(self, key: str, checkpoint: Checkpoint) -> bool:
        try:
            self._service.node(key, checkpoint)
        except ObjectNotFoundError:
            return False
        return True

    def _move(self, draft: str, key: str, parent: str, checkpoint: Checkpoint) -> None:
        try:
            self._service.move(draft, key, checkpoint)
        except (ObjectExistsError, BackendAccessError, TransientBackendError):
            raise
        except BackendError:
            # Some services move only into containers that are there.
            self._service.move(draft, parent, checkpoint)

    def undo(self, key: str, token: str, checkpoint: Checkpoint) -> bool:
        """Delete the hidden container, and the node if it carries ``token`` and is still what was written."""
        # The draft first: a move that was asked for, and whose answer nobody heard, then has been made or cannot be.
        removed = self._remove_hidden(key, token, checkpoint)
        try:
            found = self._service.node(key, checkpoint).itself
        except ObjectNotFoundError:
            return removed
        return (_carries(found, token) and self._service.delete(key, checkpoint)) or removed

    def _undo_quietly(self, key: str, token: str) -> None:
        try:
            self.undo(key, token, lambda: None)
        except BackendError:
            return

    def _remove_hidden(self, key: str, token: str, checkpoint: Checkpoint) -> bool:
        hidden = _hidden(key, token)
        # First what is in it: some services refuse to delete containers that hold anything.
        drafted = self._service.delete(f"{hidden}/{key.rpartition('/')[2]}", checkpoint)
        return self._service.delete(hidden, checkpoint) or drafted

    def settle(self, key: str, token: str, checkpoint: Checkpoint) -> None:
        """Take the token off the node, and remove the hidden container."""
        self._remove_hidden(key, token, checkpoint)
        try:
            found = self._service.node(key, checkpoint).itself
            if _carries(found, token):
                self._service.set_properties(key, found.kind, {WRITE_PROPERTY: None}, checkpoint)
        except ObjectNotFoundError:
            return

    def delete(self, key: str, checkpoint: Checkpoint) -> None:
        """Delete one data node or link; a container stays."""
        try:
            if self._service.node(key, checkpoint).itself.kind == "ContainerNode":
                return
        except ObjectNotFoundError:
            return
        self._service.delete(key, checkpoint)


def _hidden(key: str, token: str) -> str:
    """Container, beside the object, of what is being written: the name is the token's and the object's own."""
    parent, _, name = key.rpartition("/")
    own = f"{RESERVED_PREFIX}{token}.{xxhash.xxh3_64_hexdigest(name.encode())}"
    return f"{parent}/{own}" if parent else own


def _carries(node: Child, token: str) -> bool:
    mark = node.properties.get(WRITE_PROPERTY, "").split(" ")
    now = [token, node.properties.get(LENGTH, ""), node.properties.get(MD5, "")]
    return mark == (now if now[2] else now[:2])


def _check_stored(key: str, node: Child, size_bytes: int, md5: str) -> None:
    stored = node.properties.get(LENGTH, "").strip()
    said = node.properties.get(MD5, "").strip().lower()
    if stored != str(size_bytes) or (said and said != md5):
        raise TransientBackendError(
            f"the VOSpace service stored {stored or 'unknown'} bytes of MD5 {said or 'unknown'} for {key!r}, "
            f"where {size_bytes} of {md5} were sent",
            key=key,
        )
