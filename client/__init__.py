"""What programs use: the `Butler`, and the values that it speaks in.

Importing this loads no astronomy library; each format's is loaded when the first object of it is
read or written.
"""

from __future__ import annotations

from pantry.client.association.request import TimeJoin
from pantry.client.butler import Butler, ButlerCollections, DeferredDatasetHandle
from pantry.client.node import Node
from pantry.client.objects import ObjectPrefix
from pantry.client.queries import QueryService
from pantry.errors import PantryError
from pantry.model.collections import CollectionInfo, CollectionType
from pantry.model.data_id import DataCoordinate
from pantry.model.datasets import DatasetRef, DatasetType
from pantry.model.queries import Circle, Point, Polygon
from pantry.model.records import DimensionRecord
from pantry.model.repository import RepositoryInfo
from pantry.model.timespan import Timespan


def load_ipython_extension(shell: object) -> None:
    """Complete in the calls of Butlers; IPython calls this for ``%load_ext pantry.client``."""
    from pantry.client.introspection.notebook import register

    register(shell)


def unload_ipython_extension(shell: object) -> None:
    """Undo `load_ipython_extension`."""
    from pantry.client.introspection.notebook import unregister

    unregister(shell)


__all__ = [
    "Butler",
    "ButlerCollections",
    "Circle",
    "CollectionInfo",
    "CollectionType",
    "DataCoordinate",
    "DatasetRef",
    "DatasetType",
    "DeferredDatasetHandle",
    "DimensionRecord",
    "Node",
    "ObjectPrefix",
    "PantryError",
    "Point",
    "Polygon",
    "QueryService",
    "RepositoryInfo",
    "TimeJoin",
    "Timespan",
]
