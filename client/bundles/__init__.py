"""Bundles: datasets in a directory, read and written with no daemon, database server or network (DMS-MWBT-REQ-0053)."""

from pantry.client.bundles.answering import BundleConnection
from pantry.client.bundles.creating import Bundled, create_bundle
from pantry.client.bundles.harvesting import Harvested, harvest
from pantry.client.bundles.verifying import VerifiedBundle, verify_bundle

__all__ = ["BundleConnection", "Bundled", "Harvested", "VerifiedBundle", "create_bundle", "harvest", "verify_bundle"]
