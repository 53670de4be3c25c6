"""``pantry backends``."""

from __future__ import annotations

import click

from pantry.client.cli.lazy import Command
from pantry.client.cli.output import json_option, note, print_json, print_table, time
from pantry.client.cli.session import daemon
from pantry.wire.operations import BackendInfo, GetBackends


@click.command(cls=Command)
@json_option
@click.pass_context
def backends(ctx: click.Context, as_json: bool) -> None:
    """Show how storage and services are: whether they are asked, how much, how fast, and what failed.

    Those that you may read and that were used since the daemon started; starts none.

    For example:
      pantry backends
      pantry backends --json
    """
    found = daemon(ctx, start=False).call(GetBackends()).backends
    if as_json:
        print_json(found)
        return
    if not found:
        note("no storage and no service was used yet")
        return
    columns = ("used by", "location", "circuit", "under way", "requests", "median", "99 %", "errors", "last error")
    print_table(columns, map(_row, found), right=("under way", "requests", "median", "99 %"))


def _row(one: BackendInfo) -> tuple[str | int, ...]:
    errors = ", ".join(f"{count} {code}" for code, count in sorted(one.errors.items()))
    return (
        f"{one.kind} {one.name}" + (f" ({one.user})" if one.user else ""),
        one.location,
        one.circuit + (f" for {one.retry_in_s:.1f} s" if one.circuit == "open" else ""),
        _load(one),
        one.requests,
        _milliseconds(one.median_s),
        _milliseconds(one.p99_s),
        errors,
        f"{time(one.last_error_ns)} {one.last_error}" if one.last_error_ns else "",
    )


def _load(one: BackendInfo) -> str:
    text = f"{one.under_way} of {one.max_concurrent}" if one.max_concurrent else str(one.under_way)
    if one.waiting:
        text += f", {one.waiting} wait"
    return f"{text}, {one.hanging} hang" if one.hanging else text


def _milliseconds(seconds: float | None) -> str:
    return "" if seconds is None else f"{seconds * 1000:.1f} ms"
