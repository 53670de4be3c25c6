"""What the formatter tests share: round trips through a file, and a file that counts what is read."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

from pantry.client.formatters import ReadSource, formatter_by_name
from pantry.errors import FormatterError


class CountingFile(io.RawIOBase):
    """A raw file whose reads are short now and then, as those of a remote reader are, and counted."""

    def __init__(self, path: Path, counter: list[int]) -> None:
        self._file = path.open("rb", buffering=0)
        self._counter = counter

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = 0) -> int:
        return self._file.seek(offset, whence)

    def readinto(self, buffer: Any) -> int:
        count = self._file.readinto(memoryview(buffer)[: 1 << 16])
        self._counter.append(count or 0)
        return count or 0

    def close(self) -> None:
        self._file.close()
        super().close()


def write(name: str, obj: object, path: Path) -> None:
    path.write_bytes(b"")
    with path.open("r+b") as file:
        formatter_by_name(name).write(obj, file)
        assert not file.closed


def is_stored(name: str, obj: object, path: Path) -> bool:
    """Write an object, or be told what to do in place of that."""
    try:
        write(name, obj, path)
    except FormatterError as error:
        if not error.hint:
            raise
        return False
    return True


def source_of(path: Path) -> ReadSource:
    return ReadSource(name=f"dataset {path.name}", size_bytes=path.stat().st_size, path=str(path))


def read(name: str, path: Path, component: str | None = None, /, **parameters: object) -> Any:
    return formatter_by_name(name).read(source_of(path), component=component, parameters=parameters)


def read_counting(name: str, path: Path, component: str | None = None, /, **parameters: object) -> tuple[Any, int]:
    """Read through a counting reader without a path, as from a partly cached object."""
    counter: list[int] = []
    source = ReadSource(
        name="partial",
        size_bytes=path.stat().st_size,
        opener=lambda: CountingFile(path, counter),  # type: ignore[arg-type, return-value]
    )
    found = formatter_by_name(name).read(source, component=component, parameters=parameters)
    return found, sum(counter)


def round_trip(name: str, obj: object, path: Path) -> Any:
    write(name, obj, path)
    return read(name, path)
