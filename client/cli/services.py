"""``pantry service``: catalogues and databases, asked by configured queries or statements of one's own."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import click

from pantry.client.cli.lazy import Command, CommandGroup
from pantry.client.cli.output import json_option, note, print_json, print_table
from pantry.client.cli.session import daemon
from pantry.client.cli.written_tables import chosen_format, table_options, write_table
from pantry.errors import InvalidRequestError, NotFoundError

if TYPE_CHECKING:
    from pantry.client.queries.service import QueryService

_SEPARATOR = ","


@click.group("service", cls=CommandGroup)
def service() -> None:
    """Ask catalogues and databases that the node's configuration names.

    For example:
      pantry service queries
      pantry service ask reference_stars region=53.1,-28.1,0.2 -o stars.ecsv
    """


@service.command("queries", cls=Command)
@click.argument("name", metavar="[SERVICE]", default="")
@json_option
@click.pass_context
def queries(ctx: click.Context, name: str, as_json: bool) -> None:
    """List the queries and selections that you may ask, of SERVICE or of all.

    For example:
      pantry service queries archive
    """
    found = _service(ctx, name).queries()
    if as_json:
        print_json(found)
        return
    rows = [
        (one.name, one.service, " ".join(f"{key}:{value.type}" for key, value in one.parameters.items()), one.doc)
        for one in found
    ]
    print_table(("query", "service", "parameters", "about"), rows)


@service.command("ask", cls=Command)
@click.argument("query")
@click.argument("values", metavar="[NAME=VALUE]...", nargs=-1)
@table_options
@click.pass_context
def ask(
    ctx: click.Context, query: str, values: tuple[str, ...], written_as: str | None, output: str | None, force: bool
) -> None:
    """Ask the configured QUERY or selection, with a value for each of its parameters.

    Lists, and the numbers of a point, circle or polygon in degrees, are separated by commas.

    For example:
      pantry service ask reference_stars region=53.1,-28.1,0.2 faintest=17.5
      pantry service ask visit_quality visit=2026112700012 --format ecsv
    """
    kind = chosen_format(written_as, output, force=force)
    asked = _service(ctx, "")
    table = ask_by_words(asked, query, values)
    write_table(table, kind, output)
    note(f"{table.num_rows} rows")


@service.command("run", cls=Command)
@click.argument("name", metavar="SERVICE")
@click.argument("statement")
@click.argument("values", metavar="[NAME:TYPE=VALUE]...", nargs=-1)
@click.option("--max-rows", type=click.IntRange(min=1), help="Most rows; one more is an error.")
@table_options
@click.pass_context
def run(
    ctx: click.Context,
    name: str,
    statement: str,
    values: tuple[str, ...],
    max_rows: int | None,
    written_as: str | None,
    output: str | None,
    force: bool,
) -> None:
    """Send SERVICE a STATEMENT of your own, '-' for one from standard input, if the configuration lets you.

    ':name' in it stands for a value, '@name' for a configured selection. A value is a number if it looks like one, else
    a text; or of the type that is named: int, float, text, bool, ints, floats, texts, point, circle, polygon.

    For example:
      pantry service run archive 'SELECT COUNT(*) AS n FROM refcat.stars WHERE mag < :m' m=12.5
      pantry service run consdb 'SELECT * FROM cdb.visit1 WHERE visit_id IN :ids' ids:ints=1,2,3 -o visits.parquet
    """
    kind = chosen_format(written_as, output, force=force)
    text = sys.stdin.read() if statement == "-" else statement
    table = _service(ctx, name).run(text, _values(values, {}), max_rows=max_rows, form="arrow")
    write_table(table, kind, output)
    note(f"{table.num_rows} rows")


def ask_by_words(asked: QueryService, query: str, words: tuple[str, ...]) -> Any:
    """Ask a configured query with values given as ``NAME=VALUE``; give a pyarrow Table."""
    found = next((one for one in asked.queries() if one.name == query), None)
    if found is None:
        raise NotFoundError(f"there is no query {query!r} that you may ask", hint="`pantry service queries` lists them")
    types = {name: one.type for name, one in found.parameters.items()}
    return asked.ask(query, form="arrow", **_values(words, types))


def _service(ctx: click.Context, name: str) -> QueryService:
    from pantry.client.queries.service import QueryService

    return QueryService(name, connection=daemon(ctx))


def _values(words: tuple[str, ...], types: Mapping[str, str]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for word in words:
        key, equals, text = word.partition("=")
        name, _, kind = key.partition(":")
        if not equals or not name:
            raise click.UsageError(f"{word!r} is no NAME=VALUE")
        if name in found:
            raise click.UsageError(f"{name} is given twice")
        found[name] = _value(name, kind or types.get(name, ""), text)
    return found


def _value(name: str, kind: str, text: str) -> Any:
    from pantry.model.queries import Circle, Point, Polygon

    try:
        match kind:
            case "":
                return _guessed(text)
            case "int":
                return int(text)
            case "float":
                return float(text)
            case "text" | "time":
                return text
            case "bool":
                return {"true": True, "false": False}[text.lower()]
            case "ints" | "floats" | "texts":
                one: Any = {"ints": int, "floats": float, "texts": str}[kind]
                return [one(part) for part in text.split(_SEPARATOR)]
            case "point" | "circle" | "polygon":
                numbers = [float(part) for part in text.split(_SEPARATOR)]
                if kind == "point":
                    ra, dec = numbers
                    return Point(ra=ra, dec=dec)
                if kind == "circle":
                    ra, dec, radius = numbers
                    return Circle(ra=ra, dec=dec, radius=radius)
                return Polygon(corners=tuple(zip(numbers[::2], numbers[1::2], strict=True)))
    except (ValueError, KeyError):
        raise InvalidRequestError(
            f"{name}: {text[:80]!r} is no {kind}",
            hint={
                "point": "write ra,dec in degrees",
                "circle": "write ra,dec,radius in degrees",
                "polygon": "write ra,dec,ra,dec,... in degrees, three corners or more",
                "bool": "write true or false",
            }.get(kind, "lists are separated by commas"),
        ) from None
    raise InvalidRequestError(
        f"{name}: values of the type {kind!r} cannot be given here",
        hint="a table is uploaded in Python: QueryService.ask",
    )


def _guessed(text: str) -> int | float | str:
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text
