"""Formats that need no astronomy library: JSON, YAML, and a file as bytes."""

from __future__ import annotations

import io
import math
import shutil
from collections.abc import Mapping
from typing import Any, BinaryIO, ClassVar

import msgspec

from pantry.client.formatters.contract import (
    AS_USUAL,
    ReadSource,
    WriteRequest,
    check_request,
    reading,
    refuse_type,
    writing,
)
from pantry.errors import FormatterError
from pantry.model.builtin_formats import JsonOptions, WriteOptions

_PLAIN = "dict (with str keys), list, tuple, str, int, float, bool, None and numpy scalars"


def read_all(file: BinaryIO) -> bytes:
    """Return all of a file."""
    # An unbuffered read may be short for files over 2 GiB.
    return b"".join(iter(lambda: file.read(1 << 30), b""))


class BytesFormatter:
    """Any file, as `bytes`; writes bytes-like objects, or copies a binary file object piece by piece."""

    extension: ClassVar[str] = ".bin"

    def read(self, source: ReadSource, *, component: str | None, parameters: Mapping[str, object]) -> bytes:
        """Return the whole content."""
        check_request(source, component, parameters)
        with reading(source, "bytes"), source.open() as file:
            return read_all(file)

    def write(self, obj: object, file: BinaryIO, request: WriteRequest = AS_USUAL) -> None:
        """Write bytes-like objects, or all that a binary file object yields."""
        request.options(WriteOptions)
        if isinstance(obj, bytes | bytearray | memoryview):
            view = memoryview(obj).cast("B")
            while view:
                view = view[file.write(view) :]
        elif hasattr(obj, "read") and not isinstance(obj, io.TextIOBase):
            shutil.copyfileobj(obj, file, 1 << 20)
        else:
            raise refuse_type(obj, "bytes", "bytes, bytearray, memoryview, a binary file object")


class JsonFormatter:
    """JSON, with the order of keys kept; tuples come back as lists."""

    extension: ClassVar[str] = ".json"

    def read(self, source: ReadSource, *, component: str | None, parameters: Mapping[str, object]) -> object:
        """Return dicts, lists and scalars."""
        check_request(source, component, parameters)
        with reading(source, "JSON"):
            with source.open() as file:
                content = file.read()
            return msgspec.json.decode(content)

    def write(self, obj: object, file: BinaryIO, request: WriteRequest = AS_USUAL) -> None:
        """Write ``obj``; what JSON cannot hold without loss (NaN, bytes, other keys than str) is refused."""
        options = request.options(JsonOptions)
        with writing(obj, "JSON"):
            content = msgspec.json.encode(_plain(obj, "JSON", "$"))
        if options.indent:
            content = msgspec.json.format(content, indent=options.indent)
        file.write(content)


class YamlFormatter:
    """YAML by its safe subset, so that a file can never run code."""

    extension: ClassVar[str] = ".yaml"

    def read(self, source: ReadSource, *, component: str | None, parameters: Mapping[str, object]) -> object:
        """Return dicts, lists and scalars."""
        import yaml

        check_request(source, component, parameters)
        loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
        with reading(source, "YAML"), source.open() as file:
            # yaml would accept a str too and take it for content, never for a path.
            return yaml.load(file.read(), Loader=loader)  # noqa: S506 (it is a safe loader)

    def write(self, obj: object, file: BinaryIO, request: WriteRequest = AS_USUAL) -> None:
        """Write ``obj`` with its keys in their order."""
        request.options(WriteOptions)
        import yaml

        dumper: Any = getattr(yaml, "CSafeDumper", yaml.SafeDumper)
        with writing(obj, "YAML"):
            plain = _plain(obj, "YAML", "$")
            yaml.dump(plain, file, Dumper=dumper, sort_keys=False, allow_unicode=True, encoding="utf-8")


def _plain(obj: object, format_name: str, where: str) -> object:
    """Return ``obj`` with numpy scalars replaced; name the place of what the format cannot hold."""
    kind = type(obj)
    if obj is None or kind is str or kind is bool:
        return obj
    if kind is int:
        # Beyond 64 bits a JSON number comes back as a float (msgspec, and most other readers).
        if format_name == "JSON" and not -(1 << 63) <= obj < 1 << 64:  # type: ignore[operator]
            raise FormatterError(f"{where}: {obj} does not fit in 64 bits", hint="store it as a string")
        return obj
    if kind is float:
        if format_name == "JSON" and not math.isfinite(obj):  # type: ignore[arg-type]
            raise FormatterError(f"{where}: JSON has no {obj}", hint="store None instead, or use the YAML formatter")
        return obj
    if isinstance(obj, dict):
        for key in obj:
            if not isinstance(key, str) and (format_name == "JSON" or not isinstance(key, int | float | bool)):
                raise FormatterError(f"{where}: {format_name} cannot have {key!r} as a key", hint="use strings")
        return {key: _plain(value, format_name, f"{where}.{key}") for key, value in obj.items()}
    if isinstance(obj, list | tuple):
        return [_plain(value, format_name, f"{where}[{i}]") for i, value in enumerate(obj)]
    if kind.__module__ == "numpy" and getattr(obj, "shape", None) == () and hasattr(obj, "item"):
        scalar = obj.item()
        if type(scalar) in (bool, int, float, str):
            return _plain(scalar, format_name, where)
    if format_name == "YAML" and kind.__module__ == "datetime" and kind.__name__ in ("date", "datetime"):
        return obj
    error = refuse_type(obj, format_name, _PLAIN)
    error.message += f" (at {where})"
    raise error
