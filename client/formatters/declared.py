"""Entries of metadata out of a file, without reading its data (DMS-MWBT-REQ-0091)."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any, BinaryIO

from pantry.errors import FormatterError
from pantry.model.metadata import MetadataEntry


def read_entries(formatter: str, file: BinaryIO, entries: Sequence[MetadataEntry], name: str) -> dict[str, Any]:
    """Read what a file says of declared entries.

    Parameters
    ----------
    formatter : str
        Name of the formatter that reads the file.
    file : BinaryIO
        The file, seekable.
    entries : sequence of MetadataEntry
        What the dataset type declares.
    name : str
        What messages call the file.

    Returns
    -------
    dict
        For each entry's name the value as the file has it; None for what it has not, and for formats
        that have no metadata.

    Raises
    ------
    FormatterError
        The file is not in this format.
    """
    read = _READERS.get(formatter)
    if read is None or not entries:
        return {entry.name: None for entry in entries}
    keys = [entry.key for entry in entries]
    file.seek(0)
    try:
        found = read(file, keys)
    except Exception as exc:
        raise FormatterError(f"{name}: its metadata cannot be read as {formatter}: {exc}") from exc
    return {entry.name: _plain(found.get(entry.key)) for entry in entries}


def _fits(file: BinaryIO, keys: Sequence[str]) -> Mapping[str, Any]:
    from astropy.io import fits

    found: dict[str, Any] = {}
    # What the primary header lacks, compressed images and tables have in the first extension.
    with fits.open(file, mode="readonly", memmap=False, lazy_load_hdus=True, disable_image_compression=True) as hdus:
        for number in range(2):
            if len(found) == len(keys):
                break
            try:
                header = hdus[number].header
            except IndexError:
                break
            for key in keys:
                if key not in found and key in header:
                    value = header[key]
                    found[key] = None if isinstance(value, fits.card.Undefined) else value
    return found


def _dotted(tree: object, keys: Sequence[str]) -> Mapping[str, Any]:
    found = {}
    for key in keys:
        part = tree
        for word in key.split("."):
            part = part.get(word) if isinstance(part, Mapping) else None
        found[key] = part
    return found


def _json(file: BinaryIO, keys: Sequence[str]) -> Mapping[str, Any]:
    import msgspec

    return _dotted(msgspec.json.decode(file.read()), keys)


def _yaml(file: BinaryIO, keys: Sequence[str]) -> Mapping[str, Any]:
    import yaml

    return _dotted(yaml.load(file.read(), Loader=yaml.CSafeLoader), keys)


def _table_meta(header: Mapping[str, Any], keys: Sequence[str]) -> Mapping[str, Any]:
    return _dotted(dict(header.get("meta") or {}), keys)


def _ecsv(file: BinaryIO, keys: Sequence[str]) -> Mapping[str, Any]:
    from pantry.client.formatters.ecsv import read_header

    return _table_meta(read_header(file), keys)


def _parquet(file: BinaryIO, keys: Sequence[str]) -> Mapping[str, Any]:
    import pyarrow.parquet as pq
    from astropy.table.meta import get_header_from_yaml

    stored = pq.read_schema(file).metadata or {}
    found = {key: stored[key.encode()].decode() for key in keys if key.encode() in stored}
    if described := stored.get(b"table_meta_yaml"):
        meta = _table_meta(get_header_from_yaml(described.decode().split("\n")), keys)
        found |= {key: value for key, value in meta.items() if value is not None}
    return found


def _hdf5(file: BinaryIO, keys: Sequence[str]) -> Mapping[str, Any]:
    import h5py

    found: dict[str, Any] = {}
    with h5py.File(file, "r") as root:
        for key in keys:
            path, at, attribute = key.rpartition("@")
            holder = root.get(path) if at else root
            found[key] = holder.attrs.get(attribute) if holder is not None else None
    return found


def _plain(value: object) -> object:
    if isinstance(value, bytes):
        return value.decode(errors="replace")
    item = getattr(value, "item", None)
    # Scalars of numpy; an array is no value, and the daemon's check says so.
    return item() if item is not None and getattr(value, "ndim", 1) == 0 else value


_READERS: dict[str, Callable[[BinaryIO, Sequence[str]], Mapping[str, Any]]] = {
    "fits_hdus": _fits,
    "fits_raw": _fits,
    "fits_image": _fits,
    "fits_table": _fits,
    "json": _json,
    "yaml": _yaml,
    "ecsv": _ecsv,
    "parquet": _parquet,
    "hdf5": _hdf5,
}


def read_local(formatter: str, path: str, entries: Sequence[MetadataEntry]) -> dict[str, Any]:
    """Read what a local file says of declared entries; see `read_entries`."""
    try:
        with open(os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK), "rb") as file:
            return read_entries(formatter, file, entries, path)
    except OSError as exc:
        raise FormatterError(f"{path}: its metadata cannot be read: {exc.strerror}") from None
