"""``pantry join-by-time``: a table with what was going on when its rows were observed."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Any, cast

import click

from pantry.client.association.request import METHODS, TimeJoin
from pantry.client.cli.arguments import collections_option, comma_separated, parse_data_id, repository_argument
from pantry.client.cli.completion import data_ids
from pantry.client.cli.lazy import Command
from pantry.client.cli.output import note
from pantry.client.cli.session import butler
from pantry.errors import ConflictError, FormatterError, InvalidRequestError, NotFoundError

if TYPE_CHECKING:
    from astropy.table import Table

    from pantry.client.butler import Butler

_SCALES = ("tai", "utc", "tt", "tdb")
_SUFFIXES = {".ecsv", ".csv", ".fits", ".fit", ".parq", ".parquet", ".h5", ".hdf5", ".vot", ".xml", ".txt"}
_FORMS = ("mjd", "jd", "unix", "tai_ns")


@click.command("join-by-time", cls=Command)
@repository_argument
@click.argument("table", metavar="TABLE")
@click.argument("data_id", metavar="[NAME=VALUE]...", nargs=-1, shell_complete=data_ids)
@click.option("--time", required=True, metavar="COLUMN", help="The table's column with the times of observation.")
@click.option("--scale", type=click.Choice(_SCALES), help="Of these times, unless the table or the name tells.")
@click.option("--form", type=click.Choice(_FORMS), help="Of times that are numbers; usually mjd.")
@click.option(
    "--with",
    "sources",
    multiple=True,
    required=True,
    metavar="SOURCE[:METHOD[:SECONDS]]",
    help="What to join: visit, exposure, or a dataset type of tables; how (within, nearest, previous, linear), and"
    " over how long a time at most. May be repeated.",
)
@click.option("--columns", multiple=True, metavar="NAMES", help="Only these, as visit.exposure_time; may be repeated.")
@click.option("--overlaps", type=click.Choice(["error", "first", "last"]), default="error", help="Of time spans.")
@click.option("-d", "--where-data-id", multiple=True, metavar="NAME=VALUE", help="Only records and datasets of these.")
@collections_option
@click.option(
    "-o", "--output", metavar="FILE", help="Write it here, in the format of the suffix; else ECSV is printed."
)
@click.option("--force", is_flag=True, help="Let --output replace a file.")
@click.pass_context
def join_by_time(
    ctx: click.Context,
    repository: str,
    table: str,
    data_id: tuple[str, ...],
    time: str,
    scale: str | None,
    form: str | None,
    sources: tuple[str, ...],
    columns: tuple[str, ...],
    overlaps: str,
    where_data_id: tuple[str, ...],
    collections: tuple[str, ...],
    output: str | None,
    force: bool,
) -> None:
    """Join TABLE, a file or a dataset type, with observations and other tables by the time of its rows.

    For example:
      pantry join-by-time dp1 curve.ecsv --time mjd --scale tai --with visit -o joined.parquet
      pantry join-by-time dp1 curve.fits --time midpointMjdTai --with visit --with weather:linear:300 -c efd
    """
    if output is not None and os.path.lexists(output) and not force:
        raise ConflictError(f"{output} exists already", hint="give --force to replace it, or another name")
    source = butler(ctx, repository, collections)
    wanted = comma_separated(columns)
    narrowed = parse_data_id(where_data_id)
    joins = [_join(one, wanted, overlaps, narrowed) for one in sources]
    if unknown := [one for one in wanted if one.partition(".")[0] not in {join.label for join in joins}]:
        raise click.UsageError(f"--columns {unknown[0]} is of nothing that is joined; write it as visit.exposure_time")
    given = _read(source, table, data_id)
    joined = source.join_by_time(given, joins, time=time, scale=cast(Any, scale), form=cast(Any, form))
    for told in joined.meta["joined_by_time"][-len(joins) :]:
        note(f"{told['name']}: {told['matched']} of {len(joined)} rows, {told['method']}")
    _write(joined, output)


def _join(text: str, wanted: tuple[str, ...], overlaps: str, data_id: dict[str, int | str]) -> TimeJoin:
    name, _, rest = text.partition(":")
    method, _, seconds = rest.partition(":")
    if method and method not in METHODS:
        raise click.UsageError(f"--with {text}: no method is called {method!r}; known: {', '.join(METHODS)}")
    try:
        tolerance = float(seconds) if seconds else None
    except ValueError:
        raise click.UsageError(f"--with {text}: {seconds!r} is no number of seconds") from None
    own = [one.partition(".")[2] for one in wanted if one.partition(".")[0] == name]
    return TimeJoin(
        source=name,
        columns=own or None,
        method=cast(Any, method or None),
        tolerance=tolerance,
        overlaps=cast(Any, overlaps),
        data_id=data_id,
    )


def _read(source: Butler, table: str, data_id: tuple[str, ...]) -> Any:
    if not os.path.isfile(table):
        if os.sep in table or os.path.splitext(table)[1] in _SUFFIXES:
            raise NotFoundError(f"there is no file {table}")
        return source.get(table, parse_data_id(data_id))
    if data_id:
        raise click.UsageError(f"{table} is a file, and has no data id")
    from astropy.table import Table

    try:
        return Table.read(table)
    except Exception as exc:
        reason = str(exc).partition("\n")[0]
        raise FormatterError(f"{table} cannot be read as a table: {reason}") from exc


def _write(joined: Table, output: str | None) -> None:
    from pantry.client.formatters import WriteRequest, formatter_by_name
    from pantry.client.staging import replaced_atomically
    from pantry.model.builtin_formats import BUILTIN_FORMATS

    if output is None:
        joined.write(sys.stdout, format="ascii.ecsv")
        return
    suffix = os.path.splitext(output)[1]
    named = [one for one in ("ecsv", "parquet", "fits_table") if suffix in BUILTIN_FORMATS[one].extensions]
    if not named:
        raise InvalidRequestError(
            f"no format of tables has the suffix {suffix!r}", hint="give it .ecsv, .parquet or .fits"
        )
    # Opened anew: a formatter also reads what it writes.
    with replaced_atomically(os.path.abspath(output)) as fd, open(f"/proc/self/fd/{fd}", "w+b") as file:
        formatter_by_name(named[0]).write(joined, file, WriteRequest(formatter=named[0]))
