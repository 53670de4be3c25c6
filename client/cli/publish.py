"""``pantry publish``: datasets to web services, and how that is going."""

from __future__ import annotations

from typing import Any, cast, get_args

import click

from pantry.client.cli.arguments import collections_option, condition_options, parse_data_id, repository_argument
from pantry.client.cli.completion import dataset_type_names
from pantry.client.cli.lazy import Command, CommandGroup
from pantry.client.cli.output import json_option, note, print_json, print_table, time
from pantry.client.cli.session import butler, daemon
from pantry.wire.operations import (
    ForgetPublications,
    GetPublishStatus,
    ListPublishTargets,
    PublicationState,
    RetryPublications,
)


@click.group(cls=CommandGroup)
def publish() -> None:
    """Publish datasets to web services, and see what became of them.

    The daemon's operator configures the services; "pantry publish targets" lists them. The daemon sends what it was
    asked to until a service has accepted or refused it, also when the service or the daemon is down for a while.

    For example:
      pantry publish datasets demo 'metric_*' -c runs/ci --to qa
      pantry publish status
    """


@publish.command(cls=Command)
@repository_argument
@click.argument("dataset_types", metavar="DATASET_TYPE...", nargs=-1, required=True, shell_complete=dataset_type_names)
@click.option("--to", "target", required=True, metavar="TARGET", help="Which service.")
@click.option("--wait", is_flag=True, help="Wait for the service's answers, at most five minutes.")
@collections_option
@condition_options
@json_option
@click.pass_context
def datasets(
    ctx: click.Context,
    repository: str,
    dataset_types: tuple[str, ...],
    target: str,
    wait: bool,
    collections: tuple[str, ...],
    data_id: tuple[str, ...],
    where: str,
    as_json: bool,
) -> None:
    """Publish the datasets that a query finds; what was accepted before is not sent again.

    For example:
      pantry publish datasets demo metric_seeing -c runs/ci -d visit=903334 --to qa --wait
    """
    source = butler(ctx, repository, collections)
    refs = source.query_datasets(dataset_types, data_id=parse_data_id(data_id), where=where)
    found = source.publish(refs, target, wait=wait) if refs else []
    if as_json:
        print_json(found)
        return
    states = [one.state for one in found]
    told = ", ".join(f"{states.count(one)} {one}" for one in dict.fromkeys(states))
    click.echo(f"{len(found)} datasets for {target}{f': {told}' if told else ''}")


@publish.command(cls=Command)
@json_option
@click.pass_context
def targets(ctx: click.Context, as_json: bool) -> None:
    """List the services that datasets can be published to.

    For example:
      pantry publish targets
    """
    found = daemon(ctx).call(ListPublishTargets()).targets
    if as_json:
        print_json(found)
        return
    print_table(
        ("target", "method", "url", "dataset types", "automatic", "problem"),
        (
            (one.name, one.method, one.url, ", ".join(one.dataset_types), "yes" if one.automatic else "", one.problem)
            for one in found
        ),
    )


@publish.command(cls=Command)
@click.argument("target", default="")
@click.option(
    "--state",
    "states",
    multiple=True,
    type=click.Choice(get_args(PublicationState)),
    help="List these; by default all that are not accepted. May be repeated.",
)
@click.option("--limit", type=click.IntRange(0, 1000), default=100, metavar="N", help="List at most so many.")
@json_option
@click.pass_context
def status(ctx: click.Context, target: str, states: tuple[str, ...], limit: int, as_json: bool) -> None:
    """Show how your publications are, or those to TARGET; administrators see those of all users.

    For example:
      pantry publish status
      pantry publish status qa --state refused --json
    """
    operation = GetPublishStatus(target=target, limit=limit)
    if states:
        operation = GetPublishStatus(target=target, limit=limit, states=cast(Any, states))
    found = daemon(ctx).call(operation)
    if as_json:
        print_json(found)
        return
    counts: dict[str, list[str]] = {}
    for one in found.counts:
        counts.setdefault(one.target, []).append(f"{one.count} {one.state}")
    for name, told in counts.items():
        click.echo(f"{name}: {', '.join(told)}")
    if not counts:
        note("nothing was published")
    if found.publications:
        click.echo()
        print_table(
            ("number", "target", "state", "attempts", "next", "type", "id", "problem"),
            (
                (
                    one.number,
                    one.target,
                    one.state,
                    one.attempts,
                    time(one.next_ns) if one.state == "waiting" else "",
                    one.dataset_type,
                    one.id,
                    one.problem,
                )
                for one in found.publications
            ),
            right=("number", "attempts"),
        )


@publish.command(cls=Command)
@click.argument("numbers", metavar="[NUMBER]...", nargs=-1, type=int)
@click.option("--target", default="", metavar="NAME", help="All to this service.")
@click.option("--all", "everything", is_flag=True, help="All.")
@click.pass_context
def retry(ctx: click.Context, numbers: tuple[int, ...], target: str, everything: bool) -> None:
    """Try publications again at once: those of these NUMBERS, to a service, or all; also those that were refused.

    For example:
      pantry publish retry 12 13
      pantry publish retry --target qa
    """
    if bool(numbers) + bool(target) + everything != 1:
        raise click.UsageError("give numbers, --target NAME or --all; `pantry publish status` shows what there is")
    done = daemon(ctx).call(RetryPublications(target=target, numbers=numbers))
    click.echo(f"{done.count} are tried again")


@publish.command(cls=Command)
@click.argument("numbers", metavar="NUMBER...", nargs=-1, type=int, required=True)
@click.pass_context
def forget(ctx: click.Context, numbers: tuple[int, ...]) -> None:
    """Give publications up: they are neither sent nor listed any more.

    For example:
      pantry publish forget 12
    """
    done = daemon(ctx).call(ForgetPublications(numbers=numbers))
    click.echo(f"{done.count} are forgotten")
