"""``python -m pantry.client.rendering FORMATTER MOST_BYTES``: a dataset's file from stdin as JSON on stdout.

The daemon starts it to publish datasets: so that it loads no format library itself, and so that a file made to do
harm meets a process that has nothing but this file. What JSON cannot say, NaN and infinities, becomes null.
"""

from __future__ import annotations

import base64
import math
import os
import resource
import sys
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

MEMORY_BYTES = 4 << 30
CPU_S = 100
MAX_CELLS = 20_000_000


def main(arguments: Sequence[str]) -> int:
    """Render stdin; the reason of a failure is one line on stderr, and the exit status 1."""
    from pantry.errors import FormatterError, PantryError

    formatter, most_bytes = arguments[0], int(arguments[1])
    resource.setrlimit(resource.RLIMIT_CPU, (CPU_S, CPU_S))
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    try:
        from pantry.client.formatters import ReadSource, formatter_by_name

        path = "/proc/self/fd/0"
        source = ReadSource(name="the dataset", size_bytes=os.stat(path).st_size, path=path)
        obj = formatter_by_name(formatter).read(source, component=None, parameters={})
        document = msgspec.json.encode(plain(obj))
        if len(document) > most_bytes:
            raise FormatterError(f"as JSON it has {len(document)} bytes, more than {most_bytes}")
    except PantryError as exc:
        print(exc.message.replace("\n", " "), file=sys.stderr)  # noqa: T201 - the process's answer
        return 1
    except (MemoryError, RecursionError) as exc:
        print(f"it needs too much memory ({type(exc).__name__})", file=sys.stderr)  # noqa: T201
        return 1
    with open(1, "wb", closefd=False) as out:
        out.write(document)
    return 0


def plain(obj: Any) -> Any:
    """Return what a formatter read as a document.

    Tables become ``{"rows": [{column: value}], "units": {column: unit}, "meta": {...}}``.

    Raises
    ------
    FormatterError
        If it is neither a document nor a table: images are published as files.
    """
    from pantry.client.formatters import convert
    from pantry.errors import FormatterError

    if isinstance(obj, Mapping | list | str | int | float | bool | None):
        return _finite(obj)
    try:
        table = convert(obj, "astropy.table.Table")
    except FormatterError:
        raise FormatterError(
            f"a {type(obj).__name__} is no document and no table, and can only be sent as a file (form: file)"
        ) from None
    if len(table) * len(table.colnames) > MAX_CELLS:
        raise FormatterError(f"a table of {len(table)} rows and {len(table.colnames)} columns is too large")
    columns = {name: _values(table[name]) for name in table.colnames}
    rows = [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]
    units = {name: str(unit) for name in table.colnames if (unit := getattr(table[name], "unit", None)) is not None}
    return {"rows": rows, "units": units, "meta": _finite(dict(table.meta))}


def _values(column: Any) -> list[Any]:
    if hasattr(column, "jd1"):
        # A time is written as people read it, in its own scale.
        unknown = [False] * len(column) if not column.masked else column.mask.tolist()
        return [None if masked else str(one) for one, masked in zip(column.isot, unknown, strict=True)]
    if not hasattr(column, "tolist"):
        raise _no_json(column)
    values = column.tolist()
    return [_finite(one) for one in values]


def _finite(value: Any) -> Any:
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(key): _finite(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(one) for one in value]
    if isinstance(value, bytes):
        try:
            return value.decode("ascii")
        except UnicodeDecodeError:
            return base64.b64encode(value).decode("ascii")
    if hasattr(value, "isoformat"):
        return value.isoformat()
    if hasattr(value, "tolist") and type(value.tolist()) is not type(value):
        return _finite(value.tolist())
    if type(value).__name__ == "MaskedConstant":
        return None
    raise _no_json(value)


def _no_json(value: Any) -> Exception:
    from pantry.errors import FormatterError

    return FormatterError(f"a {type(value).__name__} in it cannot be written as JSON")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
