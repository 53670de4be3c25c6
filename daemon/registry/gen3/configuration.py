"""What a Gen3 repository's ``butler.yaml`` says: where its registry and its files are, and who wrote them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec
import yaml

from pantry.errors import ConfigError

_DATASTORE = "lsst.daf.butler.datastores.fileDatastore.FileDatastore"
_ROOT = "<butlerRoot>"


class Gen3Configuration(msgspec.Struct, frozen=True, kw_only=True):
    """A Gen3 repository.

    Attributes
    ----------
    registry : str
        SQLAlchemy URL; an SQLite file relative to the root has the form ``sqlite:///<butlerRoot>/...``.
    namespace : str
        Schema of a PostgreSQL database; empty for the connection's own.
    root : str
        Where the files are; ``<butlerRoot>`` for the place of the configuration.
    records : str
        Table of the datastore's records.
    """

    registry: str
    namespace: str = ""
    root: str = _ROOT
    records: str = "file_datastore_records"

    def registry_url(self, root: str) -> str:
        """URL of the registry of the repository at ``root``, a local directory or a URI."""
        return self.registry.replace(_ROOT, root)

    def storage_root(self, root: str) -> str:
        """Root of the files of the repository at ``root``."""
        return self.root.replace(_ROOT, root).rstrip("/")


def read_configuration(text: bytes | str, place: str) -> Gen3Configuration:
    """Read a ``butler.yaml``.

    Parameters
    ----------
    text : bytes or str
        Its content.
    place : str
        Where it came from, for messages.

    Raises
    ------
    ConfigError
        If it is none, or one whose registry or datastore cannot be read here.
    """
    try:
        config = yaml.safe_load(text)
    except (yaml.YAMLError, UnicodeDecodeError) as exc:
        raise ConfigError(f"{place}: not YAML: {exc}") from None
    registry, datastore = (_mapping(config, name, place) for name in ("registry", "datastore"))
    kind = datastore.get("cls", _DATASTORE)
    if kind != _DATASTORE:
        raise ConfigError(
            f"{place}: files are kept by {kind!r}, which cannot be read here",
            hint="repositories with one file datastore can be attached",
        )
    url = registry.get("db")
    if not isinstance(url, str) or not url:
        raise ConfigError(f"{place}: registry.db does not say where the registry is")
    records = datastore.get("records") or {}
    table = records.get("table", "file_datastore_records") if isinstance(records, Mapping) else ""
    return Gen3Configuration(
        registry=url,
        namespace=str(registry.get("namespace") or ""),
        root=str(datastore.get("root") or _ROOT),
        records=str(table),
    )


def _mapping(config: Any, name: str, place: str) -> Mapping[str, Any]:
    found = config.get(name) if isinstance(config, Mapping) else None
    if not isinstance(found, Mapping):
        raise ConfigError(f"{place}: not the butler.yaml of a repository: it has no {name!r}")
    return found
