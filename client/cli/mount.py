"""``pantry mount`` and ``pantry umount``: hand over to the mount program."""

from __future__ import annotations

import os
import sys
from typing import NoReturn

import click

from pantry.client.cli.completion import repository_names
from pantry.client.cli.lazy import Command
from pantry.client.cli.session import daemon


@click.command(cls=Command)
@click.argument("directory", type=click.Path())  # not looked at: what is mounted there may not answer
@click.option("--foreground", is_flag=True, help="Serve until Ctrl-C, with the log on stderr.")
@click.option("--allow-other", is_flag=True, help="Serve all users of this node, each with their own rights.")
@click.option("--no-passthrough", is_flag=True, help="Do not let the kernel read complete files by itself.")
@click.option(
    "-r",
    "--repository",
    multiple=True,
    metavar="NAME",
    shell_complete=repository_names,
    help="Show only this one; may be repeated.",
)
@click.pass_context
def mount(
    ctx: click.Context,
    directory: str,
    foreground: bool,
    allow_other: bool,
    no_passthrough: bool,
    repository: tuple[str, ...],
) -> None:
    """Show repositories as a directory of read-only files.

    Files are called <repository>/<collection>/<dataset type>/.../<file>, and never otherwise.

    For example:
      mkdir -p ~/pantry && pantry mount ~/pantry
      ds9 ~/pantry/demo/LSSTCam/raw/all/raw/LSSTCam/2025050100123/*.fits
    """
    # Says what is wrong with the daemon here, and starts one if need be.
    _ = daemon(ctx).welcome
    words = [directory, *(["--socket", ctx.obj] if ctx.obj else [])]
    for name in repository:
        words += ["--repository", name]
    if allow_other:
        words.append("--allow-other")
    if no_passthrough:
        words.append("--no-passthrough")
    if not foreground:
        words.append("--background")
    _become_mount_program(words)


@click.command(cls=Command)
@click.argument("directory", type=click.Path())
@click.option("--lazy", is_flag=True, help="Also when files in it are open; it goes when they are closed.")
def umount(directory: str, lazy: bool) -> None:
    """Undo a mount.

    For example:
      pantry umount ~/pantry
    """
    _become_mount_program([directory, "--unmount", *(["--lazy"] if lazy else [])])


def _become_mount_program(words: list[str]) -> NoReturn:
    sys.stdout.flush()
    sys.stderr.flush()
    os.execv(sys.executable, [sys.executable, "-m", "pantry.fusefs.main", *words])  # noqa: S606 - no shell is meant
