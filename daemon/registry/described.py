"""What is recorded of the files of many datasets, in one question; see `pantry.wire.operations.files`."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any
from uuid import UUID

import sqlalchemy as sa

from pantry.daemon.registry.declared import as_declared
from pantry.daemon.registry.definitions import Definitions, KnownType
from pantry.daemon.registry.engine import Database, Session, parameter
from pantry.daemon.registry.files import FILE_COLUMNS, file_columns, in_path_order, make_file, shown_name
from pantry.daemon.registry.schema import Schema
from pantry.daemon.registry.staged import stage_ids
from pantry.errors import CollectionTypeError, DatasetNotFoundError, InvalidRequestError
from pantry.model.collections import CollectionType
from pantry.model.datasets import StoredFile
from pantry.model.metadata import MetadataValue
from pantry.model.naming import directory_parts
from pantry.wire.operations.files import FileTable, MemberTable

Described = tuple[StoredFile | None, str, Sequence[MetadataValue]]
"""A file, its path in the mounted view, and the declared values of its dataset."""


def describe_files(
    database: Database,
    schema: Schema,
    session: Session,
    definitions: Definitions,
    known: KnownType,
    ids: Sequence[bytes],
) -> FileTable:
    """Describe the files of datasets of a type, in their order.

    Raises
    ------
    DatasetNotFoundError
        If one of them is not there, or is of another type.
    """
    if len(set(ids)) < len(ids):
        raise InvalidRequestError("a dataset is given twice")
    staged = stage_ids(session, schema, ids)
    dataset, table = schema.dataset, schema.data_ids(known.group_id, known.group)
    entries = known.definition.metadata
    declared = schema.declared(known.id, known.definition) if entries else None

    def build() -> sa.Select[Any]:
        source = sa.join(staged, dataset, dataset.c.uuid == staged.c.uuid).join(
            table, table.c.id == dataset.c.data_id_id
        )
        columns = [staged.c.position, dataset.c.run_id, *file_columns(dataset)]
        columns += [table.c[name] for name in known.group.required]
        if declared is not None:
            source = source.join(declared, declared.c.dataset_id == dataset.c.id, isouter=True)
            columns += [declared.c[entry.name] for entry in entries]
        return (
            sa.select(*columns)
            .select_from(source)
            .where(dataset.c.dataset_type_id == parameter("kind", sa.BigInteger))
            .order_by(staged.c.position)
        )

    rows = session.rows(database.prepare(("describe files", table, known.id), build), {"kind": known.id})
    if len(rows) < len(ids):
        there = {row[0] for row in rows}
        raise lacking(known, next(one for number, one in enumerate(ids) if number not in there))
    first, last = 2 + len(FILE_COLUMNS), 2 + len(FILE_COLUMNS) + len(known.group.required)
    return table_of(known, (_described(definitions, known, row, first, last) for row in rows))


def _described(definitions: Definitions, known: KnownType, row: Sequence[Any], first: int, last: int) -> Described:
    values = [
        as_declared(entry.type, value) for entry, value in zip(known.definition.metadata, row[last:], strict=True)
    ]
    file = make_file(row[2:first])
    if not file.path:
        return None, "", values
    ordered = in_path_order(known, row[first:last])
    parts = directory_parts(known.definition.name, ordered)
    run = definitions.collections_by_id[row[1]].name
    return file, "/".join([run, *parts, shown_name(known, ordered, file.path)]), values


def table_of(known: KnownType, described: Iterable[Described]) -> FileTable:
    """Put descriptions of files into columns."""
    answer = FileTable([], [], [], [], [], [], {entry.name: [] for entry in known.definition.metadata})
    for file, name, values in described:
        answer.paths.append(file.path if file is not None else "")
        answer.sizes.append(file.size_bytes if file is not None else 0)
        answer.hashes.append(file.hash if file is not None else "")
        answer.formatters.append(file.formatter if file is not None else "")
        answer.ingest_ns.append(file.ingest_ns if file is not None else 0)
        answer.names.append(name)
        for column, value in zip(answer.metadata.values(), values, strict=True):
            column.append(value)
    return answer


def lacking(known: KnownType, id_: bytes) -> DatasetNotFoundError:
    """Make the error for a dataset that is not there."""
    return DatasetNotFoundError(
        f"there is no {known.definition.name} with the id {UUID(bytes=id_)}", hint="it may have been deleted since"
    )


def describe_members(
    database: Database,
    schema: Schema,
    session: Session,
    definitions: Definitions,
    known: KnownType,
    ids: Sequence[bytes],
    collections: Sequence[str],
) -> MemberTable:
    """Tell which datasets of a type are in which TAGGED and CALIBRATION collections, and when they are valid."""
    answer = MemberTable([], [], [], [])
    asked = [definitions.collection(name) for name in collections]
    for one in asked:
        if one.type not in (CollectionType.TAGGED, CollectionType.CALIBRATION):
            raise CollectionTypeError(f"{one.name!r} is a {one.type} collection, which has no members of its own")
    holding = [one for one in asked if known.id in definitions.summary.get(one.id, ())]
    place = {one.id: number for number, one in enumerate(asked)}
    position = {id_: number for number, id_ in enumerate(ids)}
    staged, dataset = stage_ids(session, schema, ids), schema.dataset
    for kind in (CollectionType.TAGGED, CollectionType.CALIBRATION):
        keys = [one.id for one in holding if one.type is kind]
        if not keys:
            continue
        plain, timed = (keys, []) if kind is CollectionType.TAGGED else ([], keys)
        members = schema.members(known.id, known.group_id, known.group, plain, timed)
        source = sa.join(members.source, dataset, dataset.c.id == members.dataset)
        source = source.join(staged, staged.c.uuid == dataset.c.uuid)
        columns = (dataset.c.uuid, members.collection, *(members.span or ()))
        for row in session.rows(database.compile(sa.select(*columns).select_from(source))):
            answer.datasets.append(position[bytes(row[0])])
            answer.collections.append(place[row[1]])
            answer.begin_ns.append(row[2] if len(row) > 2 else None)
            answer.end_ns.append(row[3] if len(row) > 2 else None)
    return answer
