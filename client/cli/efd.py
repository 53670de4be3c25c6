"""``pantry efd``: samples of the engineering facility database, and what it has."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from pantry.client.cli.arguments import parse_data_id
from pantry.client.cli.completion import efd_fields, efd_topics, repository_names
from pantry.client.cli.lazy import Command, CommandGroup
from pantry.client.cli.output import json_option, note, print_json, print_table
from pantry.client.cli.session import butler, daemon
from pantry.client.cli.written_tables import chosen_format, table_options, write_table

if TYPE_CHECKING:
    import pyarrow as pa

    from pantry.client.efd.facility import Efd


def service_option(command: Any) -> Any:
    """Add ``--service``."""
    return click.option(
        "--service", default="", metavar="NAME", help="Which EFD, if several are configured; by default 'efd'."
    )(command)


@click.group("efd", cls=CommandGroup)
def efd() -> None:
    """Ask the engineering facility database, base or transformed.

    For example:
      pantry efd query lsst.sal.ESS.temperature --begin 2025-04-15T02:00 --end 2025-04-15T02:10
    """


@efd.command("topics", cls=Command)
@click.argument("pattern", default="*")
@service_option
@json_option
@click.pass_context
def topics(ctx: click.Context, pattern: str, service: str, as_json: bool) -> None:
    """List topics whose names match PATTERN, or have it in them.

    For example:
      pantry efd topics ESS
    """
    found = _efd(ctx, "").topics(pattern, service=service)
    if as_json:
        print_json(found)
    else:
        for one in found:
            click.echo(one)


@efd.command("fields", cls=Command)
@click.argument("topic", shell_complete=efd_topics)
@service_option
@json_option
@click.pass_context
def fields(ctx: click.Context, topic: str, service: str, as_json: bool) -> None:
    """List the fields of TOPIC with their types, units and descriptions.

    For example:
      pantry efd fields lsst.sal.ESS.temperature
    """
    found = list(_efd(ctx, "").fields(topic, service=service).values())
    if as_json:
        print_json(found)
    else:
        rows = [(one.name, one.type, one.unit, one.description) for one in found]
        print_table(("field", "type", "unit", "description"), rows)


@efd.command("query", cls=Command)
@click.argument("topic", shell_complete=efd_topics)
@click.argument("data_id", metavar="[NAME=VALUE]...", nargs=-1)
@click.option(
    "-f",
    "--field",
    "wanted",
    multiple=True,
    metavar="NAME",
    shell_complete=efd_fields,
    help="Only this; may be repeated. 'name*' is an array.",
)
@click.option("--begin", metavar="TIME", help="Of the time span, TAI, such as 2025-04-15T02:00.")
@click.option("--end", metavar="TIME", help="Of the time span, TAI; itself not in it.")
@click.option("--before", metavar="TIME", help="In place of a span: the last sample at or before this, TAI.")
@click.option("-r", "--repository", default="", shell_complete=repository_names, help="That knows the observation.")
@click.option("--margin", type=float, default=0.0, metavar="SECONDS", help="Longer by this at both ends.")
@click.option("--resample", type=float, metavar="SECONDS", help="Means in bins of this length.")
@click.option("--index", type=int, help="Only samples with this salIndex.")
@service_option
@table_options
@click.pass_context
def query(
    ctx: click.Context,
    topic: str,
    data_id: tuple[str, ...],
    wanted: tuple[str, ...],
    begin: str | None,
    end: str | None,
    before: str | None,
    repository: str,
    margin: float,
    resample: float | None,
    index: int | None,
    service: str,
    written_as: str | None,
    output: str | None,
    force: bool,
) -> None:
    """Get samples of TOPIC in a time span, or during an observation.

    For example:
      pantry efd query lsst.sal.ESS.temperature --begin 2025-04-15T02:00 --end 2025-04-15T03:00 -o t.parquet
      pantry efd query lsst.sal.MTMount.azimuth -r dp1 instrument=LSSTCam visit=2025041500088 --resample 1
      pantry efd query lsst.sal.MTMount.logevent_summaryState --before 2025-04-15T02:00
    """
    kind = chosen_format(written_as, output, force=force)
    if (begin is None) != (end is None):
        raise click.UsageError("--begin and --end go together")
    known = _efd(ctx, repository)
    more: dict[str, Any] = {"index": index, "form": "arrow", "service": service, "data_id": parse_data_id(data_id)}
    if before is not None:
        if resample is not None or margin or begin is not None:
            raise click.UsageError("--before is one sample, without a span, a margin or bins")
        table = known.last(topic, wanted, before=before, **more)
    else:
        span = None if begin is None else (begin, end)
        table = known.query(topic, wanted, timespan=span, margin=margin, resample=resample, **more)
    write_table(table, kind, output, _with_times)
    note(f"{table.num_rows} rows")


def _efd(ctx: click.Context, repository: str) -> Efd:
    from pantry.client.efd.facility import Efd

    return butler(ctx, repository, ()).efd if repository else Efd(daemon(ctx))


def _with_times(table: pa.Table) -> Any:
    from pantry.client.efd.results import as_form

    made = as_form(table, "astropy")
    made["time"].format = "isot"
    made["time"].precision = 9
    return made
