"""``pantry config``: what is configured, by which file, and whether it is in order (DMS-MWBT-REQ-0026)."""

from __future__ import annotations

import os
import subprocess
import sys

import click

from pantry.client.butler.forms import VARIABLE, default_file, user_formats
from pantry.client.cli.lazy import Command, CommandGroup
from pantry.client.cli.output import json_option, note, print_json, print_table
from pantry.client.cli.session import butler, daemon
from pantry.errors import ConfigError, PermissionDeniedError
from pantry.model.configuration import ActiveValue, flattened, origin_of, shown
from pantry.model.formats import NO_FORMATS
from pantry.model.loading import read_places
from pantry.wire.operations import GetConfiguration

DESCRIPTION = "pantry.yaml"


@click.group(cls=CommandGroup)
def config() -> None:
    """Show and check the active configuration.

    For example:
      pantry config dump
      pantry config check
    """


@config.command(cls=Command)
@click.argument("repositories", metavar="[REPOSITORY]...", nargs=-1)
@click.option("--all", "everything", is_flag=True, help="Defaults too.")
@json_option
@click.pass_context
def dump(ctx: click.Context, repositories: tuple[str, ...], everything: bool, as_json: bool) -> None:
    """Print each value that is configured, with the file and line, variable or option that set it; no secrets.

    The daemon's for its administrators, your own formats, the environment, and what REPOSITORY says of formats.

    For example:
      pantry config dump
      pantry config dump demo --all
    """
    found = [
        *(("daemon", one) for one in _of_daemon(ctx)),
        *(("environment", one) for one in _of_environment()),
        *(("own formats", one) for one in _of_user()),
        *((name, one) for name in repositories for one in _of_repository(ctx, name)),
    ]
    chosen = [(part, one) for part, one in found if everything or one.origin != "default"]
    if as_json:
        print_json([{"part": part, "name": one.name, "value": one.value, "origin": one.origin} for part, one in chosen])
        return
    print_table(
        ("part", "name", "value", "set by"), [(part, one.name, str(one.value), one.origin) for part, one in chosen]
    )
    if not everything:
        note(f"{len(found) - len(chosen)} values are defaults; --all shows them too")


def _of_daemon(ctx: click.Context) -> list[ActiveValue]:
    try:
        return list(daemon(ctx).call(GetConfiguration()).values)
    except PermissionDeniedError:
        note("the daemon's configuration is shown to its administrators only")
        return []


def _of_environment() -> list[ActiveValue]:
    names = sorted(name for name in os.environ if name.startswith("PANTRY_"))
    return [ActiveValue(name, shown(name, os.environ[name]), "environment") for name in names]


def _of_user() -> list[ActiveValue]:
    path = os.environ.get(VARIABLE, "") or default_file()
    if not os.path.exists(path):
        return []
    plain, lines = read_places(path)
    return [
        ActiveValue(name, shown(name, value), origin_of(name, lines, path, path)) for name, value in flattened(plain)
    ]


def _of_repository(ctx: click.Context, name: str) -> list[ActiveValue]:
    info = butler(ctx, name).info
    said = {"formats": info.formats, "templates": info.templates}
    usual = dict(flattened({"formats": NO_FORMATS}))
    found = []
    for place, value in flattened(said):
        is_usual = usual.get(place, ()) == value or value in ("", None, {}, ())
        found.append(ActiveValue(place, shown(place, value), "default" if is_usual else f"{DESCRIPTION} of {name}"))
    return found


@config.command(cls=Command)
@click.option("--config", "file", metavar="FILE", default="", help="The daemon's file, if it is not the usual one.")
@click.option("--system", is_flag=True, help="The file of a daemon for all users.")
@click.pass_context
def check(ctx: click.Context, file: str, system: bool) -> None:
    """Check the daemon's file of configuration and your own formats; what is wrong is told with file and line.

    For example:
      pantry config check --config /etc/pantry/pantryd.yaml --system
    """
    wrong = 0
    words = [*(["--config", file] if file else []), *(["--system"] if system else [])]
    done = subprocess.run(
        [sys.executable, "-m", "pantry.daemon.main", "--check", *words], capture_output=True, text=True, check=False
    )
    click.echo(f"daemon: {(done.stdout or done.stderr).strip().removeprefix('pantryd: error: ')}")
    wrong += done.returncode != 0
    try:
        formats = user_formats(None)
        source = os.environ.get(VARIABLE, "") or default_file()
        click.echo(f"own formats: {source}: in order" if formats != NO_FORMATS else "own formats: none")
    except ConfigError as exc:
        click.echo(f"own formats: {exc}")
        wrong += 1
    ctx.exit(1 if wrong else 0)
