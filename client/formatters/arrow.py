"""Between Arrow tables and those of astropy, pandas and numpy.

An astropy table keeps its description as astropy's own Parquet writer does (YAML under ``table_meta_yaml``), so
that ``Table.read(..., format="parquet")`` reads our files; the unit and the description of each column are in the
field's metadata too, where Gen3 and other Arrow programs look.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pyarrow as pa

from pantry.client.formatters.table_checks import Limits, check_columns, has_inner_nul
from pantry.errors import FormatterError

if TYPE_CHECKING:
    from astropy.table import Table

YAML_KEY = b"table_meta_yaml"
_LIMITS = Limits("Parquet", "biufUSMm", without=frozenset({"float128", "longdouble"}))


def to_arrow(obj: object) -> pa.Table | None:
    """Return an Arrow table of the same content; None if ``obj`` is not a table."""
    if isinstance(obj, pa.Table):
        return obj
    package = type(obj).__module__.partition(".")[0]
    if package == "pandas":
        import pandas as pd

        return pa.Table.from_pandas(obj) if isinstance(obj, pd.DataFrame) else None
    from pantry.client.formatters.serialized_tables import as_table

    table = as_table(obj)
    return None if table is None else _from_astropy(table)


def to_astropy(table: pa.Table) -> Table:
    """Return an astropy Table with units, descriptions, masks, mixin columns and metadata."""
    from astropy.table import Table

    from pantry.client.formatters.serialized_tables import restore

    plain = Table()
    for name, field in zip(table.column_names, table.schema, strict=True):
        plain[name] = to_column(name, table.column(name))
        for key, attribute in ((b"unit", "unit"), (b"description", "description")):
            value = (field.metadata or {}).get(key)
            if value:
                setattr(plain[name], attribute, value.decode("utf-8"))
    yaml = (table.schema.metadata or {}).get(YAML_KEY)
    return plain if yaml is None else restore(plain, yaml.decode("utf-8").split("\n"))


def to_numpy(table: pa.Table) -> Any:
    """Return a structured numpy array; missing values are refused, there is no place for them."""
    import numpy as np

    nulls = [name for name in table.column_names if table.column(name).null_count]
    if nulls:
        raise FormatterError(
            f"columns {', '.join(nulls)} have missing values, which a numpy array cannot hold",
            hint="read it as an astropy Table, a DataFrame or a pyarrow Table",
        )
    columns = {name: to_column(name, table.column(name)) for name in table.column_names}
    rows = np.empty(table.num_rows, dtype=[(name, c.dtype, c.shape[1:]) for name, c in columns.items()])
    for name, column in columns.items():
        rows[name] = column
    return rows


def _from_astropy(table: Table) -> pa.Table:
    from pantry.client.formatters.serialized_tables import describe

    plain, yaml = describe(table)
    check_columns(plain.itercols(), _LIMITS)
    fields: list[pa.Field] = []
    arrays: list[pa.Array] = []
    for column in plain.itercols():
        array = _from_column(column)
        metadata = {"unit": str(column.unit or ""), "description": column.description or ""}
        arrays.append(array)
        fields.append(pa.field(column.name, array.type, metadata={k: v for k, v in metadata.items() if v}))
    schema = pa.schema(fields, metadata={YAML_KEY: "\n".join(yaml).encode("utf-8")})
    return pa.Table.from_arrays(arrays, schema=schema)


def _from_column(column: Any) -> pa.Array:
    import numpy as np

    values = np.ma.getdata(np.ma.asarray(column)) if hasattr(column, "mask") else np.asarray(column)
    mask = np.ma.getmaskarray(column) if hasattr(column, "mask") else None
    if values.dtype.kind in "Mm" and mask is not None and mask.any():
        raise FormatterError(
            f"the column {column.name!r} has masked elements, which columns of {values.dtype} have not in Parquet",
            hint="use NaT for what is missing",
        )
    values = values.astype(values.dtype.newbyteorder("="), copy=False)  # FITS columns are big-endian
    if values.dtype.kind in "Mm":
        mask = np.isnat(values)  # of days, Arrow would take NaT for 1970
        if values.dtype == "M8[D]" and (abs(values[~mask].astype(np.int64)) >= 1 << 31).any():
            raise FormatterError(
                f"Parquet cannot hold the column {column.name!r}: its days need 32 bits", hint="use datetime64[s]"
            )
    flat, flat_mask = values.reshape(-1), None if mask is None else mask.reshape(-1)
    if flat.dtype.kind in "US" and has_inner_nul(flat):  # Arrow would end the text there
        inner = pa.array(flat.tolist(), mask=flat_mask)
    else:
        inner = pa.array(flat, mask=flat_mask)
    for size in reversed(values.shape[1:]):
        inner = pa.FixedSizeListArray.from_arrays(inner, size)
    return inner


def to_column(name: str, chunked: pa.ChunkedArray) -> Any:
    """Return a column as a numpy array, masked where values are missing."""
    import numpy as np

    array = chunked.combine_chunks()
    if isinstance(array, pa.ChunkedArray):
        array = pa.concat_arrays(array.chunks) if array.num_chunks else pa.array([], type=array.type)
    length, shape = len(array), []
    if pa.types.is_dictionary(array.type):
        array = array.dictionary_decode()
    while pa.types.is_fixed_size_list(array.type):
        shape.append(array.type.list_size)
        if array.null_count:
            raise FormatterError(f"column {name!r} has missing rows of arrays", hint="read it as a pyarrow Table")
        array = array.flatten()
    missing = array.null_count > 0
    mask = np.asarray(array.is_null()) if missing else None
    kind = array.type
    if pa.types.is_string(kind) or pa.types.is_large_string(kind):
        values = np.array(array.fill_null("").to_pylist(), dtype=str)
    elif pa.types.is_binary(kind) or pa.types.is_large_binary(kind) or pa.types.is_fixed_size_binary(kind):
        values = np.array([item or b"" for item in array.to_pylist()], dtype=bytes)
    elif pa.types.is_boolean(kind):
        values = np.asarray(array.fill_null(False) if missing else array, dtype=bool)
    elif pa.types.is_integer(kind) or pa.types.is_floating(kind):
        values = np.asarray(array.fill_null(0) if missing else array, dtype=kind.to_pandas_dtype())
    elif pa.types.is_temporal(kind) and not pa.types.is_time(kind):
        values = array.to_numpy(zero_copy_only=False)
        if mask is not None:
            values[mask], mask = np.array("NaT", values.dtype), None
    else:
        values = np.array(array.to_pylist(), dtype=object)
    if shape:
        values = values.reshape(length, *shape)
        mask = None if mask is None else mask.reshape(values.shape)
    return values if mask is None else np.ma.MaskedArray(values, mask=mask)
