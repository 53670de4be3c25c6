"""How answers look: one JSON document for programs, tables, sizes and times for people."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, TypeVar
from uuid import UUID

import click
import msgspec

from pantry.model.data_id import DataCoordinate
from pantry.model.datasets import DatasetRef
from pantry.model.metadata import MetadataValue

F = TypeVar("F", bound=Callable[..., Any])

_UNITS = ("KiB", "MiB", "GiB", "TiB", "PiB", "EiB")


def json_option(command: F) -> F:
    """Add ``--json`` to a command."""
    return click.option("--json", "as_json", is_flag=True, help="Answer with one JSON document, for programs.")(command)


def print_json(answer: Any) -> None:
    """Print one JSON document."""
    encoded = msgspec.json.encode(plain(answer), enc_hook=str)
    click.echo(msgspec.json.format(encoded, indent=2).decode())


def plain(value: Any) -> Any:
    """Return a value in dicts and lists, with the names that array-like structs leave out on the wire."""
    if isinstance(value, DatasetRef):
        return {
            "id": str(value.id),
            "dataset_type": value.dataset_type.name,
            "data_id": value.data_id.mapping,
            **({"repository": value.repository} if value.repository else {}),
            "run": value.run,
        }
    if isinstance(value, DataCoordinate):
        return value.mapping
    if isinstance(value, msgspec.Struct):
        return {name: plain(getattr(value, name)) for name in value.__struct_fields__}
    if isinstance(value, Mapping):
        return {str(key): plain(one) for key, one in value.items()}
    if isinstance(value, list | tuple | set):
        return [plain(one) for one in value]
    if isinstance(value, bytes):
        return value.hex()
    return str(value) if isinstance(value, UUID) else value


def print_table(columns: Sequence[str], rows: Iterable[Sequence[Any]], *, right: Sequence[str] = ()) -> None:
    """Print a table: drawn on a terminal, else plain columns under their names.

    Parameters
    ----------
    columns : sequence of str
        Headings.
    rows : iterable of sequence
        One value per column; None is left empty.
    right : sequence of str
        Columns to align on the right.
    """
    texts = [["" if value is None else printable(str(value)) for value in row] for row in rows]
    if sys.stdout.isatty():
        from rich import box
        from rich.console import Console
        from rich.table import Table
        from rich.text import Text

        table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
        for name in columns:
            table.add_column(name, justify="right" if name in right else "left", overflow="fold")
        for row in texts:
            table.add_row(*(Text(value) for value in row))
        Console().print(table)
        return
    lines = [list(columns), *texts]
    widths = [max(len(line[number]) for line in lines) for number in range(len(columns))]
    for line in lines:
        cells = [
            value.rjust(width) if name in right else value.ljust(width)
            for name, value, width in zip(columns, line, widths, strict=True)
        ]
        click.echo("  ".join(cells).rstrip())


def print_datasets(
    refs: Iterable[DatasetRef], described: Mapping[DatasetRef, Mapping[str, MetadataValue]] | None = None
) -> None:
    """Print datasets, in a table for each type.

    Parameters
    ----------
    refs : iterable of DatasetRef
        The datasets.
    described : Mapping, optional
        For each of them more columns.
    """
    by_type: dict[str, list[DatasetRef]] = {}
    for ref in refs:
        by_type.setdefault(ref.dataset_type.name, []).append(ref)
    for number, group in enumerate(by_type.values()):
        if number:
            click.echo()
        first = group[0]
        where_from = ("repository",) if first.repository else ()
        more = described[first] if described else {}
        # An entry may be called as a column is.
        names = [f"{first.dataset_type.name}.{name}" for name in more]
        numbers = (
            {
                name: one
                for ref in group
                for name, one in zip(names, described[ref].values(), strict=True)
                if one is not None
            }
            if described
            else {}
        )
        print_table(
            ("type", *where_from, "run", "id", *first.data_id, *names),
            (
                (
                    ref.dataset_type.name,
                    *([ref.repository] * len(where_from)),
                    ref.run,
                    ref.id,
                    *ref.data_id.values(),
                    *(described[ref].values() if described else ()),
                )
                for ref in group
            ),
            right=[*numeric(first.data_id.mapping), *numeric(numbers)],
        )


def print_data_ids(data_ids: Sequence[DataCoordinate]) -> None:
    """Print data ids of the same dimensions in a table."""
    if data_ids:
        first = data_ids[0]
        print_table(tuple(first), (tuple(one.values()) for one in data_ids), right=numeric(first.mapping))


def numeric(values: Mapping[str, Any]) -> list[str]:
    """Names of the columns that are aligned on the right, by the values of a row."""
    return [name for name, value in values.items() if isinstance(value, int | float)]


def print_fields(fields: Mapping[str, Any]) -> None:
    """Print one thing as names and values."""
    width = max(map(len, fields))
    for name, value in fields.items():
        click.echo(f"{name.ljust(width)}  {printable(str(value))}".rstrip())


def printable(text: str) -> str:
    """Replace control characters, which could do harm to a terminal."""
    return (
        text
        if text.isprintable()
        else "".join(char if char.isprintable() else "\N{REPLACEMENT CHARACTER}" for char in text)
    )


def size(n_bytes: int) -> str:
    """Write a size for people: ``1.5 MiB``."""
    if abs(n_bytes) < 1024:
        return f"{n_bytes} B"
    value = float(n_bytes)
    for unit in _UNITS:
        value /= 1024
        if abs(value) < 1023.95 or unit == _UNITS[-1]:
            break
    return f"{value:.1f} {unit}"


def time(ns: int | None) -> str:
    """Write nanoseconds since 1970 UTC in ISO 8601, to the second."""
    if not ns:
        return ""
    return datetime.fromtimestamp(ns // 1_000_000_000, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def ask_to_go_on(question: str) -> None:
    """Ask before something that cannot be taken back; whatever is not a yes ends the command."""
    try:
        agreed = click.confirm(question, err=True)
    except click.Abort:  # the end of the input, or Ctrl-C
        click.echo(err=True)
        agreed = False
    if not agreed:
        note("nothing was done; --yes does not ask")
        raise click.Abort


def note(message: str) -> None:
    """Tell a person something on stderr, where it does not get into the answer."""
    click.echo(message, err=True)
