"""Several datasets stored as one: in several repositories, or of several types (decision 0045).

The files are uploaded first, all of them; then each registry commits its part in one transaction. What fails on
the way is taken back everywhere, by `Puts.undo` now or by `recovery` after a crash.
"""

from __future__ import annotations

import logging
import time
import uuid
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from functools import partial
from typing import NamedTuple

import msgspec
import trio

from pantry.daemon.datasets.begun import BegunPut, Columns, Written, checked_metadata
from pantry.daemon.datasets.in_the_way import exists_already
from pantry.daemon.datasets.putting import Puts
from pantry.daemon.journal import Intent, Journal, Target
from pantry.daemon.registry import Insert, PutWish
from pantry.daemon.repositories.repository import Repository
from pantry.daemon.repositories.service import Repositories
from pantry.errors import InvalidRequestError, ObjectExistsError, PantryError
from pantry.wire.operations import BeginPut

log = logging.getLogger(__name__)


class PutGroup:
    """Puts that are stored all or none, between their beginning and their end.

    Attributes
    ----------
    puts : tuple of BegunPut
        In the order in which they were asked for.
    """

    def __init__(self, puts: Sequence[BegunPut]) -> None:
        self.puts = tuple(puts)
        self.committing = False

    async def release(self) -> None:
        """Remove the temporary files that did not become part of the cache."""
        for put in self.puts:
            await put.release()


class _Ready(NamedTuple):
    """A put whose content nobody changes any more."""

    written: Written
    metadata: Columns

    @property
    def put(self) -> BegunPut:
        return self.written.put


class PutGroups:
    """Begins and commits groups of puts.

    Parameters
    ----------
    puts : Puts
        Does what is of each one.
    journal : Journal
        Remembers what is being stored.
    repositories : Repositories
        For their registries.
    nursery : trio.Nursery
        Owns what is still to be tidied up after an answer.
    """

    def __init__(self, puts: Puts, journal: Journal, repositories: Repositories, nursery: trio.Nursery) -> None:
        self._puts = puts
        self._journal = journal
        self._repositories = repositories
        self._nursery = nursery

    async def begin(self, wishes: Sequence[tuple[Repository, BeginPut]]) -> PutGroup:
        """Check everything that can be known before the objects are written.

        Raises
        ------
        DatasetExistsError
            One of the runs has such a dataset.
        InvalidRequestError
            Two of them are the same.
        """
        # By their places: the order of the wishes is that of the answer.
        places: dict[str, list[int]] = {}
        for place, (repository, _) in enumerate(wishes):
            places.setdefault(repository.name, []).append(place)
        begun: dict[int, BegunPut] = {}
        for numbers in places.values():
            repository = wishes[numbers[0]][0]
            those = [wishes[number][1] for number in numbers]
            asked = [
                (PutWish(one.dataset_type, one.run, one.data_id, one.extension, one.formatter), one.id) for one in those
            ]
            begun.update(zip(numbers, await self._puts.begin_all(repository, asked), strict=True))
        puts = [begun[place] for place in range(len(wishes))]
        seen: set[tuple[str, object]] = set()
        for put in puts:
            for mark in (put.key, put.ref.id):
                if (put.repository.name, mark) in seen:
                    raise InvalidRequestError(f"{put.ref} is there twice for {put.repository.name!r}")
                seen.add((put.repository.name, mark))
        return PutGroup(puts)

    async def commit(self, group: PutGroup, metadata: Sequence[Mapping[str, object]]) -> None:
        """Store what the client wrote, all or nothing (DMS-MWBT-REQ-0063, 0073, 0076)."""
        if group.committing or len(metadata) != len(group.puts):
            raise InvalidRequestError("a group of puts is committed once, with metadata for each")
        group.committing = True
        checked = [checked_metadata(put, said) for put, said in zip(group.puts, metadata, strict=True)]
        ready: list[_Ready] = []
        try:
            stored_ns = time.time_ns()
            for put, columns in zip(group.puts, checked, strict=True):
                written = await self._puts.take(put)
                file = msgspec.structs.replace(written.file, ingest_ns=stored_ns)
                ready.append(_Ready(written._replace(file=file), columns))
            await self._store(ready)
            for one in ready:
                self._puts.keep(one.put.repository, one.put.path, one.written.file)
        finally:
            for one in ready:
                one.written.close()

    async def _store(self, ready: Sequence[_Ready]) -> None:
        token = uuid.uuid4().hex
        targets = tuple(
            Target(one.put.repository.name, one.put.key, one.put.ref.id.bytes, one.written.file.ingest_ns)
            for one in ready
        )
        intent = Intent(token, targets)
        with ExitStack() as names:
            for one in ready:
                names.enter_context(one.put.repository.names.writing([one.put.key]))
            await self._store_all(ready, intent)
        for one in ready:
            one.put.repository.origin.absent.forget(one.put.key)
        self._nursery.start_soon(self._settle, ready, token)

    async def _store_all(self, ready: Sequence[_Ready], intent: Intent) -> None:
        await self._journal.record(intent)
        try:
            await self._upload(ready, intent.token)
            for one in ready:
                if one.put.before_commit is not None:
                    await one.put.before_commit(one.written.file, one.written.fd)
            # A commit itself is not interrupted: afterwards it is either done or not.
            with trio.CancelScope(shield=True):
                for repository, inserts in _by_repository(ready):
                    await self._repositories.queries.call(partial(repository.registry.insert_together, inserts))
        except BaseException:
            with trio.CancelScope(shield=True):
                await self._puts.undo(intent)
            raise

    async def _upload(self, ready: Sequence[_Ready], token: str) -> None:
        """Write all files to their storages, side by side; the first error ends the others."""
        failures: list[PantryError | OSError] = []

        async def upload(one: _Ready) -> None:
            put, file = one.put, one.written.file
            try:
                await put.repository.backend.write_from(put.key, one.written.fd, file.size_bytes, token=token)
            except ObjectExistsError:
                failures.append(await exists_already(put.repository, self._repositories.queries, put.key))
            except (PantryError, OSError) as exc:
                failures.append(exc)
            else:
                return
            nursery.cancel_scope.cancel()

        async with trio.open_nursery() as nursery:
            for one in ready:
                nursery.start_soon(upload, one)
        if failures:
            raise failures[0]

    async def _settle(self, ready: Sequence[_Ready], token: str) -> None:
        """Tidy up after a commit; the client has its answer already."""
        with trio.CancelScope(shield=True):
            try:
                for one in ready:
                    await one.put.repository.backend.settle_write(one.put.key, token=token)
            except PantryError as exc:
                # The intent stays in the journal, and the next start settles it.
                log.warning("a committed write cannot be settled now: %s", exc.message)
            else:
                # At once: what is deleted from one of the registries later must not look like a write cut off.
                await self._journal.clear_now(token)


def _by_repository(ready: Sequence[_Ready]) -> list[tuple[Repository, list[Insert]]]:
    """Give each repository what it registers, in the order in which the repositories were named."""
    found: dict[str, tuple[Repository, list[Insert]]] = {}
    for one in ready:
        ref, file = one.put.ref, one.written.file
        _, inserts = found.setdefault(one.put.repository.name, (one.put.repository, []))
        inserts.append((ref.run, ref.dataset_type.name, [(ref.id, ref.data_id, file)], one.metadata))
    return list(found.values())
