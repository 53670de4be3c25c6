"""Datasets that an operator puts in the place of others (docs/decisions/0023-overrides.md)."""

from __future__ import annotations

from collections.abc import Sequence
from fnmatch import fnmatchcase

import msgspec

from pantry.daemon.registry.definitions import Collection, Definitions, KnownType
from pantry.errors import ConfigError, MissingCollectionError


class Override(msgspec.Struct, frozen=True, kw_only=True):
    """What is found in place of what was asked for (DMS-MWBT-REQ-0087).

    Attributes
    ----------
    dataset_types : tuple of str
        Names or patterns of the types that it holds for.
    collections : tuple of str
        Names of the collections with the datasets that are preferred, in search order.
    within : tuple of str
        Names or patterns: only where one of these collections is searched; none for everywhere.
    """

    dataset_types: tuple[str, ...]
    collections: tuple[str, ...]
    within: tuple[str, ...] = ()


def preferred(
    overrides: Sequence[Override], definitions: Definitions, known: KnownType, asked: Sequence[str]
) -> list[Collection]:
    """Give the collections whose datasets of a type are put in the place of those in others.

    Parameters
    ----------
    overrides : sequence of Override
        In order: the first that has a dataset wins.
    definitions : Definitions
        What there is.
    known : KnownType
        The dataset type.
    asked : sequence of str
        Names or patterns of the collections that are searched.

    Raises
    ------
    ConfigError
        An override names a collection that there is not: to go on without it would give wrong data.
    """
    found: dict[int, Collection] = {}
    for override in overrides:
        if not _any_matches(override.dataset_types, [known.definition.name]):
            continue
        if override.within:
            named = definitions.match_collections(asked)
            searched = {one.name for one in (*named, *definitions.flatten(named))}
            if not _any_matches(override.within, searched):
                continue
        try:
            order = definitions.search_order(override.collections, known.id)
        except MissingCollectionError as exc:
            raise ConfigError(
                f"an override of {known.definition.name} by this node's configuration: {exc.message}",
                hint="ask its administrator to mend 'overrides' in the daemon's configuration",
            ) from None
        found.update((one.id, one) for one in order if one.id not in found)
    return list(found.values())


def _any_matches(patterns: Sequence[str], names: Sequence[str] | set[str]) -> bool:
    return any(fnmatchcase(name, pattern) for pattern in patterns for name in names)
