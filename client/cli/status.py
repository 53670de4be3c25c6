"""``pantry status``."""

from __future__ import annotations

import click

from pantry.client.cli.lazy import Command
from pantry.client.cli.output import json_option, print_fields, print_json, size, time
from pantry.client.cli.session import daemon
from pantry.wire.operations import CacheStatus, GetStatus


@click.command(cls=Command)
@json_option
@click.pass_context
def status(ctx: click.Context, as_json: bool) -> None:
    """Show how the daemon and its cache are; starts none.

    For example:
      pantry status
    """
    found = daemon(ctx, start=False).call(GetStatus())
    if as_json:
        print_json(found)
        return
    print_fields(
        {
            "version": found.version,
            "mode": found.mode,
            "process": f"{found.pid} (user {found.uid})",
            "started": time(found.started_ns),
            "socket": found.socket,
            "configuration": found.config or "built-in defaults",
            "connections": found.connections,
            "requests": found.requests,
            "repositories": found.repositories,
            "puts under way": found.puts_under_way,
            **cache_fields(found.cache),
        }
    )


def cache_fields(found: CacheStatus) -> dict[str, str]:
    """Return what a person wants to know of the cache."""
    opens = found.hits + found.misses
    share = f" ({100 * found.used_bytes / found.quota_bytes:.0f} %)" if found.quota_bytes else ""
    fields = {
        "cache used": f"{size(found.used_bytes)} of {size(found.quota_bytes)}{share}",
        "cache reserved": size(found.reserved_bytes),
        "cached objects": f"{found.objects} complete, {found.partial_objects} in part",
        "opens": f"{opens}, {100 * found.hits / opens:.0f} % from the cache" if opens else "none yet",
        "fetched": f"{size(found.fetched_bytes)} in {found.fetches} requests",
        "waited": f"{found.waits} reads, {found.waited_s:.1f} s altogether",
        "evicted": f"{found.evicted_objects} objects, {size(found.evicted_bytes)}",
    }
    # The rest only if there is something to say.
    if found.disk_state != "ok":
        fields["cache disk"] = f"{found.disk_state}: {found.disk_reason}; files are read through memory"
    if found.offline:
        fields["offline"] = "yes: no origin is asked"
    if found.failures:
        fields["failed transfers"] = str(found.failures)
    if found.pins:
        fields["pinned"] = f"{found.pinned_objects} objects, {size(found.pinned_bytes)} by {found.pins} pins"
    if found.uncached_opens:
        fields["read uncached"] = f"{found.uncached_opens} files, {size(found.uncached_bytes)}"
    if found.verified_objects:
        fields["verified"] = f"{found.verified_objects} objects, {size(found.verified_bytes)}"
    if found.quarantined_objects:
        fields["damaged"] = f"{found.quarantined_objects} objects were; {size(found.quarantine_bytes)} kept aside"
    return fields
