"""The Butler: get, put, find, ingest."""

from __future__ import annotations

from pantry.client.butler.butler import Butler
from pantry.client.butler.definitions import ButlerCollections
from pantry.client.butler.reading import DeferredDatasetHandle

__all__ = ["Butler", "ButlerCollections", "DeferredDatasetHandle"]
