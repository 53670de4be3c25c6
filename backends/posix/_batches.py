"""Many small objects in one visit to a thread: the disk is waited for once, as far as it lets itself."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from contextlib import suppress

from pantry.backends.contract import ObjectWrite
from pantry.backends.posix._beneath import DIRECTORY, open_beneath, start_writeback
from pantry.backends.posix._blocking import prune_parents
from pantry.backends.posix._publishing import Draft, open_directory, own_token, remove_link, settle_object
from pantry.backends.posix._root import Root
from pantry.errors import PantryError


def write_objects(root: Root, writes: Sequence[ObjectWrite]) -> list[PantryError | None]:
    """Do what `write_object` does for several small files; give the error of each that failed.

    The disk begins with the data of all before the first is waited for, and files have their names by then, so that
    one commit of the file system takes most of it. Each directory is opened once, and made durable once, with the
    names of all that came into it. What fails when it has its name already is left to `undo_write`.
    """
    batch = [_Written(one) for one in writes]
    directories: dict[str, int] = {}
    try:
        _try_each(root, batch, lambda one: one.fill(root, _directory_of(root, one.parent, directories)))
        if len(batch) > 1:
            _try_each(root, batch, _Written.start_writeback)
        if root.is_shared:
            # Other hosts see names at once; and to link a file that is still being written is not every server's art.
            _try_each(root, batch, _Written.make_durable)
            _try_each(root, batch, _Written.publish)
        else:
            _try_each(root, batch, _Written.publish)
            _try_each(root, batch, _Written.make_durable)
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
        Why it failed; what has no name by then is gone, but for directories.
    """

    def __init__(self, write: ObjectWrite) -> None:
        self.key = write.key
        self.parent, _, self._name = write.key.rpartition("/")
        self.error: PantryError | None = None
        self._write = write
        self._draft: Draft | None = None

    @property
    def draft(self) -> Draft:
        """The file; it has been filled without an error."""
        assert self._draft is not None  # noqa: S101
        return self._draft

    def fill(self, root: Root, directory: int) -> None:
        """Write the content."""
        _, source, size_bytes, token = self._write
        self._draft = Draft(root, directory, own_token(token, self.key))
        self._draft.fill(self.key, source, size_bytes, _no_checkpoint)

    def start_writeback(self) -> None:
        """Let the disk begin with the content."""
        start_writeback(self.draft.fd)

    def make_durable(self) -> None:
        """Wait until the content is on the disk."""
        os.fsync(self.draft.fd)

    def publish(self) -> None:
        """Give it its name."""
        self.draft.publish(self._name)

    def close(self) -> None:
        """Close the file; one without its name is removed."""
        if self._draft is not None:
            self._draft.close()


def settle_objects(root: Root, written: Sequence[tuple[str, str]]) -> list[PantryError | None]:
    """Do what `settle_object` does for several that `write_objects` wrote; give the error of each that failed."""
    directories: dict[str, int] = {}
    errors: list[PantryError | None] = []
    try:
        for key, token in written:
            try:
                _settle(root, key, token, directories)
            except PantryError as exc:
                errors.append(exc)
            else:
                errors.append(None)
    finally:
        for fd in directories.values():
            os.close(fd)
    return errors


def _settle(root: Root, key: str, token: str, directories: dict[str, int]) -> None:
    parent, _, name = key.rpartition("/")
    if not root.claims_names:
        with root.translating(key, writing=True), suppress(FileNotFoundError, NotADirectoryError):
            if parent not in directories:
                directories[parent] = open_beneath(root.fd, parent or ".", DIRECTORY)
            if remove_link(directories[parent], name, token):
                return
    settle_object(root, key, token)
