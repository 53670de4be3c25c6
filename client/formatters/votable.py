"""One table in a VOTable document (IVOA VOTable 1.4), read by any program of the Virtual Observatory."""

from __future__ import annotations

import io
import json
import re
import warnings
from collections.abc import Mapping
from typing import Any, BinaryIO, ClassVar

import msgspec
import numpy as np
from astropy.io import votable
from astropy.io.votable import tree
from astropy.table import Column, MaskedColumn, Table
from astropy.units import UnitsWarning

from pantry.client.formatters.contract import (
    AS_USUAL,
    ReadSource,
    WriteRequest,
    check_request,
    reading,
    refuse_type,
    writing,
)
from pantry.client.formatters.serialized_tables import as_table, describe, restore
from pantry.client.formatters.table_checks import ACCEPTED_TABLES, check_printable, masked_exactly
from pantry.client.formatters.table_parts import TABLE_COMPONENTS, TABLE_PARAMETERS, part_or_component
from pantry.errors import FormatterError
from pantry.model.builtin_formats import VoTableOptions
from pantry.model.file_provenance import KEY, FileProvenance, from_json

_COMPONENTS = (*TABLE_COMPONENTS, "provenance")
_DESCRIBED = "pantry_table"
"""INFO with what VOTable has no place for: metadata, mixin columns, integers of other widths."""

_WIDER = {"i1": "i2", "u2": "i4", "u4": "i8", "f2": "f4"}
"""The standard's types for those that it has not; the YAML says what they were."""

_FOREIGN = re.compile("[^\\t\\n\x20-\ud7ff\ue000-\ufffd]")
"""What XML, or `unicodeChar` of the standard, has no place for."""

_SAID_OF_FIELDS = ("ucd", "utype", "xtype")
"""Metadata of columns that are attributes of a FIELD; others would change what its elements mean."""

_OTHER_FORMATS = "store the table as Parquet, HDF5 or FITS"


class _Description(msgspec.Struct, frozen=True, array_like=True):
    """astropy's YAML; for each stored column its type and whether it has missing values; and the shapes of arrays."""

    yaml: list[str]
    types: dict[str, tuple[str, bool]]
    shapes: dict[str, tuple[int, ...]] = {}


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
                table = _as_described(table, described)
            return part_or_component(source, table, component, parameters)

    def write(self, obj: object, file: BinaryIO, request: WriteRequest = AS_USUAL) -> None:
        """Write any kind of table."""
        options = request.options(VoTableOptions)
        table = as_table(obj)
        if table is None:
            raise refuse_type(obj, "VOTable", ACCEPTED_TABLES)
        with writing(obj, "VOTable"):
            plain, yaml = describe(masked_exactly(table, None, _has_null))
            columns = plain.columns.values()
            check_printable(plain.colnames, "VOTable")
            bare = Table([_standard(column, options.serialization) for column in columns], copy=False)
            described = _Description(
                yaml,
                {one.name: (one.dtype.newbyteorder("=").str, _is_masked(one)) for one in columns},
                {one.name: one.shape[1:] for one in columns if one.ndim > 1},
            )
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", votable.exceptions.VOWarning)  # names that are no XML ids
                document = votable.from_table(bare)
            (resource,) = document.resources
            for field, column in zip(resource.tables[0].fields, columns, strict=True):
                if column.ndim > 2:  # the axis that changes fastest stands first; astropy has them the other way round
                    field.arraysize = "x".join(map(str, reversed(column.shape[1:])))
            # As JSON in ASCII: the attribute of an element has no line ends, and XML not all characters.
            said = {_DESCRIBED: json.dumps(msgspec.to_builtins(described))}
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


def _is_masked(column: Any) -> bool:
    return isinstance(column, MaskedColumn) and bool(np.any(column.mask))


def _has_null(column: Any) -> bool:
    """Whether an element says that it is missing: NaN, or an integer that no other element has."""
    if column.ndim > 1 or column.dtype.kind not in "fiu":
        return False
    there = np.ma.asarray(column).compressed()
    if column.dtype.kind == "f":
        return not np.isnan(there).any()
    null = _null(column)
    return not (there == null).any()


def _null(column: Any) -> int:
    range_ = np.iinfo(column.dtype)
    return int(range_.min if column.dtype.kind == "i" else range_.max)


def _standard(column: Any, serialization: str) -> Any:
    """Return a column of a type that the standard has, with what the standard has a place for beside it."""
    kind = column.dtype
    if kind.kind not in "biufcUS" or kind.str[1:] in ("u8", "f16", "c32"):
        raise FormatterError(
            f"VOTable cannot hold the column {column.name!r}: it has no type for {kind.name}",
            hint=f"convert it, as to int64; or {_OTHER_FORMATS}",
        )
    if 0 in column.shape[1:]:
        raise FormatterError(
            f"VOTable cannot hold the column {column.name!r} of arrays without elements", hint="leave it out"
        )
    if kind.kind in "US":
        _check_texts(column, serialization)
    elif _is_masked(column) and not _has_null(column):
        raise FormatterError(
            f"VOTable cannot tell what is missing in the column {column.name!r}",
            hint=f"fill the missing values; or {_OTHER_FORMATS}",
        )
    meta = {key: column.meta[key] for key in _SAID_OF_FIELDS if isinstance(column.meta.get(key), str)}
    values, mask = np.ma.getdata(np.ma.asarray(column)), None
    if kind.kind in "iu" and _is_masked(column):
        mask = column.mask
        values = np.where(mask, np.array(_null(column), kind), values)
        meta["values"] = {"null": _null(column)}
    elif kind.kind == "f" and _is_masked(column):
        mask = column.mask
        values = np.where(mask, np.array(np.nan, kind), values)
    values = values.astype(_WIDER.get(kind.str[1:], kind), copy=False)
    said = {"name": column.name, "unit": _unit(column), "meta": meta, "copy": False}
    if column.description and not _FOREIGN.search(column.description):
        said["description"] = column.description
    return Column(values, **said) if mask is None else MaskedColumn(values, mask=mask, **said)


def _unit(column: Any) -> Any:
    """Return a unit that the standard of units in the Virtual Observatory knows; the description has any."""
    if column.unit is None:
        return None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", UnitsWarning)
            column.unit.to_string("vounit")
    except (ValueError, UnitsWarning):
        return None
    return column.unit


def _check_texts(column: Any, serialization: str) -> None:
    def refused(what: str, hint: str = _OTHER_FORMATS) -> FormatterError:
        return FormatterError(f"VOTable cannot hold the column {column.name!r}: {what}", hint=hint)

    if column.ndim > 1:
        raise refused("it has arrays of texts")
    texts = [str(one) if column.dtype.kind == "U" else one.decode("latin-1") for one in np.asarray(column)]
    if any(_FOREIGN.search(text) for text in texts):
        raise refused("its texts have control characters, or characters beyond those of two bytes in UTF-16")
    if column.dtype.kind == "S" and not all(text.isascii() for text in texts):
        raise refused("its bytes are not ASCII")
    if serialization == "tabledata" and any(text != text.strip() for text in texts):
        raise refused(
            "it has blanks at the ends of texts, which elements of XML lose",
            "write it with the option serialization: binary2",
        )


def _as_described(table: Table, described: _Description) -> Table:
    plain = Table()
    for (name, (kind, masked)), column in zip(described.types.items(), table.itercols(), strict=True):
        shape = (len(column), *described.shapes.get(name, column.shape[1:]))
        # What is NaN in the file is masked now, also where nothing was missing.
        values = np.ma.getdata(np.ma.asarray(column)).astype(kind).reshape(shape)
        mask = np.ma.getmaskarray(np.ma.asarray(column)).reshape(shape) if masked else None
        plain[name] = Column(values) if mask is None else MaskedColumn(values, mask=mask)
    return restore(plain, described.yaml)
