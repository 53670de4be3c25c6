"""What a registry says of itself, and the dimensions that a new one gets."""

from __future__ import annotations

import json
from collections.abc import Iterable
from importlib import resources
from typing import Any

import sqlalchemy as sa
import yaml

from pantry.daemon.registry.engine import Database, Session
from pantry.daemon.registry.schema import Schema
from pantry.errors import RepositoryNotFoundError

UNFINISHED = "unfinished"
"""Attribute of a registry that is still being filled (docs/decisions/0047-subsets.md)."""

REMOVING = "removing"
"""Attribute of a registry whose repository is being removed: the names of those whose files stay, as JSON."""


def default_universe() -> dict[str, Any]:
    """Return the configuration of the default universe of dimensions."""
    text = resources.files(__package__).joinpath("dimensions.yaml").read_text(encoding="utf-8")
    config: dict[str, Any] = yaml.safe_load(text)
    return config


def read_attributes(database: Database) -> dict[str, str]:
    """Read the attributes of a registry; `RepositoryNotFoundError` if the database has none."""
    with database.reading() as session:
        if not database.has_table(session, "repository_attributes"):
            raise RepositoryNotFoundError("there is no registry here", hint=database.shown_url)
        table = sa.table("repository_attributes", sa.column("key"), sa.column("value"))
        return dict(session.rows(database.compile(sa.select(table.c.key, table.c.value))))


def kept_files_of(value: str) -> list[str]:
    """Give the names of the repositories whose files stay, as `REMOVING` says."""
    # The first version did not know them.
    return [] if value == "yes" else [str(name) for name in json.loads(value)]


def begin_removal(session: Session, schema: Schema, names: Iterable[str]) -> list[str]:
    """Set `REMOVING`; give all names that were ever said."""
    table = schema.attribute
    found = session.row(session.database.compile(sa.select(table.c.value).where(table.c.key == REMOVING)))
    every = sorted({*names, *(kept_files_of(found[0]) if found else ())})
    set_attribute(session, schema, REMOVING, json.dumps(every))
    return every


def delete_attribute(session: Session, schema: Schema, key: str) -> None:
    """Delete an attribute; no error if there is none."""
    table = schema.attribute
    session.run(session.database.compile(sa.delete(table).where(table.c.key == key)))


def set_attribute(session: Session, schema: Schema, key: str, value: str) -> None:
    """Set an attribute."""
    delete_attribute(session, schema, key)
    session.run_many(session.database.prepare_insert(schema.attribute), [(key, value)])
