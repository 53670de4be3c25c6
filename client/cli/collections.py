"""``pantry collections``: list, register, chain."""

from __future__ import annotations

import click

from pantry.client.cli.arguments import repository_argument
from pantry.client.cli.completion import collection_names
from pantry.client.cli.lazy import CommandGroup
from pantry.client.cli.output import json_option, note, print_json, print_table
from pantry.client.cli.session import butler
from pantry.model.collections import CollectionType

_TYPES = click.Choice([kind.value for kind in CollectionType], case_sensitive=False)


@click.group(cls=CommandGroup)
def collections() -> None:
    """List, make and chain collections.

    A RUN holds datasets, a TAGGED collection selects some, a CHAINED one searches others in order, and a
    CALIBRATION one says for which times its members are valid.

    For example:
      pantry collections list demo
    """


@collections.command("list")
@repository_argument
@click.argument("patterns", metavar="[PATTERN]...", nargs=-1, shell_complete=collection_names)
@click.option("--type", "types", multiple=True, type=_TYPES, help="Only this kind; may be repeated.")
@click.option("--dataset-types", is_flag=True, help="Show what each has.")
@json_option
@click.pass_context
def list_collections(
    ctx: click.Context,
    repository: str,
    patterns: tuple[str, ...],
    types: tuple[str, ...],
    dataset_types: bool,
    as_json: bool,
) -> None:
    """List the collections whose names match a PATTERN; all if none is given.

    For example:
      pantry collections list demo 'u/*' --type RUN
    """
    found = butler(ctx, repository).collections.query_info(
        patterns, [CollectionType(kind.upper()) for kind in types], include_summary=dataset_types or as_json
    )
    if as_json:
        print_json(found)
        return
    summary = ("dataset types",) if dataset_types else ()
    print_table(
        ("name", "type", "children", *summary, "doc"),
        (
            (one.name, one.type, ", ".join(one.children), *(", ".join(one.dataset_types) for _ in summary), one.doc)
            for one in found
        ),
    )


@collections.command()
@repository_argument
@click.argument("name")
@click.option("--type", "kind", type=_TYPES, default="RUN", show_default=True, help="What kind.")
@click.option("--doc", default="", help="What it is for.")
@click.pass_context
def register(ctx: click.Context, repository: str, name: str, kind: str, doc: str) -> None:
    """Make a collection; nothing happens if it exists with this type.

    For example:
      pantry collections register demo u/ann/good-seeing --type TAGGED
    """
    butler(ctx, repository).collections.register(name, CollectionType(kind.upper()), doc)


@collections.command()
@repository_argument
@click.argument("name", shell_complete=collection_names)
@click.argument("children", nargs=-1, required=True, shell_complete=collection_names)
@click.pass_context
def chain(ctx: click.Context, repository: str, name: str, children: tuple[str, ...]) -> None:
    """Make NAME search CHILDREN, in this order; made if it does not exist.

    For example:
      pantry collections chain demo defaults u/ann/run1 LSSTCam/raw/all
    """
    found = butler(ctx, repository).collections
    found.register(name, CollectionType.CHAINED)
    found.redefine_chain(name, children)
    note(f"{name} searches {', '.join(children)}")
