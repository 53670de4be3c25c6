"""Columns of answers, described as Pantry's Parquet formatter and astropy read them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import pyarrow as pa

TIME = "time"
"""Column of the instants: TAI, to the nanosecond."""

_YAML_KEY = b"table_meta_yaml"
_NAMES = {
    pa.float64(): "float64",
    pa.int64(): "int64",
    pa.bool_(): "bool",
    pa.string(): "string",
    pa.timestamp("ns"): "datetime64",
}


class Column(NamedTuple):
    """A column of an answer."""

    name: str
    type: pa.DataType
    unit: str = ""
    description: str = ""


def schema_of(columns: Sequence[Column], meta: Mapping[str, str | int | float]) -> pa.Schema:
    """Describe a table; if it has the column `TIME`, astropy makes a `~astropy.time.Time` in TAI of it."""
    fields = []
    for one in columns:
        metadata = {"unit": one.unit, "description": one.description}
        fields.append(pa.field(one.name, one.type, metadata={key: value for key, value in metadata.items() if value}))
    return pa.schema(fields, metadata={_YAML_KEY: _described(columns, meta).encode()})


def _described(columns: Sequence[Column], meta: Mapping[str, str | int | float]) -> str:
    """Write the YAML that astropy's Parquet reader knows; JSON texts are YAML, whatever is in them."""
    lines = ["datatype:"]
    for one in columns:
        about = {"name": one.name, "datatype": _NAMES[one.type]}
        about |= {key: value for key, value in (("unit", one.unit), ("description", one.description)) if value}
        lines.append("- {" + ", ".join(f"{key}: {json.dumps(value)}" for key, value in about.items()) + "}")
    lines.append("meta:")
    lines += [f"  {json.dumps(key)}: {json.dumps(value)}" for key, value in meta.items()]
    if any(one.name == TIME and one.type == pa.timestamp("ns") for one in columns):
        lines += [
            "  __serialized_columns__:",
            "    time:",
            "      __class__: astropy.time.core.Time",
            "      format: datetime64",
            "      scale: tai",
            "      value: !astropy.table.SerializedColumn {name: time}",
        ]
    elif not meta:
        lines[-1] = "meta: {}"
    return "\n".join(lines)
