"""``pantry delete``."""

from __future__ import annotations

from collections import Counter

import click

from pantry.client.butler.deleting import Deleted
from pantry.client.cli.arguments import repository_argument
from pantry.client.cli.lazy import Command
from pantry.client.cli.output import ask_to_go_on, json_option, note, print_json, print_table, size
from pantry.client.cli.selection import Selection, selection_options
from pantry.client.cli.session import butler


@click.command(cls=Command)
@repository_argument
@selection_options
@click.option("--dry-run", is_flag=True, help="Show what would be deleted, and delete nothing.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.option("--missing-ok", is_flag=True, help="Pass over datasets that somebody else deletes meanwhile.")
@json_option
@click.pass_context
def delete(
    ctx: click.Context,
    repository: str,
    collections: tuple[str, ...],
    selection: Selection,
    dry_run: bool,
    yes: bool,
    missing_ok: bool,
    as_json: bool,
) -> None:
    """Delete the datasets that a query finds, or that a graph has, for good, with their files.

    They leave every collection. Who may write to the repository may delete. Files that were ingested in place stay.

    For example:
      pantry delete demo remarks -c u/you/first --dry-run
      pantry delete demo remarks -c u/you/first -w "exposure > 100"
    """
    source = butler(ctx, repository, collections)
    refs = selection.find(source).refs
    if not refs:
        if as_json:
            print_json({"datasets": 0, "files": 0, "size_bytes": 0, "kept": 0, "left": 0})
        note("no such datasets, so nothing is deleted")
        return
    planned = source.delete(refs, missing_ok=missing_ok, dry_run=True)
    if not as_json:
        counts = Counter((ref.dataset_type.name, ref.run) for ref in refs)
        print_table(("type", "run", "datasets"), [(*key, n) for key, n in sorted(counts.items())], right=("datasets",))
    if not dry_run and not yes:
        ask_to_go_on(f"Delete {_what(planned)}, for good?")
    done = planned if dry_run else source.delete(refs, missing_ok=missing_ok)
    if as_json:
        print_json({name: value for name, value in done._asdict().items() if name != "missing"})
    note(f"{'would be deleted' if dry_run else 'deleted'}: {_what(done)}")
    if done.kept:
        note(f"{done.kept} files stay: they were ingested in place, or are those of other datasets too")
    if done.left:
        note(f"{done.left} files are not deleted yet, and the daemon goes on trying: {done.reason}")


def _what(found: Deleted) -> str:
    return f"{found.datasets} datasets, {found.files} files with {size(found.size_bytes)}"
