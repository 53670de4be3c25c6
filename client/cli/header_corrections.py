"""``pantry correct-headers`` and ``pantry header-corrections``."""

from __future__ import annotations

import contextlib
from typing import Any

import click

from pantry.client.cli.arguments import collections_option, repository_argument
from pantry.client.cli.completion import collection_names
from pantry.client.cli.lazy import Command
from pantry.client.cli.output import json_option, note, print_json, print_table
from pantry.client.cli.progress import progress_bar
from pantry.client.cli.session import butler


@click.command("correct-headers", cls=Command)
@repository_argument
@click.argument("instrument")
@click.argument("paths", nargs=-1, type=click.Path(exists=True))
@click.option("--observation", metavar="NAME", help="Which one, by the name that its file has: OBSID.")
@click.option("--exposure", type=int, metavar="ID", help="Which one, by its number in data ids.")
@click.option("--last-exposure", type=int, metavar="ID", help="All from --exposure to this one.")
@click.option("--detector", type=int, metavar="ID", help="Only this detector.")
@click.option(
    "--set", "cards", multiple=True, metavar="KEYWORD=VALUE", help="What is right; without a value there is none."
)
@click.option("--withdraw", is_flag=True, help="What was said of it before holds no more.")
@click.option("--why", default="", metavar="TEXT", help="The reason, for those who come later.")
@click.option("--run", metavar="NAME", shell_complete=collection_names, help="RUN collection for them.")
@json_option
@click.pass_context
def correct_headers(
    ctx: click.Context,
    repository: str,
    instrument: str,
    paths: tuple[str, ...],
    observation: str | None,
    exposure: int | None,
    last_exposure: int | None,
    detector: int | None,
    cards: tuple[str, ...],
    withdraw: bool,
    why: str,
    run: str | None,
    as_json: bool,
) -> None:
    """Say what is wrong in the headers of an INSTRUMENT's raw exposures.

    PATHS are files of corrections, or directories with such: YAML with 'corrections' at its top, or files of
    astro_metadata_translator, INSTRUMENT-OBSERVATION.yaml. Or say it of one exposure by the options. From then
    on reads and ingests have it right. No file of a raw is touched; earlier corrections stay in the repository.

    For example:
      pantry correct-headers demo LATISS corrections/ --why "shutter stayed closed"
      pantry correct-headers demo LATISS --observation AT_O_20240624_000106 --set IMGTYPE=OBJECT
    """
    single = {"observation": observation or "", "exposure": exposure, "last_exposure": last_exposure}
    is_single = observation is not None or exposure is not None
    if is_single == bool(paths):
        raise click.UsageError("give files of corrections, or one of --observation and --exposure")
    given: list[Any] = list(paths)
    if is_single:
        header = dict(_card(one) for one in cards)
        given = [{**single, "detector": detector, "header": header, "withdraw": withdraw}]
    elif cards or withdraw or detector is not None:
        raise click.UsageError("--set, --withdraw and --detector go with --observation or --exposure")
    ref = butler(ctx, repository).correct_headers(instrument, given, why=why, run=run)
    if as_json:
        print_json({"id": ref.id, "run": ref.run})
    else:
        note(f"corrections of {instrument} stored in {ref.run}")


@click.command("update-exposures", cls=Command)
@repository_argument
@click.option("--dataset-type", default="raw", show_default=True, metavar="NAME", help="Of the raws.")
@collections_option
@click.option("--where", "-w", default="", metavar="EXPRESSION", help="Only those for which this expression holds.")
@click.pass_context
def update_exposures(
    ctx: click.Context, repository: str, dataset_type: str, collections: tuple[str, ...], where: str
) -> None:
    """Bring records of exposures up to date with what the headers of their raws say today.

    After `pantry correct-headers` queries know it too. Of each exposure the header of one raw is read.

    For example:
      pantry update-exposures demo -c LATISS/raw/all -w "day_obs = 20240624 AND instrument = 'LATISS'"
    """
    count = butler(ctx, repository, collections).update_exposures(dataset_type, where=where, progress=progress_bar)
    note(f"{count} records of exposures changed in {repository}")


@click.command("header-corrections", cls=Command)
@repository_argument
@click.argument("instrument")
@click.option(
    "-c",
    "--collections",
    multiple=True,
    metavar="NAMES",
    shell_complete=collection_names,
    help="Where to look, that with the last word first; by default INSTRUMENT/corrections/*.",
)
@json_option
@click.pass_context
def header_corrections(
    ctx: click.Context, repository: str, instrument: str, collections: tuple[str, ...], as_json: bool
) -> None:
    """List what is said of the headers of an INSTRUMENT's raws, each over those before it.

    For example:
      pantry header-corrections demo LATISS
    """
    found = butler(ctx, repository).header_corrections(instrument, collections=collections or None)
    if as_json:
        print_json([{"applies_to": one.applies_to, "header": one.header, "withdraw": one.withdraw, "who": one.who,
                     "when": one.when, "why": one.why} for one in found])  # fmt: skip
        return
    rows = [(one.applies_to, ", ".join(_shown(one)), one.who, one.when.partition(".")[0], one.why) for one in found]
    print_table(("exposure", "correction", "who", "when", "why"), rows)


def _shown(one: Any) -> list[str]:
    said = [f"{keyword} = {value!r}" for keyword, value in one.header.items()]
    return ["withdrawn", *said] if one.withdraw else said


def _card(text: str) -> tuple[str, Any]:
    """Split KEYWORD=VALUE; numbers, true and false are such, all else is text."""
    keyword, equals, written = text.partition("=")
    if not equals or not keyword:
        raise click.UsageError(f"--set is KEYWORD=VALUE, not {text!r}")
    return keyword.strip(), _value(written)


def _value(written: str) -> Any:
    if written in ("", "true", "false"):
        return {"": None, "true": True, "false": False}[written]
    for kind in (int, float):
        # Not what Python alone takes for a number: 1_000, infinity.
        if written.strip("+-")[:1].isdigit() and "_" not in written:
            with contextlib.suppress(ValueError):
                return kind(written)
    return written
