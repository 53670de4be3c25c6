"""``pantry repo remove``."""

from __future__ import annotations

import click

from pantry.client.cli.lazy import Command
from pantry.client.cli.output import ask_to_go_on, json_option, note, plain, print_json, size
from pantry.client.cli.session import daemon
from pantry.wire.operations import RemovedRepository, RemoveRepository


@click.command(cls=Command)
@click.argument("name")
@click.option(
    "--keep-files-of",
    multiple=True,
    metavar="OTHER",
    help="Keep each file that this repository refers to; may be repeated.",
)
@click.option("--dry-run", is_flag=True, help="Show what would be removed, and remove nothing.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@json_option
@click.pass_context
def remove(
    ctx: click.Context, name: str, keep_files_of: tuple[str, ...], dry_run: bool, yes: bool, as_json: bool
) -> None:
    """Remove the repository NAME for good: its files, its registry and its registration.

    Only its owner may. If something cannot be removed now, it is told; nobody can use the repository any more, and the
    same command goes on, and knows whose files were to be kept. Files that were ingested in place stay. Of an attached
    repository only the registration goes.

    For example:
      pantry repo remove demo --dry-run
      pantry repo remove demo --keep-files-of release
    """
    call = daemon(ctx).call
    asked = RemoveRepository(repository=name, keep_files_of=keep_files_of, dry_run=True)
    planned = call(asked)
    if not dry_run and not yes:
        ask_to_go_on(f"Remove {name!r} with {_what(planned)}, for good?")
    done = planned
    if not dry_run:
        done = call(RemoveRepository(repository=name, keep_files_of=keep_files_of))
    if as_json:
        print_json(plain(done))
    note(f"{'would be removed' if dry_run else 'removed'}: {_what(done)}")
    if done.kept:
        note(f"{done.kept} files stay: they were ingested in place, or others refer to them")
    if done.others:
        note(f"{done.others} files that Pantry did not remove are left in its root")
    if done.left:
        again = " ".join(["pantry repo remove", name, *(f"--keep-files-of {one}" for one in done.keep_files_of)])
        raise click.ClickException(f"{done.left} files are left: {done.reason}\n  hint: `{again}` goes on")


def _what(found: RemovedRepository) -> str:
    return f"{found.datasets} datasets, {found.files} files with {size(found.size_bytes)}"
