"""Plots of matplotlib, as PNG or PDF for people to look at."""

from __future__ import annotations

import io
from collections.abc import Mapping
from typing import Any, BinaryIO, ClassVar

from pantry.client.formatters.contract import (
    AS_USUAL,
    ReadSource,
    WriteRequest,
    check_request,
    reading,
    refuse_type,
    writing,
)
from pantry.client.formatters.plain import read_all
from pantry.errors import FormatterError
from pantry.model.builtin_formats import FigureOptions

_PNG, _PDF = b"\x89PNG\r\n\x1a\n", b"%PDF-"


class _FigureFormatter:
    """A figure of matplotlib goes in, its picture comes out: the drawing itself is not kept."""

    extension: ClassVar[str]
    begins: ClassVar[bytes]
    components: ClassVar[tuple[str, ...]] = ()
    metadata: ClassVar[dict[str, None]]  # so that the same figure always gives the same file

    def read(self, source: ReadSource, *, component: str | None, parameters: Mapping[str, object]) -> object:
        """Return the file's content."""
        check_request(source, component, parameters, components=self.components)
        with reading(source, self.extension[1:].upper()), source.open() as file:
            content = read_all(file)
            if not content.startswith(self.begins):
                raise ValueError("it begins otherwise")
            return content if component is None else _pixels(content)

    def write(self, obj: object, file: BinaryIO, request: WriteRequest = AS_USUAL) -> None:
        """Write a figure, or the figure that axes belong to; bytes of a finished file as they are."""
        options = request.options(FigureOptions)
        name = self.extension[1:].upper()
        if isinstance(obj, bytes | bytearray | memoryview):
            if bytes(obj[: len(self.begins)]) != self.begins:
                raise FormatterError(f"these bytes are no {name} file", hint="give a figure of matplotlib")
            file.write(obj)
            return
        figure = _figure(obj)
        if figure is None:
            raise refuse_type(obj, name, f"a figure or axes of matplotlib, bytes of a {name} file")
        with writing(obj, name):
            figure.savefig(file, format=self.extension[1:], dpi=options.dpi, metadata=self.metadata)


class PngFormatter(_FigureFormatter):
    """A figure as PNG, read as `bytes`. Component: ``pixels`` (array of uint8, rows from the top, RGBA)."""

    extension: ClassVar[str] = ".png"
    begins: ClassVar[bytes] = _PNG
    components: ClassVar[tuple[str, ...]] = ("pixels",)
    metadata: ClassVar[dict[str, None]] = {"Software": None}


class PdfFormatter(_FigureFormatter):
    """A figure as PDF, read as `bytes`."""

    extension: ClassVar[str] = ".pdf"
    begins: ClassVar[bytes] = _PDF
    metadata: ClassVar[dict[str, None]] = {"CreationDate": None}


def _figure(obj: Any) -> Any:
    names = {f"{kind.__module__}.{kind.__qualname__}" for kind in type(obj).__mro__}
    if "matplotlib.figure.FigureBase" in names:
        return obj
    return obj.get_figure() if "matplotlib.artist.Artist" in names else None


def _pixels(content: bytes) -> Any:
    try:
        from matplotlib import image
    except ImportError as exc:
        raise FormatterError("pixels of a PNG file need matplotlib", hint="install matplotlib") from exc
    import numpy as np

    return np.rint(np.asarray(image.imread(io.BytesIO(content), format="png")) * 255).astype(np.uint8)
