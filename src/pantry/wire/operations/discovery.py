"""Operations that tell what there is, without listing it."""

from __future__ import annotations

from typing import Any

import msgspec

from pantry.wire.operations.base import Operation
from pantry.wire.operations.registry import QueryDatasets


class DatasetCounts(msgspec.Struct, frozen=True):
    """How many datasets a query finds, for each dataset type that it asks for."""

    counts: dict[str, int]


class CountDatasets(Operation[DatasetCounts], frozen=True, kw_only=True, tag="dataset.count"):
    """Count in the database what a query would find, exactly.

    Attributes
    ----------
    query : QueryDatasets
        With its limit; what it orders by and whether it asks for records makes no difference.
    """

    result_type = DatasetCounts
    query: QueryDatasets


class Dimensions(msgspec.Struct, frozen=True):
    """A repository's universe of dimensions, in the form of Gen3's ``dimensions.yaml``."""

    config: dict[str, Any]


class GetDimensions(Operation[Dimensions], frozen=True, kw_only=True, tag="dimension.universe"):
    """Give the dimensions of a repository; they never change."""

    result_type = Dimensions
    repository: str
