"""Repositories of the Gen3 Butler, read where they are (docs/decisions/0018-attached-gen3.md)."""

from pantry.daemon.registry.gen3.configuration import Gen3Configuration, read_configuration
from pantry.daemon.registry.gen3.registry import Gen3Registry, refuse_to_write

__all__ = ["Gen3Configuration", "Gen3Registry", "read_configuration", "refuse_to_write"]
