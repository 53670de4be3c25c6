"""Tables as ECSV: text that any program reads, with units, descriptions and metadata in its header."""

from __future__ import annotations

import io
from collections.abc import Mapping
from typing import BinaryIO, ClassVar

from astropy.table import Table

from pantry.client.formatters.contract import (
    AS_USUAL,
    ReadSource,
    WriteRequest,
    check_request,
    column_names,
    reading,
    refuse_type,
    row_range,
    writing,
)
from pantry.client.formatters.serialized_tables import as_table
from pantry.model.builtin_formats import EcsvOptions
from pantry.model.file_provenance import KEY, FileProvenance, from_json


class EcsvFormatter:
    """One `~astropy.table.Table`.

    Read parameters: ``columns``, ``rows``. Components: ``columns`` (names), ``provenance``.
    """

    extension: ClassVar[str] = ".ecsv"
    keeps_provenance: ClassVar[bool] = True

    def read(self, source: ReadSource, *, component: str | None, parameters: Mapping[str, object]) -> object:
        """Return the table or the selected part; text has no index, so the whole file is read."""
        check_request(source, component, parameters, components=("columns", "provenance"), known=("columns", "rows"))
        with reading(source, "ECSV"):
            with source.open() as file:
                content = io.BytesIO(file.read())
            table = Table.read(content, format="ascii.ecsv")
            text = table.meta.pop(KEY, None)
            if component == "provenance":
                return FileProvenance() if text is None else from_json(str(text), source.name)
            if component == "columns":
                return list(table.colnames)
            names = column_names(source, parameters.get("columns"), table.colnames)
            start, stop = row_range(source, parameters.get("rows"), len(table))
            table = table if names is None else table[names]
            return table if parameters.get("rows") is None else table[start:stop]

    def write(self, obj: object, file: BinaryIO, request: WriteRequest = AS_USUAL) -> None:
        """Write an astropy Table or QTable, or a structured numpy array."""
        options = request.options(EcsvOptions)
        table = as_table(obj)
        if table is None:
            raise refuse_type(obj, "ECSV", "astropy Table and QTable, structured numpy arrays")
        if request.provenance is not None or KEY in table.meta:
            table = table.copy(copy_data=False)
            table.meta.pop(KEY, None)
            if request.provenance is not None:
                table.meta[KEY] = request.provenance.to_json()
        text = io.TextIOWrapper(file, encoding="utf-8", newline="\n")
        try:
            with writing(obj, "ECSV"):
                table.write(text, format="ascii.ecsv", delimiter=options.delimiter)
        finally:
            text.flush()
            text.detach()
