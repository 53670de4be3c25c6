"""HDF5: nested dicts of arrays and tables with attributes.

A dict is a group. ``{"flux": array}`` is a dataset, ``{"flux@unit": "Jy"}`` an attribute of it, ``{"@origin": "x"}`` an
attribute of the group itself. What is not a dict is stored as the dataset ``data`` and comes back as it was.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, BinaryIO, ClassVar

import h5py
import numpy as np

from pantry.client.formatters.contract import (
    AS_USUAL,
    ReadSource,
    WriteRequest,
    check_request,
    column_names,
    reading,
    refuse_type,
    writing,
)
from pantry.client.formatters.table_checks import ACCEPTED_TABLES, PLAIN_ARRAYS, Limits, check_columns, masked_exactly
from pantry.client.formatters.table_parts import TABLE_COMPONENTS, TABLE_PARAMETERS, Rows, chosen_rows, part_of_table
from pantry.errors import FormatterError
from pantry.model.builtin_formats import Hdf5Options
from pantry.model.file_provenance import KEY, FileProvenance, from_json

_ACCEPTED = f"dict (nested), plain numpy arrays, {ACCEPTED_TABLES}, str, bytes, int, float, bool"
_WHOLE = "pantry_object"
_TABLE_SUFFIX = ".__table_column_meta__"
_BYTES_COLUMNS = "pantry_bytes_columns"
"""Attribute with the names of a table's columns of bytes; others of this kind are text."""

_NAMES = "names are text without '/' and NUL; 'x@unit' is the attribute 'unit' of 'x', '@unit' of the group itself"
_COMPONENTS = ("paths", *TABLE_COMPONENTS, "provenance")
_BLOCK_BYTES = 1 << 22
"""Rows of tables are turned into columns and back in blocks of about this size."""

_OWN = (_WHOLE, _BYTES_COLUMNS, KEY)
_LIMITS = Limits("HDF5", "biufcUS", without=frozenset({"longdouble", "clongdouble", "complex256"}))


class Hdf5Formatter:
    """HDF5 files as dicts, arrays and astropy tables; the file itself is never handed out.

    Read parameters: ``path`` (a group or dataset, "a/b"); of one dataset ``rows`` (only the chunks that hold them are
    read), of one table also the others of `table_parts`. Components: ``paths`` (all datasets), ``provenance``; of one
    table ``columns`` (names), ``rowcount``, ``schema``.
    """

    extension: ClassVar[str] = ".h5"
    keeps_provenance: ClassVar[bool] = True

    def read(self, source: ReadSource, *, component: str | None, parameters: Mapping[str, object]) -> object:
        """Return the content of the file, or of ``path``."""
        check_request(source, component, parameters, components=_COMPONENTS, known=("path", *TABLE_PARAMETERS))
        with reading(source, "HDF5"), _opened(source) as root:
            if component == "provenance":
                return FileProvenance() if KEY not in root.attrs else from_json(str(root.attrs[KEY]), source.name)
            if component == "paths":
                return _paths(root)
            node = self._select(source, root, parameters.get("path"))
            if component is not None:
                return _told(source, node, component)
            asked = [name for name in TABLE_PARAMETERS if parameters.get(name) is not None]
            if not asked:
                return _read_group(node) if isinstance(node, h5py.Group) else _read_dataset(node)
            if isinstance(node, h5py.Group):
                raise FormatterError(
                    f"{source.name}: {asked[0]} need one dataset",
                    hint=f"give path, one of {', '.join(_paths(root)[:50])}",
                )
            return _read_part(source, node, parameters)

    def write(self, obj: object, file: BinaryIO, request: WriteRequest = AS_USUAL) -> None:
        """Write a nested dict, an array or a table."""
        options = request.options(Hdf5Options)
        with writing(obj, "HDF5"), h5py.File(file, "w", track_order=True) as root:
            if request.provenance is not None:
                root.attrs[KEY] = request.provenance.to_json()
            if isinstance(obj, dict):
                _write_group(root, obj, options)
            else:
                root.attrs[_WHOLE] = "data"
                _write_item(root, "data", obj, options)

    @staticmethod
    def _select(source: ReadSource, root: h5py.File, path: object) -> Any:
        if path is None:
            return root[root.attrs[_WHOLE]] if _WHOLE in root.attrs else root
        if not isinstance(path, str) or path not in root or path.endswith(_TABLE_SUFFIX):
            raise FormatterError(f"{source.name} has no {path!r}", hint=f"it has {', '.join(_paths(root)[:50])}")
        return root[path]


@contextmanager
def _opened(source: ReadSource) -> Iterator[h5py.File]:
    if source.path is not None:
        # The file never changes, so that there is nothing to lock.
        with h5py.File(source.path, "r", locking=False) as root:
            yield root
    else:
        with source.open() as file, h5py.File(file, "r") as root:
            yield root


def _paths(root: h5py.File) -> list[str]:
    found: list[str] = []
    root.visititems(
        lambda name, node: (
            found.append(name) if isinstance(node, h5py.Dataset) and not name.endswith(_TABLE_SUFFIX) else None
        )
    )
    return found


def _read_group(group: h5py.Group) -> dict[str, object]:
    found: dict[str, object] = {f"@{key}": _plain(value) for key, value in group.attrs.items() if key not in _OWN}
    for name, node in group.items():
        if name.endswith(_TABLE_SUFFIX):
            continue
        if isinstance(node, h5py.Group):
            found[name] = _read_group(node)
        else:
            found[name] = _read_dataset(node)
            found.update({f"{name}@{key}": _plain(value) for key, value in node.attrs.items() if key not in _OWN})
    return found


def _told(source: ReadSource, node: Any, component: str) -> object:
    """Return a component of one table, or the length of one dataset."""
    if component == "rowcount" and isinstance(node, h5py.Dataset) and node.shape:
        return int(node.shape[0])
    if isinstance(node, h5py.Group) or _description(node) is None:
        raise FormatterError(f"{source.name}: only tables have {component}", hint="give path, of a table in this file")
    empty: Any = _read_dataset(node, Rows(0, 0))
    if component == "columns":
        return list(empty.colnames)
    from pantry.client.formatters.serialized_tables import schema_of

    return schema_of(empty)


def _read_part(source: ReadSource, node: Any, parameters: Mapping[str, object]) -> object:
    if not node.shape:
        raise FormatterError(f"{source.name}: {node.name} is a single value and has no rows")
    if _description(node) is None:
        if parameters.get("columns") is not None:
            raise FormatterError(f"{source.name}: {node.name} is an array and has no columns")
        return _read_dataset(node, chosen_rows(source, parameters, node.shape[0]))
    if parameters.get("timespan") is not None:
        return part_of_table(source, _read_dataset(node), parameters)
    table: Any = _read_dataset(node, chosen_rows(source, parameters, node.shape[0]))
    names = column_names(source, parameters.get("columns"), table.colnames)
    return table if names is None else table[names]


def _description(dataset: Any) -> Any:
    return dataset.parent.get(dataset.name.rpartition("/")[2] + _TABLE_SUFFIX)


def _values(dataset: Any, rows: Rows | None) -> Any:
    if rows is None:
        return dataset[()]
    runs = rows.runs()
    parts = [dataset[start:stop] for start, stop in runs]
    return rows.cut_runs(parts[0] if len(parts) == 1 else np.concatenate(parts), runs)


def _columns(dataset: Any) -> dict[str, Any]:
    """Read all rows of a table, never more than some of them beside the columns that are made of them."""
    kind, length = dataset.dtype, len(dataset)
    columns = {name: np.empty((length, *kind[name].shape), kind[name].base) for name in kind.names}
    for start, stop in _blocks(length, kind.itemsize):
        block = dataset[start:stop]
        for name, column in columns.items():
            column[start:stop] = block[name]
    return columns


def _blocks(length: int, row_bytes: int) -> Iterator[tuple[int, int]]:
    step = max(_BLOCK_BYTES // max(row_bytes, 1), 1)
    return ((start, min(start + step, length)) for start in range(0, length, step))


def _read_dataset(dataset: Any, rows: Rows | None = None) -> object:
    described = _description(dataset)
    if described is not None:
        from astropy.table import Table

        from pantry.client.formatters.serialized_tables import restore

        raw = set(dataset.attrs.get(_BYTES_COLUMNS, ()))
        table = Table(_columns(dataset) if rows is None else _values(dataset, rows), copy=False)
        for column in list(table.itercols()):
            if column.dtype.kind == "S" and column.name not in raw:
                table[column.name] = np.char.decode(column, "utf-8")
        return restore(table, [line.decode("utf-8") for line in described[()]])
    text = h5py.check_string_dtype(dataset.dtype)
    if text is None or (text.length is not None and text.encoding == "ascii" and dataset.shape):
        return _plain(_values(dataset, rows))  # numpy's bytes are text of a fixed length
    values = _values(dataset.asstr(), rows)
    return values.astype(str) if isinstance(values, np.ndarray) else values


def _plain(value: object) -> object:
    if isinstance(value, np.void) and not value.dtype.names:
        return value.tobytes()
    return value.item() if isinstance(value, np.generic) and not isinstance(value, np.void) else value


def _write_group(group: h5py.Group, content: Mapping[object, object], options: Hdf5Options) -> None:
    attributes: list[tuple[str, str, object]] = []
    for key, value in content.items():
        unfit = not isinstance(key, str) or not key or "/" in key or "\0" in key or key == "."
        if unfit or key.endswith(_TABLE_SUFFIX) or key.rpartition("@")[2] in _OWN:  # type: ignore[attr-defined]
            raise FormatterError(f"{group.name}: {key!r} cannot be a name in HDF5", hint=_NAMES)
        name, is_attribute, attribute = key.partition("@")  # type: ignore[attr-defined]
        if is_attribute and not _is_attribute(value):
            raise FormatterError(
                f"{group.name}: the attribute {key!r} is a {type(value).__name__}",
                hint="attributes are text, numbers and plain arrays of numbers; make others a dataset",
            )
        if is_attribute:
            attributes.append((name, attribute, value))
        elif isinstance(value, Mapping):
            _write_group(group.create_group(name, track_order=True), value, options)
        else:
            _write_item(group, name, value, options)
    for name, attribute, value in attributes:
        if not attribute or (name and name not in group):
            raise FormatterError(
                f"{group.name}: attribute {attribute!r} is of {name!r}, which is not there", hint=_NAMES
            )
        (group[name] if name else group).attrs[attribute] = value


def _is_attribute(value: object) -> bool:
    if isinstance(value, np.ndarray):
        return type(value) in PLAIN_ARRAYS and value.dtype.kind in "biufc"
    return isinstance(value, str | bytes | int | float | complex | np.number | np.bool_)


def _write_item(group: h5py.Group, name: str, value: Any, options: Hdf5Options) -> None:
    if type(value) is np.ndarray and not value.ndim:
        value = value[()]
    if isinstance(value, bytes):
        group.create_dataset(name, data=np.void(value))
    elif isinstance(value, str | int | float | np.generic):
        group.create_dataset(name, data=value)
    elif type(value) in PLAIN_ARRAYS and value.dtype.kind in "biufcSV":
        group.create_dataset(name, data=value, **_chunks(value.shape, options))
    elif type(value) in PLAIN_ARRAYS and value.dtype.kind == "U":
        group.create_dataset(name, data=value.astype(object), dtype=h5py.string_dtype())
    else:
        from pantry.client.formatters.serialized_tables import as_table

        table = None if isinstance(value, np.ndarray) else as_table(value)
        if table is None:
            raise refuse_type(value, "HDF5", _ACCEPTED)
        _write_table(group, name, table, options)


def _chunks(shape: tuple[int, ...], options: Hdf5Options) -> dict[str, Any]:
    # Contiguous where it can be: a few rows read few bytes anyhow, without a chunk index.
    is_packed = options.compression != "none"
    if np.prod(shape, dtype=int) <= 1 << 16 or not (is_packed or options.checksums):
        return {}
    filters: dict[str, Any] = {"fletcher32": options.checksums, "chunks": True}
    if is_packed:
        filters |= {"compression": options.compression, "shuffle": options.shuffle}
    if options.compression == "gzip":
        filters["compression_opts"] = options.compression_level
    return filters


def _write_table(group: h5py.Group, name: str, value: Any, options: Hdf5Options) -> None:
    from pantry.client.formatters.serialized_tables import describe

    plain, yaml = describe(masked_exactly(value, "hdf5", lambda _: False), context="hdf5")
    plain = plain.copy(copy_data=False)  # it may be the caller's own
    check_columns(plain.itercols(), _LIMITS)
    if any("\0" in column for column in plain.colnames):
        raise FormatterError("HDF5 cannot have columns with a NUL in their name", hint="rename them")
    raw = [column.name for column in plain.itercols() if column.dtype.kind == "S"]
    for column in list(plain.itercols()):
        if column.dtype.kind == "U":
            plain[column.name] = np.char.encode(np.asarray(column), "utf-8")
    columns = {one: np.asarray(plain[one]) for one in plain.colnames}
    kind = np.dtype([(one, column.dtype, column.shape[1:]) for one, column in columns.items()])
    dataset = group.create_dataset(name, (len(plain),), kind, **_chunks((len(plain),), options))
    for start, stop in _blocks(len(plain), kind.itemsize):
        block = np.empty(stop - start, kind)
        for one, column in columns.items():
            block[one] = column[start:stop]
        dataset[start:stop] = block
    if raw:
        dataset.attrs[_BYTES_COLUMNS] = np.array(raw, dtype=h5py.string_dtype())
    lines = [line.encode("utf-8") for line in yaml]
    group.create_dataset(name + _TABLE_SUFFIX, data=np.array(lines))
