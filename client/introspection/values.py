"""Asking the daemon for values of dimensions and of fields, within bounds."""

from __future__ import annotations

import time
from collections.abc import Iterator

from pantry.client.connection import Connection
from pantry.client.introspection.vocabulary import Field, Vocabulary
from pantry.model.data_id import DataIdValue
from pantry.wire.operations import QueryDataIds, QueryDatasets, QueryDimensionRecords, QueryMetadata
from pantry.wire.operations.registry import BindValue

ROWS = 500
"""Rows of one question."""
MAX_VALUES = 200
"""With so many different values nobody reads a list; then those that were found are given."""
MAX_ROUNDS = 6


def find_values(
    connection: Connection, repository: str, vocabulary: Vocabulary, field: Field, begun: str, deadline: float
) -> list[DataIdValue]:
    """Find the different values of a field, of text those that begin with ``begun``.

    Each question leaves out what is known, so that few are needed however many rows have the same value.

    Parameters
    ----------
    connection : Connection
        To ask over.
    repository : str
        Which.
    vocabulary : Vocabulary
        What the names mean.
    field : Field
        Of a dimension element or dataset type.
    begun : str
        As far as the value is written.
    deadline : float
        Of `time.monotonic`, after which no further question is asked.

    Returns
    -------
    list of int or str
        In order. Empty where not all that there are could be found and few were: a short list would look complete.
    """
    found: set[DataIdValue] = set()
    name = field.name if field.owner == field.name else f"{field.owner}.{field.name}"
    # What a pattern means something by is left open there; the caller looks at the beginning again.
    pattern = "".join("?" if char in "*?[]\\" else char for char in begun) + "*"
    for _ in range(MAX_ROUNDS):
        conditions, bind = [f"{name} IS NOT NULL"], dict[str, BindValue]()
        if field.kind == "string" and begun:
            conditions.append(f"GLOB({name}, :begun)")
            bind["begun"] = pattern
        if found:
            conditions.append(f"{name} NOT IN (:known)")
            bind["known"] = tuple(found)
        rows = 0
        for value in _ask(connection, repository, vocabulary, field, " AND ".join(conditions), bind):
            rows += 1
            if isinstance(value, int | str) and not isinstance(value, bool):
                found.add(value)
        if rows < ROWS or len(found) >= MAX_VALUES:
            return sorted(found, key=lambda value: (isinstance(value, str), value))
        if time.monotonic() > deadline:
            break
    return []


def _ask(
    connection: Connection,
    repository: str,
    vocabulary: Vocabulary,
    field: Field,
    where: str,
    bind: dict[str, BindValue],
) -> Iterator[object]:
    owner = field.owner
    if owner in vocabulary.universe.elements and field.name == owner:
        ids = QueryDataIds(repository=repository, dimensions=(owner,), where=where, bind=bind, limit=ROWS)
        for batch in connection.stream(ids):
            names = (*batch.required, *batch.implied)
            yield from batch.columns[names.index(owner)]
    elif owner in vocabulary.universe.elements:
        records = QueryDimensionRecords(repository=repository, element=owner, where=where, bind=bind, limit=ROWS)
        for answer in connection.stream(records):
            yield from (record.values.get(field.name) for record in answer.records)
    else:
        datasets = QueryDatasets(
            repository=repository,
            dataset_types=(owner,),
            collections=("*",),
            find_first=False,
            where=where,
            bind=bind,
            limit=ROWS,
        )
        for described in connection.stream(QueryMetadata(query=datasets, entries=(field.name,))):
            yield from described.columns.get(field.name, ())
