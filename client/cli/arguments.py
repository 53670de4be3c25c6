"""Arguments and options that several commands have, with their completion."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, TypeVar

import click

from pantry.client.cli.completion import (
    collection_names,
    data_ids,
    dataset_type_names,
    expressions,
    order_names,
    repository_names,
)

F = TypeVar("F", bound=Callable[..., Any])


def repository_argument(command: F) -> F:
    """Add the argument REPOSITORY."""
    return click.argument("repository", shell_complete=repository_names)(command)


def dataset_type_argument(command: F) -> F:
    """Add the argument DATASET_TYPE."""
    return click.argument("dataset_type", shell_complete=dataset_type_names)(command)


def collections_option(command: F) -> F:
    """Add the option ``--collections``."""
    return click.option(
        "-c",
        "--collections",
        multiple=True,
        metavar="NAMES",
        shell_complete=collection_names,
        help="Where to search, in this order: names or patterns, separated by commas.",
    )(command)


def run_option(command: F) -> F:
    """Add the option ``--run``."""
    return click.option(
        "--run",
        required=True,
        metavar="NAME",
        shell_complete=collection_names,
        help="RUN collection that the datasets go to; made if need be.",
    )(command)


def condition_options(command: F) -> F:
    """Add the options that narrow a query."""
    for option in (
        click.option(
            "-d",
            "--data-id",
            multiple=True,
            metavar="NAME=VALUE",
            shell_complete=data_ids,
            help="Dimension's value; may be repeated.",
        ),
        click.option(
            "-w",
            "--where",
            default="",
            metavar="EXPRESSION",
            shell_complete=expressions,
            help='As in "exposure.exposure_time > 30".',
        ),
    ):
        command = option(command)
    return command


def query_options(command: F) -> F:
    """Add the options that narrow, order and limit a query."""
    for option in (
        click.option("--limit", type=click.IntRange(min=1), metavar="N", help="At most so many."),
        click.option(
            "--order-by",
            multiple=True,
            metavar="NAMES",
            shell_complete=order_names,
            help="Order; '-' in front for descending.",
        ),
    ):
        command = option(command)
    return condition_options(command)


def exclude_option(command: F) -> F:
    """Add the option ``--exclude-file``."""
    return click.option(
        "--exclude-file",
        type=click.Path(dir_okay=False),
        metavar="FILE",
        help="Leave out the datasets of this list: UUIDs, or lines as 'raw exposure=12 detector=3 run=NAME'.",
    )(command)


def registry_option(command: F) -> F:
    """Add the option ``--registry``: the database of a new repository."""
    return click.option(
        "--registry", default="", metavar="URL", help="Database, as SQLAlchemy writes it; by default SQLite."
    )(command)


def reader_option(command: F) -> F:
    """Add the option ``--reader``."""
    return _people("--reader")(command)


def writer_option(command: F) -> F:
    """Add the option ``--writer``."""
    return _people("--writer")(command)


def _people(name: str) -> Callable[[F], F]:
    return click.option(name, multiple=True, metavar="WHO", help="User, @group, or '*' for everybody; may be repeated.")


def comma_separated(given: Iterable[str]) -> tuple[str, ...]:
    """Split repeated options with comma-separated values."""
    return tuple(part for one in given for part in one.split(",") if part)


def parse_data_id(pairs: Sequence[str]) -> dict[str, int | str]:
    """Parse ``exposure=12`` and the like; what looks like an integer is left to the repository to convert."""
    values: dict[str, int | str] = {}
    for pair in pairs:
        name, equals, value = pair.partition("=")
        if not equals or not name:
            raise click.UsageError(f"{pair!r} is not part of a data id; write it as name=value, such as detector=3")
        if name in values:
            raise click.UsageError(f"{name!r} was given twice")
        values[name] = value
    return values
