"""``pantry cache verify`` and ``damage``: whether the disk kept what it was given."""

from __future__ import annotations

from typing import Any

import click

from pantry.client.cli.cached_objects import chosen_objects, objects_argument
from pantry.client.cli.lazy import Command
from pantry.client.cli.output import json_option, note, print_json, size
from pantry.client.cli.progress import transfer_bar
from pantry.client.cli.session import daemon
from pantry.errors import ProtocolError
from pantry.wire.operations import DamagedObject, DamageObject, VerifyObjects, VerifyProgress


@click.command(cls=Command)
@objects_argument
@click.option("--all", "everything", is_flag=True, help="Everything of the repositories that you may read.")
@click.option("--no-refetch", is_flag=True, help="Leave it to the next reader to fetch what is damaged.")
@json_option
@click.pass_context
def verify(
    ctx: click.Context,
    what: tuple[str, ...],
    collections: tuple[str, ...],
    data_id: tuple[str, ...],
    where: str,
    everything: bool,
    no_refetch: bool,
    as_json: bool,
) -> None:
    """Read cached objects again and compare their hashes; fails if any is damaged.

    What is damaged is put aside, never handed out, and fetched again from its origin.

    For example:
      pantry cache verify --all
      pantry cache verify demo raw -c LSSTCam/raw/all -d exposure=12
    """
    chosen = chosen_objects(what, collections, data_id, where, everything)
    asked = VerifyObjects(**chosen, refetch=not no_refetch)
    last, damaged = _run(ctx, asked)
    if as_json:
        print_json({"objects": last.objects_done, "bytes": last.bytes_done, "damaged": damaged})
    else:
        click.echo(f"verified {last.objects_done} objects, {size(last.bytes_done)}; {len(damaged)} damaged")
        for one in damaged:
            note(f"damaged: {one.name or one.hash}: {_what_became(one, no_refetch)}")
    if damaged:
        ctx.exit(1)


def _run(ctx: click.Context, asked: VerifyObjects) -> tuple[VerifyProgress, list[DamagedObject]]:
    last: VerifyProgress | None = None
    damaged: list[DamagedObject] = []
    with transfer_bar("verifying") as draw:
        for told in daemon(ctx).stream(asked):
            draw(told.bytes_done, told.bytes_total)
            damaged += told.damaged
            last = told
    if last is None:
        raise ProtocolError("the daemon told nothing of the verification")
    return last, damaged


def _what_became(one: DamagedObject, no_refetch: bool) -> str:
    if one.fetched:
        return "fetched again"
    return "the next read fetches it" if no_refetch else f"not fetched again: {one.problem}"


@click.command(cls=Command)
@click.argument("hash_", metavar="HASH")
@click.option(
    "--how",
    type=click.Choice(["flip", "zero", "truncate"]),
    default="flip",
    show_default=True,
    help="Flip a byte's bits, zero a block of 4 KiB, or cut the file off.",
)
@click.option("--at", type=click.IntRange(min=0), default=0, metavar="BYTE", help="Where; at the beginning by default.")
@click.pass_context
def damage(ctx: click.Context, hash_: str, how: Any, at: int) -> None:
    """Damage a cached object on purpose, to see that the cache notices.

    Only administrators may, and only where cache.allow_damage is set in the daemon's configuration. The
    dataset itself, where it is stored, is not touched.

    For example:
      pantry cache damage 99aa06d3014798d86001c324468d497f --how zero --at 4096
    """
    daemon(ctx).call(DamageObject(hash=hash_, how=how, at=at))
    note(f"damaged {hash_}; `pantry cache verify` should find it")
