"""One table in a VOTable document (IVOA VOTable 1.4), read by any program of the Virtual Observatory."""

from __future__ import annotations

import io
import re
import warnings
from collections.abc import Mapping
from typing import Any, BinaryIO, ClassVar

import msgspec
import numpy as np
from astropy.io import votable
from astropy.io.votable import tree
from astropy.table import MaskedColumn, Table

from pantry.client.formatters.contract import (
    AS_USUAL,
    ReadSource,
    WriteRequest,
    check_request,
    reading,
    refuse_type,
    writing,
)
from pantry.client.formatters.serialized_tables import as_table, describe, restore, schema_of
from pantry.client.formatters.table_checks import ACCEPTED_TABLES
from pantry.client.formatters.table_parts import TABLE_PARAMETERS, part_of_table
from pantry.errors import FormatterError
from pantry.model.builtin_formats import VoTableOptions
from pantry.model.file_provenance import KEY, FileProvenance, from_json

_COMPONENTS = ("columns", "rowcount", "schema", "provenance")
_DESCRIBED = "pantry_table"
"""INFO with what VOTable has no place for: metadata, mixin columns, integers of other widths."""

_WIDER = {"i1": "i2", "u2": "i4", "u4": "i8", "f2": "f4"}
"""The standard's types for those that it has not; the YAML says what they were."""


_FOREIGN = re.compile("[^\\t\\n\x20-\ud7ff\ue000-\ufffd]")
"""What XML, or `unicodeChar` of the standard, has no place for."""


class _Description(msgspec.Struct, frozen=True, array_like=True):
    """astropy's YAML, and for each stored column its type and whether it has missing values."""

    yaml: list[str]
    types: dict[str, tuple[str, bool]]


class VoTableFormatter:
    """The first table of a document as `~astropy.table.Table`.

    Read parameters: those of all tables, see `table_parts`. Components: ``columns`` (names), ``rowcount``, ``schema``,
    ``provenance``. XML has no index, so the whole file is read.
    """

    extension: ClassVar[str] = ".vot"
    keeps_provenance: ClassVar[bool] = True

    def read(self, source: ReadSource, *, component: str | None, parameters: Mapping[str, object]) -> object:
        """Return the table or the selected part."""
        check_request(source, component, parameters, components=_COMPONENTS, known=TABLE_PARAMETERS)
        with reading(source, "VOTable"):
            with source.open() as file:
                content = file.read()
            _refuse_declarations(source, content)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", votable.exceptions.VOWarning)
                document = votable.parse(io.BytesIO(content), verify="ignore")
            infos = {info.name: str(info.value) for resource in document.resources for info in resource.infos}
            if component == "provenance":
                return from_json(infos[KEY], source.name) if KEY in infos else FileProvenance()
            table = document.get_first_table().to_table(use_names_over_ids=True)
            if _DESCRIBED in infos:
                described = msgspec.json.decode(infos[_DESCRIBED], type=_Description)
                table = _as_described(table, described.yaml, described.types)
            if component == "columns":
                return list(table.colnames)
            if component == "rowcount":
                return len(table)
            if component == "schema":
                return schema_of(table)
            return part_of_table(source, table, parameters)

    def write(self, obj: object, file: BinaryIO, request: WriteRequest = AS_USUAL) -> None:
        """Write any kind of table."""
        options = request.options(VoTableOptions)
        table = as_table(obj)
        if table is None:
            raise refuse_type(obj, "VOTable", ACCEPTED_TABLES)
        with writing(obj, "VOTable"):
            plain, yaml = describe(table)
            columns = plain.columns.values()
            bare = Table([_standard(column, options.serialization) for column in columns], copy=False)
            types = {one.name: (one.dtype.newbyteorder("=").str, isinstance(one, MaskedColumn)) for one in columns}
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", votable.exceptions.VOWarning)  # names that are no XML ids
                document = votable.from_table(bare)
            (resource,) = document.resources
            # As JSON: the attribute of an element has no line ends.
            said = {_DESCRIBED: msgspec.json.encode(_Description(yaml, types)).decode()}
            if request.provenance is not None:
                said[KEY] = request.provenance.to_json()
            for name, value in said.items():
                resource.infos.append(tree.Info(name=name, value=value))
            document.version = "1.4"
            document.to_xml(file, tabledata_format=options.serialization)


def _refuse_declarations(source: ReadSource, content: bytes) -> None:
    """Refuse a document type with its entities, which could grow without bound or name files; VOTable has none."""
    from defusedxml import DefusedXmlException, ElementTree

    try:
        for _ in ElementTree.iterparse(io.BytesIO(content), events=("start",), forbid_dtd=True):
            return  # declarations stand before the first element
    except DefusedXmlException:
        raise FormatterError(f"{source.name} declares a document type, which no VOTable needs: it is refused") from None


def _standard(column: Any, serialization: str) -> Any:
    """Return a column of a type that the standard has."""
    kind = column.dtype
    if kind.kind in "OMm":
        raise FormatterError(f"VOTable cannot hold the column {column.name!r} of {kind}")
    if kind.kind in "US":
        _check_texts(column, serialization)
        return column
    if kind.str[1:] == "u8" or kind.itemsize > (16 if kind.kind == "c" else 8):
        raise FormatterError(
            f"VOTable cannot hold the column {column.name!r}: it has no type for {kind.name}",
            hint="convert it, as to int64; or store the table as Parquet, HDF5 or FITS",
        )
    if kind.kind in "fc" and np.ma.is_masked(column) and np.isnan(np.ma.asarray(column).compressed()).any():
        raise FormatterError(
            f"VOTable cannot hold the column {column.name!r}: it has missing values and NaN, which are one there",
            hint="fill the missing values, or store the table as Parquet, HDF5 or ECSV",
        )
    wider = _WIDER.get(kind.str[1:])
    return column if wider is None else column.astype(wider)


def _check_texts(column: Any, serialization: str) -> None:
    texts = [str(one) if column.dtype.kind == "U" else one.decode("latin-1") for one in np.asarray(column).ravel()]
    if any(_FOREIGN.search(text) for text in texts):
        raise FormatterError(
            f"VOTable cannot hold the texts in the column {column.name!r}: they have control characters, or characters "
            "beyond those of two bytes in UTF-16"
        )
    if column.dtype.kind == "S" and not all(text.isascii() for text in texts):
        raise FormatterError(f"VOTable cannot hold the bytes in the column {column.name!r}: they are not ASCII")
    if serialization == "tabledata" and any(text != text.strip() for text in texts):
        raise FormatterError(
            f"the column {column.name!r} has blanks at the ends of texts, which elements of XML lose",
            hint="write it with the option serialization: binary2",
        )


def _as_described(table: Table, yaml: list[str], types: dict[str, tuple[str, bool]]) -> Table:
    plain = Table(table, copy=False)
    plain.meta.clear()
    for name, (kind, masked) in types.items():
        column = plain[name]
        if not masked and isinstance(column, MaskedColumn):
            # What is NaN in the file comes back as missing.
            column = column.filled(np.nan) if column.dtype.kind in "fc" else column.filled()
        plain[name] = column.astype(kind)
        plain[name].info.meta = None
    return restore(plain, yaml)
