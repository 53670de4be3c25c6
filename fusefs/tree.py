"""The view without FUSE: which names there are, and what they stand for.

::

    /<repository>/<collection>/<dataset type>/<dimension directories>/<file>
    /<repository>/<CALIBRATION collection>/<dataset type>/<dimension directories>/<time of validity>/<file>
    /<repository>/.by-id/<uuid>/<file>

A chain of repositories (decision 0019) is a directory too; its files are those of its members.

What is shared between users (collections, names) is kept only behind `Tree.authorise`, which asks the daemon
for each user. Nothing here causes traffic to a repository's storage.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Collection
from contextlib import aclosing
from typing import NamedTuple
from uuid import UUID

import msgspec
import trio

from pantry.errors import NotFoundError, RepositoryNotFoundError
from pantry.fusefs.expiring import ExpiringMap
from pantry.fusefs.link import DaemonLink, User
from pantry.fusefs.names import BY_ID, CollectionIndex, Path, TypeDirectory, parse_id
from pantry.model.repository import RepositoryInfo
from pantry.wire.operations import (
    FoundDataset,
    GetDataset,
    GetRepository,
    ListRepositories,
    ListTree,
    QueryCollections,
    TreeEntry,
)

FOR_EVER_S = 86400.0
"""For what is fixed by a UUID; the kernel asks again once a day."""
FIXED_NAME_S = 60.0
"""For names in RUN collections: they never change, but a dataset could be deleted."""


class Root(msgspec.Struct, frozen=True, array_like=True, tag="r"):
    """The mount point."""

    @property
    def key(self) -> str:
        """What identifies the node, now and after a restart."""
        return "root"

    @property
    def parent(self) -> Root:
        """Itself: what the mount point is in, the kernel knows."""
        return self


class Directory(msgspec.Struct, frozen=True, array_like=True, tag="d"):
    """A repository, or a directory below it that is known by its path."""

    repository: str
    path: Path = ()

    @property
    def key(self) -> str:
        """What identifies the node, now and after a restart."""
        return "/".join(("d", self.repository, *self.path))

    @property
    def parent(self) -> Root | Directory:
        """The directory that it is in."""
        return Directory(self.repository, self.path[:-1]) if self.path else Root()


class IdDirectory(msgspec.Struct, frozen=True, array_like=True, tag="i"):
    """``.by-id``, which cannot be listed, or the directory of one dataset in it."""

    repository: str
    id: UUID | None = None

    @property
    def key(self) -> str:
        """What identifies the node, now and after a restart."""
        return f"i/{self.repository}/{self.id or ''}"

    @property
    def parent(self) -> Directory | IdDirectory:
        """The directory that it is in."""
        return IdDirectory(self.repository) if self.id else Directory(self.repository)


class File(msgspec.Struct, frozen=True, gc=False, array_like=True, tag="f"):
    """A dataset's file; the same node by whatever path it is found."""

    repository: str
    id: UUID
    size_bytes: int
    modified_ns: int
    hash: str

    @property
    def key(self) -> str:
        """What identifies the node, now and after a restart; other content is another node."""
        return f"f/{self.repository}/{self.id}/{self.hash}"


Node = Root | Directory | IdDirectory | File


class Entry(NamedTuple):
    """A name in a directory, and for how many seconds it surely stands for this node."""

    name: str
    node: Node
    valid_s: float


class Listed(NamedTuple):
    """What a listing of a directory is good for.

    Attributes
    ----------
    state : str
        Of the registry, before the listing; empty if nobody can tell whether it changed, or if it is one user's.
    valid_s : float
        For how long its names are good, in seconds.
    """

    state: str
    valid_s: float


_NOT_KEPT = Listed("", 0.0)


class Tree:
    """The mounted view.

    Parameters
    ----------
    link : DaemonLink
        How to reach the daemon.
    repositories : Collection[str]
        Show only these; empty for all.
    collections_ttl_s : float
        For how long collections, and what a user may read, are believed.
    many_users : bool
        Whether users other than the owner can reach the mount. Then the kernel must ask at each step into a
        repository, since it would let anybody pass where one was allowed to.
    """

    def __init__(
        self,
        link: DaemonLink,
        *,
        repositories: Collection[str] = (),
        collections_ttl_s: float = 2.0,
        many_users: bool = False,
    ) -> None:
        self._link = link
        self._repositories = frozenset(repositories)
        self.collections_ttl_s = collections_ttl_s
        self._repository_valid_s = 0.0 if many_users else collections_ttl_s
        self._access: ExpiringMap[tuple[str, User], RepositoryInfo] = ExpiringMap(collections_ttl_s)
        self._indices: ExpiringMap[str, tuple[float, CollectionIndex]] = ExpiringMap(collections_ttl_s)
        # Each registry's state, and when it was first seen: a listing that goes by this state needs a newer index.
        self._states: dict[str, tuple[str, float]] = {}

    async def authorise(self, node: Node, user: User) -> None:
        """Raise unless the user may read the node's repository now.

        Raises
        ------
        PermissionDeniedError, RepositoryNotFoundError
            As the daemon answers.
        """
        if not isinstance(node, Root):
            await self.repository(node.repository, user)

    async def repository(self, name: str, user: User) -> RepositoryInfo:
        """Describe a repository that the user may read."""

        async def fetch() -> RepositoryInfo:
            info = await self._link.call(GetRepository(repository=name, state=True), user)
            if self._states.get(name, ("", 0.0))[0] != info.state:
                self._states[name] = info.state, trio.current_time()
            return info

        return await self._access.get((name, user), fetch)

    async def listed(self, node: Node, user: User) -> Listed:
        """Authorise a listing, and tell what it is good for."""
        if isinstance(node, Root):
            return _NOT_KEPT
        info = await self.repository(node.repository, user)
        if not isinstance(node, Directory):
            return _NOT_KEPT
        return self._listed(info, await self._index(node.repository, user), node)

    def listed_at_once(self, node: Node, user: User) -> Listed | None:
        """Do as `listed` if nothing must be asked for; else return None."""
        if isinstance(node, Root):
            return _NOT_KEPT
        info = self._access.at_once((node.repository, user))
        if info is None:
            return None
        if not isinstance(node, Directory):
            return _NOT_KEPT
        known = self._indices.at_once(node.repository)
        if known is None or not self._is_newer(known[0], node.repository):
            return None
        return self._listed(info, known[1], node)

    def _listed(self, info: RepositoryInfo, index: CollectionIndex, node: Directory) -> Listed:
        places = index.type_directories(node.path)
        above = index.below(node.path) or index.dataset_types(node.path)
        fixed = bool(places) and all(place.fixed for place in places) and not above
        return Listed(info.state, FIXED_NAME_S if fixed else self.collections_ttl_s)

    async def lookup(self, parent: Node, name: str, user: User) -> Entry:
        """Find one name in a directory.

        Raises
        ------
        NotFoundError
            There is no such name.
        """
        match parent:
            case Root():
                if self._repositories and name not in self._repositories:
                    raise RepositoryNotFoundError(f"repository {name} is not part of this mount")
                await self.repository(name, user)
                return Entry(name, Directory(name), self._repository_valid_s)
            case Directory():
                await self.authorise(parent, user)
                return await self._lookup_path(parent, name, user)
            case IdDirectory(repository, None):
                dataset = parse_id(name)
                if dataset is None:
                    raise NotFoundError(f"{name} is not a UUID")
                await self._file(repository, dataset, user)
                return Entry(name, IdDirectory(repository, dataset), FOR_EVER_S)
            case IdDirectory(repository, UUID() as dataset):
                file_name, file = await self._file(repository, dataset, user)
                if file_name == name:
                    return Entry(name, file, FOR_EVER_S)
        raise NotFoundError(f"no {name} there")

    async def pages(self, node: Node, user: User) -> AsyncGenerator[list[Entry], None]:
        """List a directory in pages of any length, each name once."""
        await self.authorise(node, user)
        match node:
            case Root():
                listing = await self._link.call(ListRepositories(), user)
                names = sorted(info.name for info in listing.repositories)
                yield [
                    Entry(name, Directory(name), self._repository_valid_s)
                    for name in names
                    if not self._repositories or name in self._repositories
                ]
            case Directory():
                async with aclosing(self._directory_pages(node, user)) as pages:
                    async for page in pages:
                        yield page
            case IdDirectory(repository, UUID() as dataset):
                name, file = await self._file(repository, dataset, user)
                yield [Entry(name, file, FOR_EVER_S)]

    async def describe(self, file: File, user: User) -> FoundDataset:
        """Tell what the registry has of a file's dataset."""
        return await self._link.call(GetDataset(repository=file.repository, id=file.id), user)

    # -- below a repository ------------------------------------------------------------------------

    async def _index(self, repository: str, user: User) -> CollectionIndex:
        async def fetch() -> tuple[float, CollectionIndex]:
            begun = trio.current_time()
            answer = await self._link.call(QueryCollections(repository=repository, with_dataset_types=True), user)
            return begun, CollectionIndex(answer.collections)

        while True:
            begun, index = await self._indices.get(repository, fetch)
            if self._is_newer(begun, repository):
                return index
            self._indices.forget(repository)

    def _is_newer(self, begun: float, repository: str) -> bool:
        """Whether an index that was asked for then is as new as the state by which listings are kept."""
        return begun >= self._states.get(repository, ("", 0.0))[1]

    async def _file(self, repository: str, dataset: UUID, user: User) -> tuple[str, File]:
        await self.repository(repository, user)
        found = await self._link.call(GetDataset(repository=repository, id=dataset), user)
        if found.file is None or not found.name:
            raise NotFoundError(f"dataset {dataset} has no file")
        stored = found.file
        holder = (found.ref.repository if found.ref is not None else "") or repository
        return found.name, File(holder, dataset, stored.size_bytes, stored.ingest_ns, stored.hash)

    async def _lookup_path(self, parent: Directory, name: str, user: User) -> Entry:
        if not parent.path and name == BY_ID:
            return Entry(name, IdDirectory(parent.repository), FOR_EVER_S)
        index = await self._index(parent.repository, user)
        path = (*parent.path, name)
        found: Entry | None = None
        if index.is_directory(path):
            found = Entry(name, Directory(parent.repository, path), self.collections_ttl_s)
        for place in index.type_directories(parent.path):
            async with aclosing(self._entries(parent, place, user, name)) as batches:
                async for batch in batches:
                    for entry in batch:
                        # A file's name is the same for ever (DESIGN 4.7), so no collection may come to hide it.
                        if isinstance(entry.node, File):
                            return entry
                        found = found or entry
        if found is None:
            raise NotFoundError(f"no {name} in {parent.repository}/{'/'.join(parent.path)}")
        return found

    async def _directory_pages(self, node: Directory, user: User) -> AsyncGenerator[list[Entry], None]:
        index = await self._index(node.repository, user)
        names = sorted({*index.below(node.path), *index.dataset_types(node.path)})
        places = index.type_directories(node.path)
        first = [Entry(name, Directory(node.repository, (*node.path, name)), self.collections_ttl_s) for name in names]
        if not node.path:
            first.insert(0, Entry(BY_ID, IdDirectory(node.repository), FOR_EVER_S))
        if not places:
            yield first
            return
        if not first and len(places) == 1:
            async with aclosing(self._entries(node, places[0], user, "")) as batches:
                async for batch in batches:
                    yield batch
            return
        async with aclosing(self._merged(node, first, places, user)) as pages:
            async for page in pages:
                yield page

    async def _merged(
        self, node: Directory, first: list[Entry], places: tuple[TypeDirectory, ...], user: User
    ) -> AsyncGenerator[list[Entry], None]:
        """Unite what an ambiguous path means. Only here are all names of a directory held at once."""
        found: dict[str, Entry] = {entry.name: entry for entry in first}
        for place in places:
            async with aclosing(self._entries(node, place, user, "")) as batches:
                async for batch in batches:
                    for entry in batch:
                        known = found.get(entry.name)
                        if known is None or (isinstance(entry.node, File) and not isinstance(known.node, File)):
                            found[entry.name] = entry
        yield list(found.values())

    async def _entries(
        self, parent: Directory, place: TypeDirectory, user: User, name: str
    ) -> AsyncGenerator[list[Entry], None]:
        operation = ListTree(
            repository=parent.repository,
            collection=place.collection,
            dataset_type=place.dataset_type,
            parts=place.parts,
            name=name,
        )
        valid_s = FIXED_NAME_S if place.fixed else self.collections_ttl_s
        try:
            async with aclosing(self._link.stream(operation, user)) as batches:
                async for batch in batches:
                    yield [_entry(parent, entry, valid_s) for entry in batch.entries]
        except NotFoundError:
            # Gone since the collections were listed, or no such name: nothing to show.
            return


def _entry(parent: Directory, entry: TreeEntry, valid_s: float) -> Entry:
    if entry.id is None:
        return Entry(entry.name, Directory(parent.repository, (*parent.path, entry.name)), valid_s)
    node = File(entry.repository or parent.repository, entry.id, entry.size_bytes, entry.modified_ns, entry.hash)
    return Entry(entry.name, node, valid_s)
