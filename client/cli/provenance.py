"""``pantry provenance``, ``ancestors`` and ``descendants``."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from uuid import UUID

import click

from pantry.client.cli.arguments import repository_argument
from pantry.client.cli.completion import dataset_type_names
from pantry.client.cli.lazy import Command
from pantry.client.cli.output import json_option, note, print_fields, print_json, print_table, time
from pantry.client.cli.session import butler
from pantry.model.datasets import DatasetRef
from pantry.model.provenance import Relative


def _dataset_argument(command: Callable[..., Any]) -> Callable[..., Any]:
    return click.argument("dataset", metavar="UUID", type=click.UUID)(command)


def _walk_options(command: Callable[..., Any]) -> Callable[..., Any]:
    for option in (
        click.option(
            "--inputs",
            type=click.Choice(["used", "predicted", "any"]),
            default="used",
            show_default=True,
            help="Which inputs count; 'used' are the predicted ones where nobody said which were used.",
        ),
        click.option("--depth", type=click.IntRange(min=1), metavar="N", help="Over at most so many steps."),
        click.option(
            "--dataset-type",
            multiple=True,
            metavar="NAME",
            shell_complete=dataset_type_names,
            help="Only these, by name or pattern; may be repeated.",
        ),
    ):
        command = option(command)
    return command


@click.command("provenance", cls=Command)
@repository_argument
@_dataset_argument
@json_option
@click.pass_context
def provenance(ctx: click.Context, repository: str, dataset: UUID, as_json: bool) -> None:
    """Show what made the dataset UUID, of which inputs, and what has used it.

    For example:
      pantry provenance demo 018f3e7a-9c1d-7d3b-8f6e-2b7d5c0a1e42
    """
    session = butler(ctx, repository)
    found = session.provenance(dataset)
    if as_json:
        print_json(found)
        return
    producer = found.producer
    print_fields({"dataset": found.ref or f"{found.id}, which is no longer there"})
    if producer is None:
        note("nobody recorded what made it")
    else:
        print_fields(
            {
                "made by": producer.task,
                "status": producer.status,
                "quantum": producer.id,
                "quantum run": producer.run,
                "data id": ", ".join(f"{name}={value}" for name, value in producer.data_id.items()),
                "began": time(producer.begin_ns),
                "ended": time(producer.end_ns),
            }
        )
        used = set(producer.actual_inputs or ())
        inputs = dict.fromkeys((*(producer.predicted_inputs or ()), *(producer.actual_inputs or ())))
        if inputs:
            refs = {one.id: one.ref for one in session.ancestors(dataset, inputs="any", max_depth=1)}
            click.echo("\ninputs:")
            print_table(
                ("predicted", "used", "type", "run", "id"),
                (
                    (
                        _yes_no(producer.predicted_inputs, one),
                        "?" if producer.actual_inputs is None else "yes" if one in used else "no",
                        *_shown(refs.get(one), one),
                    )
                    for one in inputs
                ),
            )
    if found.consumers:
        click.echo("\nused by:")
        print_table(
            ("task", "run", "quantum", "predicted", "used"),
            (
                (one.task, one.run, one.id, "yes" if one.predicted else "no", _answer(one.actual))
                for one in found.consumers
            ),
        )
        if found.n_consumers > len(found.consumers):
            note(f"and {found.n_consumers - len(found.consumers)} more")


@click.command("ancestors", cls=Command)
@repository_argument
@_dataset_argument
@_walk_options
@json_option
@click.pass_context
def ancestors(
    ctx: click.Context,
    repository: str,
    dataset: UUID,
    inputs: Any,
    depth: int | None,
    dataset_type: tuple[str, ...],
    as_json: bool,
) -> None:
    """Find everything that the dataset UUID was made of, over any number of steps.

    For example:
      pantry ancestors demo 018f3e7a-9c1d-7d3b-8f6e-2b7d5c0a1e42 --dataset-type raw
    """
    session = butler(ctx, repository)
    _show(session.ancestors(dataset, inputs=inputs, max_depth=depth, dataset_types=dataset_type), as_json)


@click.command("descendants", cls=Command)
@repository_argument
@_dataset_argument
@_walk_options
@json_option
@click.pass_context
def descendants(
    ctx: click.Context,
    repository: str,
    dataset: UUID,
    inputs: Any,
    depth: int | None,
    dataset_type: tuple[str, ...],
    as_json: bool,
) -> None:
    """Find everything that was made of the dataset UUID, over any number of steps.

    For example:
      pantry descendants demo 018f3e7a-9c1d-7d3b-8f6e-2b7d5c0a1e42 --depth 2
    """
    session = butler(ctx, repository)
    _show(session.descendants(dataset, inputs=inputs, max_depth=depth, dataset_types=dataset_type), as_json)


def _show(found: list[Relative], as_json: bool) -> None:
    if as_json:
        print_json(found)
    elif found:
        print_table(
            ("steps", "type", "run", "id", "data id"),
            ((one.distance, *_shown(one.ref, one.id), "" if one.ref is None else one.ref.data_id) for one in found),
            right=("steps",),
        )


def _shown(ref: DatasetRef | None, id_: UUID) -> tuple[str, str, UUID]:
    return ("(deleted)", "", id_) if ref is None else (ref.dataset_type.name, ref.run, id_)


def _yes_no(ids: tuple[UUID, ...] | None, one: UUID) -> str:
    return "?" if ids is None else "yes" if one in ids else "no"


def _answer(known: bool | None) -> str:
    return "?" if known is None else "yes" if known else "no"
