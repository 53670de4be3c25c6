"""Which cached objects a command is about: by hash, by query, or all."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import click

from pantry.client.cli.arguments import collections_option, comma_separated, condition_options, parse_data_id

F = TypeVar("F", bound=Callable[..., Any])


def objects_argument(command: F) -> F:
    """Add the argument WHAT, and the options of a query."""
    command = collections_option(condition_options(command))
    return click.argument("what", metavar="[HASH... | REPOSITORY DATASET_TYPE...]", nargs=-1)(command)


def chosen_objects(
    what: tuple[str, ...], collections: tuple[str, ...], data_id: tuple[str, ...], where: str, everything: bool
) -> dict[str, Any]:
    """Give the fields of an operation that say which objects: `EvictObjects` and `VerifyObjects` have the same.

    Parameters
    ----------
    what, collections, data_id, where
        As of `objects_argument`.
    everything : bool
        Whether all are meant.
    """
    if collections:
        if len(what) < 2 or everything:
            raise click.UsageError("a query needs a repository and dataset types, and no --all")
        return {
            "repository": what[0],
            "dataset_types": what[1:],
            "collections": comma_separated(collections),
            "where": where,
            "data_id": parse_data_id(data_id),
        }
    if where or data_id:
        raise click.UsageError("a query needs collections (-c)")
    if bool(what) == everything:
        raise click.UsageError("give either hashes, as `pantry cache ls` shows them, a query with -c, or --all")
    return {"hashes": what, "everything": everything}
