"""Astropy tables as plain columns plus one YAML description, as astropy itself stores them in HDF5 and Parquet."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from astropy.table import QTable, Table, meta, serialize
from astropy.utils.data_info import serialize_context_as

from pantry.errors import FormatterError


def describe(table: Table, *, context: str | None = None) -> tuple[Table, list[str]]:
    """Return a table of plain columns and the YAML lines that turn it back (units, descriptions, mixins, meta).

    The context is astropy's name of a format that cannot hold missing values (``hdf5``): there, a masked column
    becomes two, values and mask.
    """
    with serialize_context_as(context):
        plain = serialize.represent_mixins_as_columns(table, exclude_classes=())
    return plain, meta.get_yaml_from_table(plain)


def restore(plain: Table, yaml_lines: Iterable[str]) -> Table:
    """Return the table that `describe` was given, with the columns that ``plain`` still has.

    The YAML is read by astropy's safe loader, and only classes on astropy's own list are made.
    """
    header = meta.get_header_from_yaml(list(yaml_lines))
    described: dict[str, dict[str, Any]] = {column["name"]: column for column in header["datatype"]}
    for column in plain.columns.values():
        for name in ("description", "format", "unit", "meta"):
            if name in described.get(column.name, {}):
                setattr(column, name, described[column.name][name])
    if "meta" in header:
        plain.meta.update(header["meta"])
    mixins = plain.meta.get("__serialized_columns__")
    if mixins:
        kept = {name: value for name, value in mixins.items() if parts(value, name) <= set(plain.colnames)}
        plain.meta["__serialized_columns__"] = kept
        # astropy has no public name for this; its own readers call it so since version 3.
        return serialize._construct_mixins_from_columns(plain)
    return plain


def parts(serialized: object, name: str) -> set[str]:
    """Return the plain columns that one serialized column is made of."""
    if not isinstance(serialized, dict):
        return set()
    found = {serialized["name"]} if "name" in serialized else set()
    for key, value in serialized.items():
        if isinstance(value, dict):
            found |= parts(value, f"{name}.{key}")
    return found


def plain_columns(columns: Iterable[str], yaml_lines: Iterable[str]) -> list[str]:
    """Return the plain columns that are needed for these columns of the described table."""
    header = meta.get_header_from_yaml(list(yaml_lines))
    mixins = header.get("meta", {}).get("__serialized_columns__", {})
    needed: list[str] = []
    for name in columns:
        needed += sorted(parts(mixins[name], name)) if name in mixins else [name]
    return needed


def described_columns(stored: Iterable[str], yaml_lines: Iterable[str]) -> list[str]:
    """Return the names of the columns of the described table, those that are stored as several in their place."""
    header = meta.get_header_from_yaml(list(yaml_lines))
    return visible_columns(stored, header.get("meta", {}).get("__serialized_columns__", {}))


def columns_of_class(yaml_lines: Iterable[str], name: str) -> list[str]:
    """Return the columns of the described table that are objects of this class."""
    header = meta.get_header_from_yaml(list(yaml_lines))
    mixins = header.get("meta", {}).get("__serialized_columns__", {})
    return [column for column, value in mixins.items() if isinstance(value, dict) and value.get("__class__") == name]


def visible_columns(stored: Iterable[str], mixins: Mapping[str, Any]) -> list[str]:
    """Return the names of columns as users know them, from those that are stored and how some belong together."""
    owner = {part: name for name, value in mixins.items() for part in parts(value, name)}
    return list(dict.fromkeys(owner.get(name, name) for name in stored))


def as_table(obj: object) -> Table | None:
    """Return any kind of table as one of astropy, without copying columns if it can be; None for anything else."""
    import numpy as np

    if isinstance(obj, Table):
        return obj
    if isinstance(obj, np.ndarray) and obj.dtype.names:
        return Table(obj, copy=False)
    package = type(obj).__module__.partition(".")[0]
    if package == "pandas" and type(obj).__name__ == "DataFrame":
        return _of_frame(obj)
    if package == "pyarrow" and type(obj).__name__ == "Table":
        from pantry.client.formatters.arrow import to_astropy

        return to_astropy(obj)
    return None


def schema_of(table: Table) -> Any:
    """Return the names, types, units and descriptions of a table's columns, as Arrow has them."""
    from pantry.client.formatters.arrow import to_arrow

    arrow = to_arrow(table[:0])
    return None if arrow is None else arrow.schema


def _of_frame(frame: Any) -> Table:
    import pyarrow as pa

    from pantry.client.formatters.arrow import to_column
    from pantry.client.formatters.table_checks import frame_index_matters

    if frame_index_matters(frame):
        raise FormatterError(
            "the index of this DataFrame would be lost", hint="reset_index() makes it a column; Parquet keeps it"
        )
    table = Table()
    for name, series in frame.items():
        if not isinstance(name, str):
            raise FormatterError(f"the column {name!r} of this DataFrame has no text as its name", hint="rename it")
        # Not by way of Arrow, for which NaN is a missing value.
        plain = getattr(series.dtype, "kind", "O") in "biufcMm" and hasattr(series.dtype, "newbyteorder")
        table[name] = series.to_numpy() if plain else to_column(name, pa.chunked_array([pa.array(series)]))
    return table


def as_qtable(table: Table) -> QTable:
    """Return the table with units as quantities."""
    return table if isinstance(table, QTable) else QTable(table, copy=False)
