"""``pantry register-skymap``."""

from __future__ import annotations

from typing import IO, Any

import click

from pantry.client.cli.arguments import repository_argument
from pantry.client.cli.lazy import Command
from pantry.client.cli.output import note
from pantry.client.cli.progress import progress_bar
from pantry.client.cli.session import butler


@click.command("register-skymap", cls=Command)
@repository_argument
@click.argument("configuration", type=click.File(encoding="utf-8"), required=False)
@click.option("--name", default="", help="What to call it; by default as the configuration says.")
@click.option("--object", "place", metavar="MODULE:NAME", help="A sky map that a Python module has, or makes.")
@click.option("--tract", "tracts", multiple=True, type=int, help="Only this tract's records; may be repeated.")
@click.pass_context
def register_skymap(
    ctx: click.Context,
    repository: str,
    configuration: IO[str] | None,
    name: str,
    place: str | None,
    tracts: tuple[int, ...],
) -> None:
    """Add a tiling of the sky: its tracts and patches.

    CONFIGURATION is a YAML file with the kind of the tiling (rings, healpix, discrete) and its parameters.
    Running the command again completes what an interruption left out.

    For example:
      pantry register-skymap demo hsc_rings_v1.yaml
      pantry register-skymap demo --object my_survey.tiling:fields --name my_fields
    """
    from pantry.client.skymaps import NamedSkyMap, load_skymap

    if (configuration is None) == (place is None):
        raise click.UsageError("give a configuration, or --object")
    named = load_skymap(configuration.read(), source=configuration.name) if configuration else _imported(str(place))
    named = NamedSkyMap(name or named.name, named.skymap)
    target = butler(ctx, repository)
    with progress_bar(f"registering {named.name}", _records(named.skymap, tracts)) as progress:
        count = target.register_skymap(named, tracts=tracts or None, progress=progress)
    note(f"{named.name}: {len(named.skymap)} tracts, {count} records are new")


def _imported(place: str) -> Any:
    from importlib import import_module

    from pantry.client.skymaps import NamedSkyMap

    module, colon, attribute = place.partition(":")
    if not colon or not attribute:
        raise click.UsageError(f"--object is MODULE:NAME, not {place!r}")
    try:
        found = getattr(import_module(module), attribute)
    except (ImportError, AttributeError) as exc:
        raise click.UsageError(f"--object {place}: {exc}") from None
    if callable(found) and not hasattr(found, "__len__"):
        found = found()
    return found if isinstance(found, NamedSkyMap) else NamedSkyMap("", found)


def _records(skymap: Any, tracts: tuple[int, ...]) -> int:
    """Estimate the number of records, for the progress bar."""
    first = next(iter(skymap), None)
    if first is None:
        return 1
    columns, rows = first.getNumPatches() if hasattr(first, "getNumPatches") else (first.patches_x, first.patches_y)
    return int((len(tracts) or len(skymap)) * (1 + columns * rows) + 1)
