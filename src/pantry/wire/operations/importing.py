"""Operations that import what another repository exported: definitions, datasets with their ids, members.

Each is all or nothing and may be asked again: what is there and equal is passed over, what contradicts is a
`ConflictError` that names it.
"""

from __future__ import annotations

from typing import Literal

import msgspec

from pantry.model.collections import CollectionType
from pantry.model.data_id import DataIdValue
from pantry.model.datasets import DatasetType
from pantry.model.metadata import MetadataValue
from pantry.model.timespan import Timespan
from pantry.wire.operations.base import Operation
from pantry.wire.operations.data import Transfer
from pantry.wire.operations.registry import CountDone

MAX_MEMBERS = 200_000
"""Most dataset ids of one `ImportMembers`."""

IS_NEW, IS_WITHOUT_FILE, IS_STORED = 0, 1, 2
"""How a dataset stands in the repository; see `Standings`."""


class ImportedCollection(msgspec.Struct, frozen=True, kw_only=True):
    """A collection to make unless it exists; ``children`` are set by `ImportMembers`."""

    name: str
    type: CollectionType
    doc: str = ""


class ImportDefinitions(Operation[CountDone], frozen=True, kw_only=True, omit_defaults=True, tag="import.definitions"):
    """Register dataset types and collections, all or none; those that exist must be equal.

    The metadata that an existing dataset type declares is no difference. Counts those that are new.
    """

    result_type = CountDone
    repository: str
    dataset_types: tuple[DatasetType, ...] = ()
    collections: tuple[ImportedCollection, ...] = ()


class Standings(msgspec.Struct, frozen=True):
    """One byte for each dataset: how it stood in the repository before the request.

    `IS_NEW`, `IS_WITHOUT_FILE` (registered without a file) or `IS_STORED`.
    """

    found: bytes


class ImportItem(msgspec.Struct, frozen=True, array_like=True):
    """One dataset.

    Attributes
    ----------
    path : str
        As of `IngestItem`; several items may name one file. Empty for a dataset whose file is not at hand: it is
        registered without one, and a later import may give it.
    values : tuple of int or str
        Of the dimensions that `ImportDatasets` names.
    """

    path: str
    values: tuple[DataIdValue, ...]


class ImportDatasets(Operation[Standings], frozen=True, kw_only=True, omit_defaults=True, tag="import.datasets"):
    """Register datasets with their ids and take over their files, all or none.

    A dataset that is there with the same id, type, run and data id is passed over, or gets the file that it lacks.
    Descriptors come as with `IngestFiles`, one for each distinct path in the order in which they are first named.

    Attributes
    ----------
    repository, dataset_type, run : str
        Where to and as what; both are registered, or with ``check`` need not be.
    transfer : str
        See `Transfer`; or ``direct``: the paths are URLs of files below roots that the node's configuration names
        under ``prefixes``, and whoever asks may read. They stay there, and are read in the version that they have now.
    dimensions : tuple of str
        What the items' values are of.
    items : tuple of ImportItem
        The datasets.
    ids : bytes
        16 bytes for each.
    formatter : str
        Name of the formatter that will read them; empty for the storage class's own.
    check : bool
        Only say how they stand; nothing is written, no path is looked at, and no dimension record need be there.
    metadata : dict of str to list
        For each entry that the dataset type declares, what the file of each item says of it.
    """

    result_type = Standings
    repository: str
    dataset_type: str
    run: str
    transfer: Transfer | Literal["direct"]
    dimensions: tuple[str, ...]
    items: tuple[ImportItem, ...]
    ids: bytes
    formatter: str = ""
    check: bool = False
    metadata: dict[str, list[MetadataValue]] = {}


class ImportedMembers(msgspec.Struct, frozen=True, kw_only=True):
    """Members of a TAGGED collection, or of a CALIBRATION collection for a time.

    Attributes
    ----------
    collection : str
        In which.
    ids : bytes
        16 bytes for each dataset.
    timespan : Timespan or None
        None for a TAGGED collection.
    """

    collection: str
    ids: bytes
    timespan: Timespan | None = None


class ImportMembers(Operation[CountDone], frozen=True, kw_only=True, omit_defaults=True, tag="import.members"):
    """Put datasets into collections, and collections into chains, all or none; counts datasets that are new there.

    Attributes
    ----------
    repository : str
        Where.
    members : tuple of ImportedMembers
        In TAGGED and CALIBRATION collections.
    chains : dict of str to tuple of str
        Children of CHAINED collections. A chain that has none yet gets them.
    """

    result_type = CountDone
    repository: str
    members: tuple[ImportedMembers, ...] = ()
    chains: dict[str, tuple[str, ...]] = {}
