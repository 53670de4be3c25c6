"""Tables of shared records when rows are left out of a batch, or put into another order."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import msgspec

from pantry.model.records import DimensionRecord
from pantry.wire.operations.registry import RecordTable


def chosen(tables: Sequence[RecordTable], rows: Sequence[int]) -> list[RecordTable]:
    """Give the tables of some rows of a batch, with only the records that these have."""
    found = []
    for table in tables:
        number: dict[int, int] = {-1: -1}
        records: list[DimensionRecord] = []
        for row in rows:
            old = table.rows[row]
            if old not in number:
                number[old] = len(records)
                records.append(table.records[old])
        kept = [number[table.rows[row]] for row in rows]
        found.append(msgspec.structs.replace(table, records=records, rows=kept))
    return found


def kept_records(tables: Sequence[RecordTable], keep: Callable[[bytes], bytes]) -> list[list[bytes]]:
    """Keep each record once, and give for each table what each row finds its record by; nothing for none."""
    encode = msgspec.msgpack.Encoder().encode
    found = []
    for table in tables:
        digests = [*[keep(encode(record)) for record in table.records], b""]
        found.append([digests[row] for row in table.rows])
    return found


def restored_records(
    shape: Sequence[RecordTable], digests: Sequence[Sequence[bytes]], kept: Callable[[bytes], bytes]
) -> list[RecordTable]:
    """Make tables like those of ``shape`` of what `kept_records` gave for some rows."""
    decode = msgspec.msgpack.Decoder(DimensionRecord).decode
    found = []
    for table, column in zip(shape, digests, strict=True):
        distinct = [digest for digest in dict.fromkeys(column) if digest]
        number = {digest: position for position, digest in enumerate(distinct)} | {b"": -1}
        records = [decode(kept(digest)) for digest in distinct]
        found.append(msgspec.structs.replace(table, records=records, rows=[number[one] for one in column]))
    return found
