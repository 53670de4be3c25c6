"""``pantry cache``: status, ls, evict."""

from __future__ import annotations

import itertools

import click

from pantry.client.cli.lazy import CommandGroup
from pantry.client.cli.output import json_option, print_fields, print_json, print_table, size, time
from pantry.client.cli.session import daemon
from pantry.client.cli.status import cache_fields
from pantry.wire.operations import EvictObjects, GetCacheStatus, ListCache


@click.group(cls=CommandGroup)
def cache() -> None:
    """Look at the node's cache, and make room in it.

    For example:
      pantry cache status
    """


@cache.command("status")
@json_option
@click.pass_context
def cache_status(ctx: click.Context, as_json: bool) -> None:
    """Show how full the cache is and what it did.

    For example:
      pantry cache status --json
    """
    found = daemon(ctx).call(GetCacheStatus())
    if as_json:
        print_json(found)
    else:
        print_fields(cache_fields(found))


@cache.command("ls")
@click.option("--limit", type=click.IntRange(min=1), metavar="N", help="At most so many.")
@json_option
@click.pass_context
def list_cache(ctx: click.Context, limit: int | None, as_json: bool) -> None:
    """List cached objects, last read first.

    For example:
      pantry cache ls --limit 20
    """
    batches = daemon(ctx).stream(ListCache())
    found = list(itertools.islice((one for batch in batches for one in batch.objects), limit))
    if as_json:
        print_json(found)
        return
    print_table(
        ("hash", "size", "cached", "read", "open", "name"),
        (
            (
                one.hash,
                size(one.size_bytes),
                "all" if one.cached_bytes >= one.size_bytes else size(one.cached_bytes),
                time(one.read_ns),
                one.open_count,
                one.name,
            )
            for one in found
        ),
        right=("size", "cached", "open"),
    )


@cache.command()
@click.argument("hashes", metavar="[HASH]...", nargs=-1)
@click.option("--all", "everything", is_flag=True, help="Everything that is not being read.")
@json_option
@click.pass_context
def evict(ctx: click.Context, hashes: tuple[str, ...], everything: bool, as_json: bool) -> None:
    """Throw objects out of the cache; only root and the daemon's own user may.

    The datasets themselves stay where they are stored, and are fetched again when they are read.

    For example:
      pantry cache evict --all
    """
    if bool(hashes) == everything:
        raise click.UsageError("give either hashes, as `pantry cache ls` shows them, or --all")
    found = daemon(ctx).call(EvictObjects(hashes=hashes, everything=everything))
    if as_json:
        print_json(found)
    else:
        click.echo(f"evicted {found.objects} objects, {size(found.bytes)}")
