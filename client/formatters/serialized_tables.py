"""Astropy tables as plain columns plus one YAML description, as astropy itself stores them in HDF5 and Parquet."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from astropy.table import QTable, Table, meta, serialize
from astropy.utils.data_info import serialize_context_as


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
    """Return the names of the columns of the described table."""
    header = meta.get_header_from_yaml(list(yaml_lines))
    mixins = header.get("meta", {}).get("__serialized_columns__", {})
    hidden = set().union(*(parts(value, name) for name, value in mixins.items()))
    return [name for name in stored if name not in hidden] + list(mixins)


def as_table(obj: object) -> Table | None:
    """Return astropy tables and structured arrays as a Table without copying columns; None for anything else."""
    import numpy as np

    if isinstance(obj, Table):
        return obj
    if isinstance(obj, np.ndarray) and obj.dtype.names:
        return Table(obj, copy=False)
    return None


def as_qtable(table: Table) -> QTable:
    """Return the table with units as quantities."""
    return table if isinstance(table, QTable) else QTable(table, copy=False)
