"""``pantry cache``: status, ls, evict, and the commands of `cache_keeping`; ``pantry metrics``."""

from __future__ import annotations

import itertools

import click

from pantry.client.cli.cache_integrity import damage, verify
from pantry.client.cli.cache_keeping import export, pin, pins, prefetch, unpin
from pantry.client.cli.cached_objects import chosen_objects, objects_argument
from pantry.client.cli.lazy import Command, CommandGroup
from pantry.client.cli.output import json_option, print_fields, print_json, print_table, size, time
from pantry.client.cli.session import daemon
from pantry.client.cli.status import cache_fields
from pantry.wire.operations import EvictObjects, GetCacheStatus, GetMetrics, ListCache, SetOffline


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
        ("hash", "size", "cached", "read", "open", "pinned", "name"),
        (
            (
                one.hash,
                size(one.size_bytes),
                "all" if one.cached_bytes >= one.size_bytes else size(one.cached_bytes),
                time(one.read_ns),
                one.open_count,
                "yes" if one.pinned else "",
                one.name,
            )
            for one in found
        ),
        right=("size", "cached", "open"),
    )


@cache.command()
@objects_argument
@click.option("--all", "everything", is_flag=True, help="Everything that is not being read.")
@json_option
@click.pass_context
def evict(
    ctx: click.Context,
    what: tuple[str, ...],
    collections: tuple[str, ...],
    data_id: tuple[str, ...],
    where: str,
    everything: bool,
    as_json: bool,
) -> None:
    """Throw objects out of the cache, by hash or by query (with -c); only administrators may.

    The datasets themselves stay where they are stored, and are fetched again when they are read. What is
    being read or pinned stays.

    For example:
      pantry cache evict --all
      pantry cache evict demo raw -c LSSTCam/raw/all -d exposure=12
    """
    asked = EvictObjects(**chosen_objects(what, collections, data_id, where, everything))
    found = daemon(ctx).call(asked)
    if as_json:
        print_json(found)
    else:
        click.echo(f"evicted {found.objects} objects, {size(found.bytes)}")


@cache.command()
@click.argument("state", type=click.Choice(["on", "off"]))
@click.pass_context
def offline(ctx: click.Context, state: str) -> None:
    """Ask no origin for anything (on), or ask them again (off); only administrators may.

    It lasts until the daemon ends; cache.offline in its configuration says how it begins.

    For example:
      pantry cache offline on
    """
    daemon(ctx).call(SetOffline(offline=state == "on"))


for command in (pin, unpin, pins, prefetch, export, verify, damage):
    cache.add_command(command)


@click.command(cls=Command)
@click.pass_context
def metrics(ctx: click.Context) -> None:
    """Print all numbers of the daemon in the text format of Prometheus; starts none.

    Rows by user are only about yourself, unless you are an administrator.

    For example:
      pantry metrics | grep pantry_cache_hits
    """
    click.echo(daemon(ctx, start=False).call(GetMetrics()).text, nl=False)
