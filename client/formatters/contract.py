"""What a formatter is, what it reads from, and how its failures are told."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import BinaryIO, Protocol, TypeVar, cast

import msgspec

from pantry.errors import FormatterError, PantryError
from pantry.model.file_provenance import FileProvenance
from pantry.model.formats import OptionValue, convert_options

Options = TypeVar("Options")


class OwnedFile(io.FileIO):
    """A file that closes itself, in silence, when its last user lets go of it.

    Lazily read objects (an ``HDUList``) keep their file open; who gets one from ``Butler.get`` should
    not have to know that.
    """

    def __del__(self) -> None:
        self.close()


class ReadSource(msgspec.Struct, frozen=True, kw_only=True):
    """The file of one dataset, as a formatter sees it.

    Attributes
    ----------
    name : str
        What messages call the dataset.
    size_bytes : int
        Size of the complete file.
    path : str or None
        A path that opens the complete file (``/proc/self/fd/N``); None if only parts of it are here.
    opener : callable or None
        Makes a new seekable binary file object that fetches what is read; needed where ``path`` is None.
    """

    name: str
    size_bytes: int
    path: str | None = None
    opener: Callable[[], BinaryIO] | None = None

    def open(self) -> BinaryIO:
        """Return a new seekable file object; its reads are never short before the end of the file."""
        if self.opener is None:
            if self.path is None:
                raise FormatterError(f"{self.name}: neither a path nor a reader was given")
            return cast(BinaryIO, OwnedFile(self.path))
        file = self.opener()
        if isinstance(file, io.RawIOBase):
            return io.BufferedReader(file)
        return file


class WriteRequest(msgspec.Struct, frozen=True, kw_only=True):
    """What a formatter is asked besides writing an object.

    Attributes
    ----------
    formatter : str
        Its name, for messages.
    given : Mapping
        Write options, as a configuration gives them.
    provenance : FileProvenance or None
        What the file shall say of where it comes from. A formatter that can keep it has the component
        ``provenance`` and says so by ``keeps_provenance = True``; for others it is stored beside.
    """

    formatter: str = "this format"
    given: Mapping[str, OptionValue] = {}
    provenance: FileProvenance | None = None

    def options(self, kind: type[Options]) -> Options:
        """Return the write options as a formatter declares them, or raise `ConfigError`."""
        return cast(Options, convert_options(self.formatter, kind, self.given))


AS_USUAL = WriteRequest()
"""A request without options."""


class Formatter(Protocol):
    """Reads and writes the files of one format; stateless, so one instance serves all threads.

    A formatter of another package that has write options says which in ``write_options``, a `msgspec.Struct` that
    forbids unknown fields, so that a configuration can be checked when it is loaded.
    """

    extension: str

    def read(self, source: ReadSource, *, component: str | None, parameters: Mapping[str, object]) -> object:
        """Return the object in ``source``, or one component, or the part that the parameters select."""
        ...

    def write(self, obj: object, file: BinaryIO, request: WriteRequest = AS_USUAL) -> None:
        """Write ``obj`` to an empty file that is open for reading and writing; leaves it open."""
        ...


def check_request(
    source: ReadSource,
    component: str | None,
    parameters: Mapping[str, object],
    *,
    components: Iterable[str] = (),
    known: Iterable[str] = (),
) -> None:
    """Refuse a component or a parameter that the formatter does not know."""
    components, known = tuple(components), tuple(known)
    if component is not None and component not in components:
        raise FormatterError(
            f"{source.name} has no component {component!r}",
            hint=f"components of this format: {', '.join(components) or 'none'}",
        )
    unknown = sorted(set(parameters) - set(known))
    if unknown:
        raise FormatterError(
            f"{source.name}: unknown read parameters {', '.join(unknown)}",
            hint=f"parameters of this format: {', '.join(known) or 'none'}",
        )


def refuse_type(obj: object, format_name: str, accepted: str) -> FormatterError:
    """Return the error for an object that the format cannot hold."""
    kind = type(obj)
    return FormatterError(
        f"{format_name} cannot hold a {kind.__module__}.{kind.__qualname__}",
        hint=f"accepted: {accepted}; or give the dataset type another storage class",
    )


@contextmanager
def reading(source: ReadSource, format_name: str) -> Iterator[None]:
    """Turn whatever a library raises about a broken file into `FormatterError`."""
    try:
        yield
    except (PantryError, MemoryError):
        raise
    except Exception as exc:
        cause = _pantry_cause(exc)
        if cause is not None:  # the file object failed (network, permission), not the format
            raise cause from None
        raise FormatterError(
            f"{source.name} cannot be read as {format_name}: {_first_line(exc)}",
            hint="the file is damaged or of another format; "
            "look at it with another program, or fetch it again: `pantry cache evict`",
        ) from exc


@contextmanager
def writing(obj: object, format_name: str) -> Iterator[None]:
    """Turn whatever a library raises about an object into `FormatterError`; a full disk stays an OSError."""
    try:
        yield
    except (PantryError, MemoryError, OSError):
        raise
    except Exception as exc:
        raise FormatterError(
            f"this {type(obj).__qualname__} cannot be written as {format_name}: {_first_line(exc)}",
            hint="change the object, or give the dataset type another storage class",
        ) from exc


def column_names(source: ReadSource, columns: object, available: Iterable[str]) -> list[str] | None:
    """Return the columns that the read parameter ``columns`` names, None for all."""
    if columns is None:
        return None
    names = [columns] if isinstance(columns, str) else list(cast("Iterable[str]", columns))
    available = list(available)
    missing = [name for name in names if name not in available]
    if missing:
        raise FormatterError(
            f"{source.name} has no columns {', '.join(map(repr, missing))}",
            hint=f"its columns: {', '.join(available[:50])}{' ...' if len(available) > 50 else ''}",
        )
    return names


def _first_line(exc: BaseException) -> str:
    return next(iter(str(exc).strip().splitlines()), "") or type(exc).__name__


def _pantry_cause(exc: BaseException | None) -> PantryError | None:
    while exc is not None:
        if isinstance(exc, PantryError):
            return exc
        exc = exc.__cause__ or exc.__context__
    return None
