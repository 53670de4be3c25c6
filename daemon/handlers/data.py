"""Handlers of `pantry.wire.operations.data`."""

from __future__ import annotations

import re
from functools import partial
from uuid import UUID, uuid4

import msgspec
import trio

from pantry.daemon.datasets.begun import BegunPut
from pantry.daemon.datasets.grouping import PutGroup
from pantry.daemon.datasets.holding import Held, hold, origin_of
from pantry.daemon.datasets.opening import OpenedFile, OpenedPartial
from pantry.daemon.datasets.resolved import Resolved
from pantry.daemon.handlers.publishing_puts import published
from pantry.daemon.node import Node
from pantry.daemon.publishing.outbox import NewEntry
from pantry.daemon.repositories.chains import RepositoryChain
from pantry.daemon.repositories.repository import Repository
from pantry.daemon.server.context import RequestContext
from pantry.daemon.server.dispatch import Dispatcher
from pantry.daemon.server.identity import Identity
from pantry.errors import DatasetNotFoundError, InvalidRequestError, ObjectChangedError
from pantry.model.datasets import DatasetRef, StoredFile
from pantry.model.naming import directory_parts, ordered_values
from pantry.model.remote_files import RemoteFile, remote_file
from pantry.wire.operations import (
    AbortPut,
    BeginPut,
    BeginPuts,
    CloseOpened,
    CommitPut,
    CommitPuts,
    Done,
    FetchRanges,
    FindDataset,
    Ingested,
    IngestFiles,
    OpenDataset,
    Opened,
    PutContent,
    PutDone,
    PutTicket,
    PutTickets,
    StoredPuts,
)
from pantry.wire.operations.data import MAX_GROUP

MAX_RANGES = 4096
_FORMATTER = re.compile(r"[A-Za-z_][A-Za-z0-9_.]{0,127}")


def checked_formatter(name: str) -> str:
    """Return a formatter's name if it can be one, also the empty one; it is stored with each dataset."""
    if name and not _FORMATTER.fullmatch(name):
        raise InvalidRequestError(f"{name[:80]!r} cannot be the name of a formatter")
    return name


def tree_path(repository: Repository, ref: DatasetRef, file_name: str) -> str:
    """Return a dataset's path in the mounted view, below the repository's directory.

    ``file_name`` is the registry's, which decides suffixes.
    """
    parts = directory_parts(ref.dataset_type.name, ordered_values(repository.registry.universe, ref))
    return "/".join([ref.run, *parts, file_name])


def _no_dataset(asked: OpenDataset, where: str) -> DatasetNotFoundError:
    what = f"of type {asked.dataset_type!r} with data id {asked.data_id} in {', '.join(asked.collections)}"
    if asked.id is not None:
        what = f"with id {asked.id}"
    has = "has a dataset" if where.startswith("none") else "has no dataset"
    return DatasetNotFoundError(f"{where} {has} {what}", hint="`pantry query-datasets` shows what there is")


async def resolve(node: Node, repository: Repository, asked: OpenDataset) -> Resolved:
    """Find what an open asks for."""
    kept = node.resolved.find(repository.registry, asked)
    if kept is not None:
        return kept
    writes = repository.registry.writes
    if asked.id is not None:
        found = await node.repositories.queries.call(partial(repository.registry.get_dataset, asked.id))
    else:
        query = FindDataset(
            repository=asked.repository,
            dataset_type=asked.dataset_type,
            data_id=asked.data_id,
            collections=asked.collections,
            timespan=asked.timespan,
            time_of_data_id=True,
        )
        found = await node.repositories.queries.call(partial(repository.registry.find_dataset, query))
    if found.ref is None:
        raise _no_dataset(asked, f"the repository {repository.name!r}")
    if found.file is None:
        raise DatasetNotFoundError(
            f"{found.ref} is registered in {repository.name!r} without a file",
            hint="its repository does not store it"
            if repository.is_attached
            else "it was imported without its file: import it again from where the file is",
        )
    resolved = Resolved(found.ref, found.file, tree_path(repository, found.ref, found.name))
    node.resolved.keep(repository.registry, asked, resolved, writes=writes)
    return resolved


async def resolve_first(
    node: Node, found: Repository | RepositoryChain, asked: OpenDataset
) -> tuple[Repository, Resolved]:
    """Find what an open asks for in a repository, or in the first of a chain that has it."""
    if isinstance(found, Repository):
        return found, await resolve(node, found, asked)
    # By its id alone, it may be in any.
    each = [asked] * len(found.members) if asked.id is not None else found.registry.restricted(asked)
    for repository, one in zip(found.members, each, strict=True):
        if one is None:
            continue
        try:
            ref, file, name = await resolve(node, repository, one)
        except DatasetNotFoundError:
            continue
        return repository, Resolved(msgspec.structs.replace(ref, repository=repository.name), file, name)
    raise _no_dataset(asked, f"none of the repositories {', '.join(one.name for one in found.members)}")


async def held_by(node: Node, repository: Repository, resolved: Resolved, who: Identity) -> Held:
    """Find the repository that holds a resolved dataset's file, as the asking user may read it."""

    async def look_up(holder: Repository, id_: UUID) -> StoredFile:
        return (await resolve(node, holder, OpenDataset(repository=holder.name, id=id_))).file

    return await hold(node.repositories, repository, resolved.ref.id, resolved.file, who, look_up)


def members_of(found: Repository | RepositoryChain) -> tuple[Repository, ...]:
    """Return the repositories that a name means."""
    return (found,) if isinstance(found, Repository) else found.members


async def resolve_query(
    node: Node, found: Repository | RepositoryChain, asked: OpenDataset | FindDataset
) -> tuple[Repository, DatasetRef] | None:
    """Find what is asked for if it is a dataset by query, of the first repository of a chain that has it."""
    id_ = asked.id if isinstance(asked, OpenDataset) else None
    if id_ is not None:
        return node.query_datasets.by_id(members_of(found), id_)
    for repository in members_of(found):
        kind = node.query_datasets.type_of(repository, asked.dataset_type)
        if kind is not None:
            ref = await node.query_datasets.find(repository, kind, asked.data_id)
            name = repository.name if isinstance(found, RepositoryChain) else ""
            return repository, msgspec.structs.replace(ref, repository=name)
    return None


async def open_file(
    node: Node, repository: Repository, file: StoredFile, name: str, asked: OpenDataset, who: Identity
) -> OpenedFile:
    """Open a resolved dataset's file for somebody who may read the repository."""
    if (remote := remote_file(file.path)) is not None:
        return await _open_remote(node, remote, file.size_bytes, name, asked, who)
    if not file.hash:
        _, _, opened = await node.prefixes.of_repository(repository).open(
            file.path,
            partial=asked.partial,
            uncached=asked.uncached,
            cached_only=asked.cached_only,
            ahead=asked.ahead,
            name=name,
            size_bytes=file.size_bytes,
        )
        return opened
    # No await from here to the look into the cache.
    return await node.opener.open(
        repository,
        file,
        name=name,
        partial=asked.partial,
        cached_only=asked.cached_only,
        uncached=asked.uncached,
        ahead=asked.ahead,
    )


async def _open_remote(
    node: Node, remote: RemoteFile, size_bytes: int, name: str, asked: OpenDataset, who: Identity
) -> OpenedFile:
    """Open a file of another archive in the version that was registered, if ``who`` may read that archive too."""
    prefix, key = node.prefixes.at_url(remote.url, who, administers=node.is_administrator(who))
    try:
        return await node.opener.open_wanted(
            prefix.fixed(key, version=remote.version, size_bytes=size_bytes, name=name),
            partial=asked.partial,
            uncached=asked.uncached,
            cached_only=asked.cached_only or asked.here_only,
            ahead=asked.ahead,
        )
    except ObjectChangedError:
        raise ObjectChangedError(
            f"{remote.url} is not in the version that was registered",
            hint="the archive has replaced the file: delete the dataset and ingest it again",
        ) from None


def register(dispatcher: Dispatcher, node: Node) -> None:
    """Register the handlers."""
    repositories = node.repositories

    async def open_dataset(context: RequestContext, asked: OpenDataset) -> Opened:
        found = await repositories.readable_all(asked.repository, context.caller)
        queried = await resolve_query(node, found, asked)
        if queried is not None:
            answer, fd = await node.query_datasets.open(
                *queried,
                context.caller,
                administers=node.is_administrator(context.caller),
                cached_only=asked.cached_only,
            )
            context.attach(fd)
            return answer
        repository, resolved = await resolve_first(node, found, asked)
        holder, file = await held_by(node, repository, resolved, context.caller)
        opened = await open_file(node, holder, file, resolved.name, asked, context.caller)
        context.attach(opened.fd)
        handle = context.session.hold(opened.partial) if opened.partial is not None else 0
        return Opened(
            ref=resolved.ref,
            file=file,
            name=resolved.name,
            complete=opened.partial is None,
            handle=handle,
            was_cached=opened.was_cached,
            origin=origin_of(holder, file.path),
        )

    async def fetch(context: RequestContext, asked: FetchRanges) -> Done:
        held = context.session.held(asked.handle, OpenedPartial)
        if len(asked.ranges) > MAX_RANGES:
            raise InvalidRequestError(f"more than {MAX_RANGES} ranges in one request")
        await held.fetch(asked.ranges)
        return Done()

    async def close(context: RequestContext, asked: CloseOpened) -> Done:
        held = context.session.held(asked.handle, OpenedPartial)
        context.session.give_back(asked.handle)
        await held.release()
        return Done()

    async def begin_put(context: RequestContext, asked: BeginPut) -> PutTicket:
        repository = await repositories.writable(asked.repository, context.caller)
        node.query_datasets.refuse_put(repository, asked.dataset_type)
        put = await node.puts.begin(
            repository,
            asked.dataset_type,
            asked.data_id,
            asked.run,
            asked.id,
            formatter=checked_formatter(asked.formatter),
            extension=asked.extension,
        )
        number = context.session.hold(put)
        try:
            context.attach(put.open_for_client())
        except BaseException:
            context.session.give_back(number)
            await put.release()
            raise
        return PutTicket(put=number, ref=put.ref, formatter=put.formatter, python_type=put.python_type)

    async def put_content(context: RequestContext, asked: PutContent) -> PutDone:
        repository = await repositories.writable(asked.repository, context.caller)
        node.query_datasets.refuse_put(repository, asked.dataset_type)
        targets = node.publisher.automatic(asked.dataset_type, repository.name)
        if not targets:
            return PutDone(await node.puts.put_content(repository, asked))
        id_ = asked.id or uuid4()
        entries = [NewEntry(one, id_.bytes, repository.name, asked.dataset_type, context.caller.uid) for one in targets]
        async with node.publisher.with_commit(entries) as commitment:
            ref = await node.puts.put_content(repository, msgspec.structs.replace(asked, id=id_))
            commitment.is_void = ref is None
        return PutDone(ref)

    async def commit_put(context: RequestContext, asked: CommitPut) -> DatasetRef:
        put = context.session.held(asked.put, BegunPut)
        context.session.give_back(asked.put)
        try:
            async with published(node, [put], asked, context.caller):
                return await node.puts.commit(put, asked.metadata)
        finally:
            with trio.CancelScope(shield=True):
                await put.release()

    async def begin_puts(context: RequestContext, asked: BeginPuts) -> PutTickets:
        if not 0 < len(asked.puts) <= MAX_GROUP:
            raise InvalidRequestError(f"a group has 1 to {MAX_GROUP} puts, not {len(asked.puts)}")
        wishes = []
        for one in asked.puts:
            checked_formatter(one.formatter)
            wishes.append((await repositories.writable(one.repository, context.caller), one))
            node.query_datasets.refuse_put(wishes[-1][0], one.dataset_type)
        group = await node.groups.begin(wishes)
        number = context.session.hold(group)
        try:
            for put in group.puts:
                context.attach(put.open_for_client())
        except BaseException:
            context.session.give_back(number)
            await group.release()
            raise
        return PutTickets(
            tuple(
                PutTicket(put=number, ref=put.ref, formatter=put.formatter, python_type=put.python_type)
                for put in group.puts
            )
        )

    async def commit_puts(context: RequestContext, asked: CommitPuts) -> StoredPuts:
        group = context.session.held(asked.put, PutGroup)
        context.session.give_back(asked.put)
        try:
            async with published(node, group.puts, asked, context.caller):
                await node.groups.commit(group, asked.metadata)
        finally:
            with trio.CancelScope(shield=True):
                await group.release()
        return StoredPuts(tuple(put.ref for put in group.puts))

    async def abort_put(context: RequestContext, asked: AbortPut) -> Done:
        put = context.session.held(asked.put, (BegunPut, PutGroup))
        context.session.give_back(asked.put)
        await put.release()
        return Done()

    async def ingest(context: RequestContext, asked: IngestFiles) -> Ingested:
        repository = await repositories.writable(asked.repository, context.caller)
        same_user = context.caller.uid == node.own_uid
        ids = await node.ingester.ingest(repository, asked, context.fds, same_user=same_user)
        return Ingested(b"".join(ids))

    dispatcher.register(OpenDataset, open_dataset)
    dispatcher.register(FetchRanges, fetch)
    dispatcher.register(CloseOpened, close)
    dispatcher.register(BeginPut, begin_put)
    dispatcher.register(CommitPut, commit_put)
    dispatcher.register(PutContent, put_content)
    dispatcher.register(BeginPuts, begin_puts)
    dispatcher.register(CommitPuts, commit_puts)
    dispatcher.register(AbortPut, abort_put)
    dispatcher.register(IngestFiles, ingest)
