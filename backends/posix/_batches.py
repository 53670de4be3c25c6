"""Many small objects in one visit to a thread: the disk is waited for once, as far as it lets itself."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence

from pantry.backends.contract import ObjectWrite
from pantry.backends.posix._beneath import start_writeback
from pantry.backends.posix._blocking import prune_parents
from pantry.backends.posix._publishing import Draft, open_directory, own_token, settle_object
from pantry.backends.posix._root import Root
from pantry.errors import PantryError


def write_objects(root: Root, writes: Sequence[ObjectWrite]) -> list[PantryError | None]:
    """Do what `write_object` does for several small files; give the error of each that failed.

    The disk begins with the data of all before the first is waited for, so that one commit of the file system
    takes most of them. Each directory is opened once, and made durable once, with the names of all that came into it.
    """
    batch = [_Written(one) for one in writes]
    directories: dict[str, int] = {}
    try:
        _try_each(root, batch, lambda one: one.copy(root, _directory_of(root, one.parent, directories)))
        _try_each(root, batch, _Written.make_durable)
        _try_each(root, batch, _Written.publish)
        failed = {parent: _sync_error(root, parent, fd) for parent, fd in directories.items()}
    finally:
        for one in batch:
            one.close()
        for fd in directories.values():
            os.close(fd)
    errors = [one.error or failed[one.parent] for one in batch]
    for one, error in zip(batch, errors, strict=True):
        if error is not None:
            prune_parents(root, one.key)
    return errors


def _try_each(root: Root, batch: Sequence[_Written], step: Callable[[_Written], object]) -> None:
    for one in batch:
        if one.error is None:
            try:
                with root.translating(one.key, writing=True):
                    step(one)
            except PantryError as exc:
                one.error = exc


def _directory_of(root: Root, parent: str, directories: dict[str, int]) -> int:
    if parent not in directories:
        directories[parent] = open_directory(root, parent)
    return directories[parent]


def _sync_error(root: Root, parent: str, directory: int) -> PantryError | None:
    try:
        with root.translating(parent, writing=True):
            os.fsync(directory)
    except PantryError as exc:
        return exc
    return None


def _no_checkpoint() -> None:
    """Small files are not interrupted."""


class _Written:
    """One object of a batch.

    Attributes
    ----------
    key, parent : str
        The object's, and its directory's.
    error : PantryError or None
        Why it failed; nothing of it is left then but directories.
    """

    def __init__(self, write: ObjectWrite) -> None:
        self.key = write.key
        self.parent, _, self._name = write.key.rpartition("/")
        self.error: PantryError | None = None
        self._write = write
        self._draft: Draft | None = None

    def copy(self, root: Root, directory: int) -> None:
        """Write the content, and let the disk begin with it."""
        self._draft = Draft(root, directory, own_token(self._write.token, self.key))
        self._draft.copy(self.key, self._write.fd, self._write.size_bytes, _no_checkpoint)
        start_writeback(self._draft.fd)

    def make_durable(self) -> None:
        """Wait until the content is on the disk."""
        assert self._draft is not None  # noqa: S101 - copied without an error
        os.fsync(self._draft.fd)

    def publish(self) -> None:
        """Give it its name."""
        assert self._draft is not None  # noqa: S101 - copied without an error
        self._draft.publish(self._name)

    def close(self) -> None:
        """Close the file; one without its name is removed."""
        if self._draft is not None:
            self._draft.close()


def settle_objects(root: Root, written: Sequence[tuple[str, str]]) -> list[PantryError | None]:
    """Do what `settle_object` does for several; give the error of each that failed."""
    errors: list[PantryError | None] = []
    for key, token in written:
        try:
            settle_object(root, key, token)
        except PantryError as exc:
            errors.append(exc)
        else:
            errors.append(None)
    return errors
