"""Operations that make a new repository from a part of another one (docs/decisions/0047-subsets.md)."""

from __future__ import annotations

from typing import Any, Literal

import msgspec

from pantry.model.data_id import DataIdValue
from pantry.model.repository import RepositoryInfo
from pantry.wire.operations.base import Operation
from pantry.wire.operations.importing import Standings
from pantry.wire.operations.repositories import Done

MAX_COPIED = 256
"""Most datasets of one `CopyDatasets`: their files are open at the same time."""

SubsetTransfer = Literal["auto", "hardlink", "copy", "view"]
"""How a file gets into a subset, see `Butler.subset`; with ``view`` it stays where it is, see `Butler.create_view`."""


class SubsetBegun(msgspec.Struct, frozen=True, kw_only=True):
    """A subset that can be filled.

    Attributes
    ----------
    repository : RepositoryInfo
        The subset.
    dimensions : dict
        Configuration of its universe.
    resumed : bool
        Whether it was there already.
    """

    repository: RepositoryInfo
    dimensions: dict[str, Any]
    resumed: bool


class BeginSubset(Operation[SubsetBegun], frozen=True, kw_only=True, omit_defaults=True, tag="subset.begin"):
    """Make a repository for a part of another one, or go on with it; until `FinishSubset` nobody can read it.

    It has the source's dimensions, formats and path templates.

    Attributes
    ----------
    name, root, registry, storage_options, readers, writers
        As of `CreateRepository`.
    source : str
        The repository, or chain, that it is a part of.
    view : bool
        Whether the files stay where they are.
    """

    result_type = SubsetBegun
    name: str
    root: str
    source: str
    registry: str = ""
    storage_options: dict[str, str | int | float | bool] = {}
    readers: tuple[str, ...] = ()
    writers: tuple[str, ...] = ()
    view: bool = False


class CopyDatasets(Operation[Standings], frozen=True, kw_only=True, omit_defaults=True, tag="subset.copy"):
    """Take datasets of one type and run over from another repository, with their ids, all or none of each format.

    Of a view as the source, all or none of each repository that holds files.

    What is there is passed over. Type, run and dimension records must be there.

    Attributes
    ----------
    repository, source : str
        Where to, and the one repository that has them.
    dataset_type, run : str
        Of all of them.
    dimensions : tuple of str
        What ``values`` are of.
    values : tuple of tuple
        The data id of each dataset.
    ids : bytes
        16 bytes for each, at most `MAX_COPIED`.
    transfer : str
        See `SubsetTransfer`.
    """

    result_type = Standings
    repository: str
    source: str
    dataset_type: str
    run: str
    dimensions: tuple[str, ...]
    values: tuple[tuple[DataIdValue, ...], ...]
    ids: bytes
    transfer: SubsetTransfer = "auto"


class FinishSubset(Operation[Done], frozen=True, kw_only=True, tag="subset.finish"):
    """Say that a subset has all that it was to get: from now on it can be read."""

    result_type = Done
    repository: str
