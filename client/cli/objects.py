"""``pantry object``: plain objects of the prefixes that the daemon's configuration names."""

from __future__ import annotations

import itertools
import os
import shutil
import sys

import click

from pantry.client.cli.files import write_file
from pantry.client.cli.lazy import Command, CommandGroup
from pantry.client.cli.output import json_option, note, print_fields, print_json, print_table, size, time
from pantry.client.cli.session import daemon
from pantry.client.objects import ObjectPrefix
from pantry.wire.operations import ListPrefixes

_prefix_argument = click.argument("prefix", metavar="PREFIX")
_key_argument = click.argument("key", metavar="KEY")


@click.group("object", cls=CommandGroup)
def objects() -> None:
    """Read files of a storage by their keys, through the node's cache.

    For example:
      pantry object ls catalogs gaia/
    """


def _open(ctx: click.Context, name: str) -> ObjectPrefix:
    return ctx.with_resource(ObjectPrefix(name, socket=ctx.obj))


@objects.command("prefixes")
@json_option
@click.pass_context
def list_prefixes(ctx: click.Context, as_json: bool) -> None:
    """List the prefixes that you may read.

    For example:
      pantry object prefixes
    """
    found = daemon(ctx).call(ListPrefixes()).prefixes
    if as_json:
        print_json(list(found))
        return
    print_table(
        ("name", "location", "believed", "stale if error"),
        ((one.name, one.location, f"{one.ttl_s:g} s", f"{one.stale_if_error_s:g} s") for one in found),
    )


@objects.command("ls")
@_prefix_argument
@click.argument("begins", metavar="[BEGINNING]", default="")
@click.option("--limit", type=click.IntRange(min=1), metavar="N", help="At most so many.")
@json_option
@click.pass_context
def list_objects(ctx: click.Context, prefix: str, begins: str, limit: int | None, as_json: bool) -> None:
    """List the objects whose keys begin with BEGINNING, as the origin has them now.

    For example:
      pantry object ls catalogs gaia/dr3/
    """
    found = list(itertools.islice(_open(ctx, prefix).list(begins), limit))
    if as_json:
        print_json(found)
        return
    print_table(
        ("key", "size", "changed"),
        ((one.key, size(one.size_bytes), time(one.modified_ns)) for one in found),
        right=("size",),
    )


@objects.command("stat")
@_prefix_argument
@_key_argument
@json_option
@click.pass_context
def stat(ctx: click.Context, prefix: str, key: str, as_json: bool) -> None:
    """Show what is known of an object.

    For example:
      pantry object stat catalogs gaia/dr3/README.txt
    """
    found = _open(ctx, prefix).stat(key)
    if as_json:
        print_json(found)
        return
    print_fields(
        {
            "key": found.key,
            "size": size(found.size_bytes),
            "version": found.version,
            "changed": time(found.modified_ns) or "not known",
            "checked": time(found.checked_ns) + (", the origin cannot be asked now" if found.stale else ""),
        }
    )


@objects.command("cat")
@_prefix_argument
@_key_argument
@click.pass_context
def cat(ctx: click.Context, prefix: str, key: str) -> None:
    """Write an object to standard output.

    For example:
      pantry object cat catalogs gaia/dr3/README.txt | head
    """
    with _open(ctx, prefix).open(key, partial=True) as file:
        shutil.copyfileobj(file, sys.stdout.buffer, 1 << 20)
        sys.stdout.buffer.flush()


@objects.command("get", cls=Command)
@_prefix_argument
@_key_argument
@click.argument("destination", metavar="[FILE]", default="")
@click.option("--force", is_flag=True, help="Replace FILE if it exists.")
@click.pass_context
def get(ctx: click.Context, prefix: str, key: str, destination: str, force: bool) -> None:
    """Copy an object to a file, by default of its own name in the working directory.

    For example:
      pantry object get catalogs gaia/dr3/source.parquet
    """
    destination = destination or os.path.basename(key)
    with _open(ctx, prefix).open(key) as file:
        write_file(file, destination, force)
    note(f"wrote {destination}")
