"""Handlers of `pantry.wire.operations.registry`."""

from __future__ import annotations

from functools import partial

import msgspec

from pantry.daemon.datasets.holding import shown_paths, with_shown_path
from pantry.daemon.handlers.data import members_of, resolve_query
from pantry.daemon.node import Node
from pantry.daemon.repositories.chains import RepositoryChain
from pantry.daemon.repositories.repository import Repository
from pantry.daemon.server.context import RequestContext
from pantry.daemon.server.dispatch import Dispatcher
from pantry.daemon.server.streaming import stream
from pantry.errors import InvalidRequestError
from pantry.wire.operations import (
    Associate,
    Certify,
    CountDatasets,
    CountDone,
    DatasetCounts,
    DatasetTypeList,
    Decertify,
    DescribeFiles,
    DescribeMembers,
    Dimensions,
    Disassociate,
    ExpandDataId,
    ExpandedDataId,
    FileTable,
    FindDataset,
    FoundDataset,
    GetDataset,
    GetDimensions,
    InsertDimensionRecords,
    ListDatasetTypes,
    MemberTable,
    QueryDataIds,
    QueryDatasets,
    QueryDimensionRecords,
    RegisterDatasetType,
    RegisteredDatasetType,
)
from pantry.wire.operations.files import MAX_DESCRIBED


def register(dispatcher: Dispatcher, node: Node) -> None:
    """Register the handlers."""
    repositories = node.repositories
    call = repositories.queries.call

    async def shown(context: RequestContext, asked: Repository | RepositoryChain, found: FoundDataset) -> FoundDataset:
        if found.file is None or found.ref is None:
            return found
        holding = next(one for one in members_of(asked) if found.ref.repository in ("", one.name))
        file = await with_shown_path(repositories, holding, found.file, context.caller)
        return msgspec.structs.replace(found, file=file)

    async def register_type(context: RequestContext, asked: RegisterDatasetType) -> RegisteredDatasetType:
        found = await repositories.writable(asked.repository, context.caller)
        node.query_datasets.refuse_put(found, asked.dataset_type.name)
        return RegisteredDatasetType(*await call(partial(found.registry.register_dataset_type, asked.dataset_type)))

    async def list_types(context: RequestContext, asked: ListDatasetTypes) -> DatasetTypeList:
        found = await repositories.readable_all(asked.repository, context.caller)
        queried = node.query_datasets.types_of(members_of(found), asked.patterns)
        names = {one.name for one in queried}
        # The registry knows nothing of these, and says so of a name that it does not know.
        patterns = tuple(one for one in asked.patterns if one not in names)
        stored = []
        if patterns or not asked.patterns:
            stored = await call(partial(found.registry.list_dataset_types, patterns))
        return DatasetTypeList((*(one for one in stored if one.name not in names), *queried))

    async def insert_records(context: RequestContext, asked: InsertDimensionRecords) -> CountDone:
        found = await repositories.writable(asked.repository, context.caller, unfinished=True)
        insert = partial(
            found.registry.insert_dimension_records,
            asked.records,
            skip_existing=asked.skip_existing,
            compare=asked.compare,
            replace=asked.replace,
        )
        return CountDone(await call(insert))

    async def associate(context: RequestContext, asked: Associate) -> CountDone:
        found = await repositories.writable(asked.repository, context.caller)
        return CountDone(await call(partial(found.registry.associate, asked.collection, asked.ids)))

    async def disassociate(context: RequestContext, asked: Disassociate) -> CountDone:
        found = await repositories.writable(asked.repository, context.caller)
        return CountDone(await call(partial(found.registry.disassociate, asked.collection, asked.ids)))

    async def certify(context: RequestContext, asked: Certify) -> CountDone:
        found = await repositories.writable(asked.repository, context.caller)
        return CountDone(await call(partial(found.registry.certify, asked.collection, asked.ids, asked.timespan)))

    async def decertify(context: RequestContext, asked: Decertify) -> CountDone:
        found = await repositories.writable(asked.repository, context.caller)
        clear = partial(found.registry.decertify, asked.collection, asked.dataset_type, asked.timespan, asked.data_ids)
        return CountDone(await call(clear))

    async def find(context: RequestContext, asked: FindDataset) -> FoundDataset:
        found = await repositories.readable_all(asked.repository, context.caller)
        queried = await resolve_query(node, found, asked)
        if queried is not None:
            return FoundDataset(queried[1], None)
        return await shown(context, found, await call(partial(found.registry.find_dataset, asked)))

    async def get(context: RequestContext, asked: GetDataset) -> FoundDataset:
        found = await repositories.readable_all(asked.repository, context.caller)
        get_dataset = partial(found.registry.get_dataset, asked.id, dimension_records=asked.dimension_records)
        return await shown(context, found, await call(get_dataset))

    async def expand(context: RequestContext, asked: ExpandDataId) -> ExpandedDataId:
        found = await repositories.readable_first(asked.repository, context.caller)
        return ExpandedDataId(
            *await call(partial(found.registry.expand_data_id, asked.dataset_type, asked.data_id, asked.run))
        )

    async def describe_files(context: RequestContext, asked: DescribeFiles) -> FileTable:
        found = await repositories.readable(asked.repository, context.caller)
        table = await call(partial(found.registry.describe_files, asked.dataset_type, _ids(asked.ids)))
        paths = await shown_paths(repositories, found, table.paths, context.caller)
        return msgspec.structs.replace(table, paths=paths)

    async def describe_members(context: RequestContext, asked: DescribeMembers) -> MemberTable:
        found = await repositories.readable(asked.repository, context.caller)
        ids = _ids(asked.ids)
        return await call(partial(found.registry.describe_members, asked.dataset_type, ids, asked.collections))

    async def query_datasets(context: RequestContext, asked: QueryDatasets) -> None:
        found = await repositories.readable_all(asked.repository, context.caller)
        await stream(context, node.streams, repositories.queries, partial(found.registry.query_datasets, asked))

    async def count_datasets(context: RequestContext, asked: CountDatasets) -> DatasetCounts:
        found = await repositories.readable_all(asked.query.repository, context.caller)
        return DatasetCounts(await call(partial(found.registry.count_datasets, asked.query)))

    async def get_dimensions(context: RequestContext, asked: GetDimensions) -> Dimensions:
        found = await repositories.readable_all(asked.repository, context.caller)
        return Dimensions(dict(found.registry.universe.config))

    async def query_data_ids(context: RequestContext, asked: QueryDataIds) -> None:
        found = await repositories.readable_all(asked.repository, context.caller)
        await stream(context, node.streams, repositories.queries, partial(found.registry.query_data_ids, asked))

    async def query_records(context: RequestContext, asked: QueryDimensionRecords) -> None:
        found = await repositories.readable_all(asked.repository, context.caller)
        await stream(
            context, node.streams, repositories.queries, partial(found.registry.query_dimension_records, asked)
        )

    dispatcher.register(RegisterDatasetType, register_type)
    dispatcher.register(ListDatasetTypes, list_types)
    dispatcher.register(InsertDimensionRecords, insert_records)
    dispatcher.register(Associate, associate)
    dispatcher.register(Disassociate, disassociate)
    dispatcher.register(Certify, certify)
    dispatcher.register(Decertify, decertify)
    dispatcher.register(ExpandDataId, expand)
    dispatcher.register(FindDataset, find)
    dispatcher.register(GetDataset, get)
    dispatcher.register(DescribeFiles, describe_files)
    dispatcher.register(DescribeMembers, describe_members)
    dispatcher.register(QueryDatasets, query_datasets)
    dispatcher.register(CountDatasets, count_datasets)
    dispatcher.register(GetDimensions, get_dimensions)
    dispatcher.register(QueryDataIds, query_data_ids)
    dispatcher.register(QueryDimensionRecords, query_records)


def _ids(packed: bytes) -> list[bytes]:
    if len(packed) % 16 or len(packed) > 16 * MAX_DESCRIBED:
        raise InvalidRequestError(f"one request describes up to {MAX_DESCRIBED} ids of 16 bytes")
    return [packed[begin : begin + 16] for begin in range(0, len(packed), 16)]
