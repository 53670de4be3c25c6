"""Bundles: datasets in a directory, read and written with no daemon, database server or network (DMS-MWBT-REQ-0053)."""

from pantry.client.bundles.answering import BundleConnection
from pantry.client.bundles.creating import Bundled, create_bundle
from pantry.client.bundles.harvesting import Harvested, harvest

__all__ = ["BundleConnection", "Bundled", "Harvested", "create_bundle", "harvest"]
