"""What of a repository is being deleted and written by this daemon (docs/decisions/0065)."""

from __future__ import annotations

import threading
import uuid
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import trio

from pantry.daemon.registry.file_marks import FileBeingRemovedError


class Removals:
    """Removals of datasets whose files are not all gone; kept while a repository is closed and opened again.

    Attributes
    ----------
    tokens : set of str
        Of the removals that are this daemon's to finish.
    claim : str
        Token of files that this daemon has taken over from others.
    deleting : trio.Lock
        Held by the one task that deletes files.
    of_all : trio.Lock
        Held by the one task that removes the repository.
    """

    def __init__(self) -> None:
        self.claim = uuid.uuid4().hex
        self.tokens: set[str] = set()
        self.deleting = trio.Lock()
        self.of_all = trio.Lock()

    def wanted(self) -> list[str]:
        """Tokens of all files that this daemon is to delete."""
        return [*self.tokens, self.claim]


class FileNames:
    """Names of files that this daemon writes or deletes now: never both at once.

    A write may begin in any thread; all else is the trio thread's.

    A write that was prepared before a dataset of the same name was put and deleted may store its file while that
    deletion is tried again. Its commit is refused; until then its file is not the deletion's.
    """

    def __init__(self) -> None:
        self._guard = threading.Lock()
        self._written: Counter[str] = Counter()
        self._deleted: set[str] = set()
        self._ended = trio.Event()

    @contextmanager
    def writing(self, keys: Sequence[str]) -> Iterator[None]:
        """Let nothing of these names be deleted, from before files are stored until they are registered or undone.

        Raises
        ------
        FileBeingRemovedError
            One is being deleted at this moment.
        """
        with self._guard:
            taken = next((key for key in keys if key in self._deleted), None)
            if taken is None:
                self._written.update(keys)
        if taken is not None:
            raise FileBeingRemovedError(f"{taken} is the name of a file that is being deleted", hint="try again")
        try:
            yield
        finally:
            with self._guard:
                self._written.subtract(keys)
                for key in keys:
                    if not self._written[key]:
                        del self._written[key]
            self._ended.set()
            self._ended = trio.Event()

    def is_written(self, key: str) -> bool:
        """Whether somebody writes a file of this name."""
        return key in self._written

    async def until_written(self, key: str) -> None:
        """Wait until nobody does."""
        while self.is_written(key):
            await self._ended.wait()

    @contextmanager
    def deleting(self, key: str) -> Iterator[bool]:
        """Let nothing of this name be written; False if that is under way, and it may not be deleted now."""
        with self._guard:
            free = key not in self._written and key not in self._deleted
            if free:
                self._deleted.add(key)
        try:
            yield free
        finally:
            if free:
                with self._guard:
                    self._deleted.discard(key)
