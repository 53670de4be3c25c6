"""The files that a query finds, as the cache knows them."""

from __future__ import annotations

from functools import partial
from typing import NamedTuple, Protocol

import trio

from pantry.daemon.cache.object_id import ObjectId
from pantry.daemon.datasets.holding import Held, hold_each
from pantry.daemon.repositories.repository import Repository
from pantry.daemon.repositories.service import Repositories
from pantry.daemon.server.identity import Identity
from pantry.errors import DatasetNotFoundError
from pantry.model.data_id import DataIdValue
from pantry.model.datasets import StoredFile
from pantry.wire.operations import QueryDatasets


class Selection(Protocol):
    """What every operation on a query's datasets has; fields as of `QueryDatasets`."""

    @property
    def repository(self) -> str: ...  # noqa: D102
    @property
    def dataset_types(self) -> tuple[str, ...]: ...  # noqa: D102
    @property
    def collections(self) -> tuple[str, ...]: ...  # noqa: D102
    @property
    def where(self) -> str: ...  # noqa: D102
    @property
    def data_id(self) -> dict[str, DataIdValue]: ...  # noqa: D102


class SelectedFile(NamedTuple):
    """One content, with one of the names by which the query found it."""

    object_id: ObjectId
    file: StoredFile
    name: str


class Selected(NamedTuple):
    """What a query found.

    Attributes
    ----------
    files : list of SelectedFile
        Each content once, in the order found.
    holders : dict of ObjectId to Repository
        For each of them the repository to fetch it from.
    gone : dict of str to DatasetNotFoundError
        By their names the files of a view that are no longer where it refers to.
    """

    files: list[SelectedFile]
    holders: dict[ObjectId, Repository]
    gone: dict[str, DatasetNotFoundError]


async def select(repositories: Repositories, who: Identity, asked: Selection) -> Selected:
    """Run a query with the rights of ``who``; of a chain of repositories, in each of them."""
    found = await repositories.readable_all(asked.repository, who)
    query = QueryDatasets(
        repository=asked.repository,
        # With a composite come its components.
        dataset_types=(*asked.dataset_types, *(f"{name}.*" for name in asked.dataset_types if "." not in name)),
        collections=asked.collections,
        data_id=asked.data_id,
        where=asked.where,
        find_first=False,
    )
    selected = Selected([], {}, {})
    if isinstance(found, Repository):
        await _select_in(repositories, found, query, selected, who)
        return selected
    queries = await repositories.queries.call(partial(found.registry.restricted, query))
    for repository, one in zip(found.members, queries, strict=True):
        if one is not None:
            await _select_in(repositories, repository, one, selected, who)
    return selected


async def _select_in(
    repositories: Repositories, repository: Repository, query: QueryDatasets, selected: Selected, who: Identity
) -> None:
    batches = repository.registry.query_files(query)
    try:
        while (batch := await repositories.queries.call(partial(next, batches, None))) is not None:
            for held, one in zip(await hold_each(repositories, repository, batch, who), batch, strict=True):
                if not isinstance(held, Held):
                    selected.gone[one.name] = held
                    continue
                object_id = held.repository.object_id(held.file)
                if object_id not in selected.holders:
                    selected.holders[object_id] = held.repository
                    selected.files.append(SelectedFile(object_id, held.file, one.name))
    finally:
        if (close := getattr(batches, "close", None)) is not None:
            with trio.CancelScope(shield=True):
                await repositories.queries.call(close)
