"""The parts that wrote a Gen3 registry, and the versions of them whose tables are known here."""

from __future__ import annotations

import json
from typing import Any, NamedTuple

import sqlalchemy as sa

from pantry.daemon.registry.engine import Database
from pantry.errors import ConfigError, RepositoryNotFoundError

_KNOWN: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    # Which manager: ends of its class names, and "major.minor" of its schema.
    "attributes": (("DefaultButlerAttributeManager",), ("1.0",)),
    "dimensions": (("StaticDimensionRecordStorageManager",), ("6.0",)),
    "collections": (("SynthIntKeyCollectionManager",), ("2.0",)),
    "datasets": (("ByDimensionsDatasetRecordStorageManagerUUID",), ("1.0", "2.0")),
    "opaque": (("ByNameOpaqueTableStorageManager",), ("0.2",)),
    "datastores": (("MonolithicDatastoreRegistryBridgeManager",), ("0.2",)),
}
_SOURCE = "lsst-daf-butler 30"


class Gen3Attributes(NamedTuple):
    """What a Gen3 registry says of itself.

    Attributes
    ----------
    universe : dict
        Configuration of its dimensions.
    nanoseconds : bool
        Whether dates of ingest are TAI nanoseconds, and not UTC dates.
    """

    universe: dict[str, Any]
    nanoseconds: bool


def read_gen3_attributes(database: Database) -> Gen3Attributes:
    """Read the attributes of a Gen3 registry and check who wrote it.

    Raises
    ------
    RepositoryNotFoundError
        If the database has none.
    ConfigError
        If a part of it was written by something unknown here.
    """
    with database.reading() as session:
        if not database.has_table(session, "butler_attributes"):
            raise RepositoryNotFoundError("there is no Gen3 registry here", hint=database.shown_url)
        table = sa.table("butler_attributes", sa.column("name"), sa.column("value"))
        found: dict[str, str] = dict(session.rows(database.compile(sa.select(table.c.name, table.c.value))))
    for name, (kinds, versions) in _KNOWN.items():
        manager = found.get(f"config:registry.managers.{name}")
        if manager is None:
            raise ConfigError(
                f"the Gen3 registry does not say by what its {name} were written", hint=database.shown_url
            )
        version = found.get(f"version:{manager}", "")
        if manager.rpartition(".")[2] not in kinds or version.rpartition(".")[0] not in versions:
            known = ", ".join(f"{kind} {one}" for kind in kinds for one in versions)
            raise ConfigError(
                f"the {name} of the Gen3 registry were written by {manager} {version or '(of no version)'}, "
                "whose tables are not known here",
                hint=f"known, from {_SOURCE}: {known}",
            )
    try:
        universe = json.loads(found["config:dimensions.json"])
    except (KeyError, ValueError):
        raise ConfigError("the Gen3 registry does not hold its dimensions", hint=database.shown_url) from None
    datasets = found["config:registry.managers.datasets"]
    return Gen3Attributes(universe, nanoseconds=found[f"version:{datasets}"].startswith("2."))
