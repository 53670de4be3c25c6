"""Which datasets a command takes away: those that a query finds, or those of a graph."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, BinaryIO, NamedTuple

import click

from pantry.client.cli.arguments import (
    collections_option,
    comma_separated,
    exclude_option,
    parse_data_id,
    query_options,
)
from pantry.client.cli.completion import dataset_type_names
from pantry.model.data_id import DataCoordinate
from pantry.model.datasets import DatasetRef

if TYPE_CHECKING:
    from pantry.client.butler import Butler


class Selected(NamedTuple):
    """Datasets, and the data ids of the outputs that a graph has besides."""

    refs: list[DatasetRef]
    data_ids: list[DataCoordinate]


class Selection(NamedTuple):
    """What the options of `selection_options` say; but for the collections, which the Butler has."""

    dataset_types: tuple[str, ...]
    data_id: tuple[str, ...]
    where: str
    order_by: tuple[str, ...]
    limit: int | None
    graph: BinaryIO | None
    exclude_file: str | None

    def find(self, source: Butler) -> Selected:
        """Find the datasets."""
        if self.graph is None:
            if not self.dataset_types:
                raise click.UsageError("which datasets? Name dataset types, or give --graph")
            refs = source.query_datasets(
                self.dataset_types,
                data_id=parse_data_id(self.data_id),
                where=self.where,
                order_by=comma_separated(self.order_by),
                limit=self.limit,
                exclude=self.exclude_file,
            )
            return Selected(refs, [])
        if self.data_id or self.where or self.order_by or self.limit or self.exclude_file:
            raise click.UsageError(
                "a graph says itself which datasets it has; conditions were given to the command that made it"
            )
        from pantry.client.butler.graph import DiscoveryGraph

        found = DiscoveryGraph.from_json(self.graph.read())
        names = self.dataset_types
        chosen = [ref for name in names for ref in found.datasets(name)] if names else found.datasets()
        return Selected(chosen, found.data_ids(found.dimensions))


def selection_options(command: Callable[..., None]) -> Callable[..., None]:
    """Add what says which datasets are taken away; the command gets it as ``selection``."""

    @functools.wraps(command)
    def selecting(*args: Any, **options: Any) -> None:
        selection = Selection(**{name: options.pop(name) for name in Selection._fields})
        command(*args, selection=selection, **options)

    made: Callable[..., None] = selecting
    for option in (
        exclude_option,
        click.option(
            "--graph",
            type=click.File("rb"),
            metavar="FILE",
            help="The datasets of a graph, as `pantry query-graph --json` writes it, in place of a query; '-' for "
            "standard input.",
        ),
        query_options,
        collections_option,
        click.argument("dataset_types", metavar="[DATASET_TYPE]...", nargs=-1, shell_complete=dataset_type_names),
    ):
        made = option(made)
    return made
