"""Handlers of `pantry.wire.operations.queries`."""

from __future__ import annotations

import math
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import trio

from pantry.daemon.cache.hashing import hash_file
from pantry.daemon.node import Node
from pantry.daemon.queries.services import copy_table
from pantry.daemon.server.context import RequestContext
from pantry.daemon.server.dispatch import Dispatcher
from pantry.errors import InvalidRequestError
from pantry.wire.operations import ListQueries, QueryAnswer, QueryInfo, QueryList, RunQuery, ServiceInfo
from pantry.wire.operations.queries import MAX_TABLE_BYTES, MAX_TABLES


@asynccontextmanager
async def _tables(node: Node, context: RequestContext, asked: RunQuery) -> AsyncIterator[dict[str, tuple[int, str]]]:
    """Copy the uploaded tables, so that nobody can change them any more; give descriptors and hashes."""
    if len(context.fds) != len(asked.tables) or len(asked.tables) > MAX_TABLES:
        raise InvalidRequestError(f"each of at most {MAX_TABLES} tables comes with a descriptor")
    if len(set(asked.tables)) != len(asked.tables):
        raise InvalidRequestError("each table has a name of its own")
    tables: dict[str, tuple[int, str]] = {}
    cache = node.cache
    try:
        with cache.reserved(MAX_TABLE_BYTES * len(asked.tables)):
            for name, source in zip(asked.tables, context.fds, strict=True):
                with cache.disk.watched():
                    fd = os.open(cache.incoming, os.O_TMPFILE | os.O_RDWR | os.O_CLOEXEC, 0o600)
                tables[name] = (fd, "")
                size = await trio.to_thread.run_sync(copy_table, source, fd, MAX_TABLE_BYTES)
                tables[name] = (fd, await trio.to_thread.run_sync(hash_file, fd, size))
            yield tables
    finally:
        for fd, _ in tables.values():
            os.close(fd)


def register(dispatcher: Dispatcher, node: Node) -> None:
    """Register the handlers."""
    services = node.services

    async def list_queries(context: RequestContext, asked: ListQueries) -> QueryList:
        who, administers = context.caller, node.is_administrator(context.caller)
        names = services.all_readable(who, administers=administers)
        return QueryList(
            tuple(
                ServiceInfo(
                    name=name,
                    location=services.location(name, who),
                    statements=services.may_state(name, who, administers=administers),
                )
                for name in names
            ),
            tuple(
                QueryInfo(
                    name=one.name,
                    service=one.service,
                    parameters=one.parameters,
                    fixed=math.isinf(one.ttl_s),
                    ttl_s=0.0 if math.isinf(one.ttl_s) else one.ttl_s,
                    doc=one.doc,
                )
                for one in services.definitions.all()
                if one.service in names
            ),
        )

    async def run(context: RequestContext, asked: RunQuery) -> QueryAnswer:
        who, administers = context.caller, node.is_administrator(context.caller)
        if bool(asked.query) == (asked.question is not None):
            raise InvalidRequestError("name a configured query, or bring a question: one of both")
        async with _tables(node, context, asked) as tables:
            if asked.question is None:
                definition, service, answer = await services.run(
                    asked.query, asked.parameters, tables, who, administers=administers, cached_only=asked.cached_only
                )
                name = definition.name
            else:
                name = asked.service
                service, answer = await services.run_own(
                    name, asked.question, tables, who, administers=administers, cached_only=asked.cached_only
                )
        context.attach(answer.fd)
        return QueryAnswer(
            name=name,
            size_bytes=answer.size_bytes,
            answered_ns=answer.answered_ns,
            was_cached=answer.was_cached,
            origin=service.backend.location,
        )

    dispatcher.register(ListQueries, list_queries)
    dispatcher.register(RunQuery, run)
