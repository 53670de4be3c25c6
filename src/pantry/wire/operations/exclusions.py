"""Datasets that a query leaves out, by columns as results are."""

from __future__ import annotations

import msgspec

from pantry.model.data_id import DataIdValue

MAX_EXCLUDED = 250_000
"""Most entries of one query: with usual values two thirds of a frame."""
MAX_EXCLUDED_GROUPS = 64
"""Most `ExcludedDataIds` of one query; each is a table and a condition."""


class ExcludedDataIds(msgspec.Struct, frozen=True, omit_defaults=True):
    """Datasets of one type to leave out, by values of the same dimensions.

    Attributes
    ----------
    dataset_type : str
        Name of the type.
    dimensions : tuple of str
        Any of the type's; the datasets with these values are left out, whatever the other values.
    columns : list of list
        One list of values for each of ``dimensions``.
    runs : list of str
        Distinct names of runs; empty to leave datasets out wherever they are.
    run_index : list of int
        With ``runs``: for each row, which of them.
    """

    dataset_type: str
    dimensions: tuple[str, ...]
    columns: list[list[DataIdValue]]
    runs: list[str] = []
    run_index: list[int] = []


class ExcludedDatasets(msgspec.Struct, frozen=True, omit_defaults=True):
    """Datasets that are as if they were not there (DMS-MWBT-REQ-0090).

    Attributes
    ----------
    ids : bytes
        Dataset ids, 16 bytes each.
    data_ids : tuple of ExcludedDataIds
        Further ones by type and data id.
    """

    ids: bytes = b""
    data_ids: tuple[ExcludedDataIds, ...] = ()
