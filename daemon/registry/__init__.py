"""The registry: what a repository holds, in SQLite or PostgreSQL.

`Registry` is the door, and makes and opens registries; `changing` and `asking` have its methods that write
and read, and hand their work to the parts that `parts` puts together, of which each does one thing. Writes of
all callers go through one writer thread, which commits them in groups; reads run in the caller's thread.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import sqlalchemy as sa

from pantry.daemon.registry.asking import Asking
from pantry.daemon.registry.attributes import (
    REMOVING,
    UNFINISHED,
    begin_removal,
    default_universe,
    delete_attribute,
    kept_files_of,
    read_attributes,
    set_attribute,
)
from pantry.daemon.registry.changing import Changing
from pantry.daemon.registry.datasets import Insert, NewDataset
from pantry.daemon.registry.definitions import COLLECTIONS, DATASET_TYPES
from pantry.daemon.registry.dropping import require_droppable
from pantry.daemon.registry.engine import Database, Session
from pantry.daemon.registry.operator_tables import OperatorTable
from pantry.daemon.registry.overrides import Override
from pantry.daemon.registry.preparation import PreparedIngest, PreparedPut, PutWish
from pantry.daemon.registry.references import HOLDERS, holders_in
from pantry.daemon.registry.schema import Schema
from pantry.errors import ConfigError, ConflictError
from pantry.model.dimensions import DimensionUniverse
from pantry.model.formats import Formats
from pantry.model.repository import DATA_MODEL_VERSION
from pantry.model.templates import Templates

__all__ = ["Insert", "NewDataset", "PreparedIngest", "PreparedPut", "PutWish", "Registry", "default_universe"]


class Registry(Changing, Asking):
    """A repository's registry; all methods may be called from any thread.

    Methods block while the database works, so the daemon calls them in worker threads. Made by
    `create` or `open`.

    Attributes
    ----------
    universe : DimensionUniverse
        The repository's dimensions.
    uuid : str
        The repository's, made at its creation.
    version : int
        Version of its data model.
    is_unfinished : bool
        Whether it is still being filled, so that nobody should read it; see `still_unfinished`.
    is_being_removed : bool
        Whether it goes with its repository.
    keeps_files_of : tuple of str
        Names of the repositories whose files stay then.
    holders : dict of str to str
        Names, by uuid, of the repositories whose files it refers to.
    provenance : Provenance
        What was made of what.
    imports : Imports
        Takes what another repository exported.
    writes : int
        Another number after each write through this object; safe to read in any thread.
    """

    @classmethod
    def create(cls, url: str, universe: Mapping[str, Any], *, uuid: str, unfinished: bool = False) -> Registry:
        """Make a new registry in an SQLite file or a PostgreSQL database and open it.

        Parameters
        ----------
        url : str
            SQLAlchemy URL; the file must not exist or be empty, the database hold no registry.
        universe : Mapping
            Configuration of the dimensions (see `default_universe`).
        uuid : str
            The repository's.
        unfinished : bool
            Nobody should read it until `finish`.

        Raises
        ------
        ConflictError
            If there is a registry already.
        ConfigError
            If the URL or the universe is wrong.
        """
        schema = Schema(DimensionUniverse(universe))
        database = Database(url)
        attributes = {"uuid": uuid, "version": str(DATA_MODEL_VERSION), "universe": json.dumps(universe)}
        if unfinished:
            attributes[UNFINISHED] = "yes"
        try:
            with database.writing() as session:
                if database.has_table(session, schema.attribute.name):
                    raise ConflictError("there is a registry already", hint=database.shown_url)
                session.create(*schema.fixed)
                session.run_many(database.prepare_insert(schema.attribute), list(attributes.items()))
                session.run_many(database.prepare_insert(schema.revision), [(COLLECTIONS, 0), (DATASET_TYPES, 0)])
        finally:
            database.close()
        return cls.open(url)

    @classmethod
    def open(cls, url: str, *, tables: Sequence[OperatorTable] = ()) -> Registry:
        """Open an existing registry.

        Parameters
        ----------
        url : str
            SQLAlchemy URL.
        tables : sequence of OperatorTable
            Beside the registry's own, to be read only.

        Raises
        ------
        RepositoryNotFoundError
            If there is none.
        ConfigError
            If it was made by a newer version of Pantry than this one, or by one before the first release.
        """
        database = Database(url)
        try:
            attributes = read_attributes(database)
            version = int(attributes["version"])
            if version > DATA_MODEL_VERSION:
                raise ConfigError(
                    f"the repository has data model version {version}; this Pantry knows up to {DATA_MODEL_VERSION}",
                    hint="update Pantry on this node",
                )
            if version < DATA_MODEL_VERSION:
                raise ConfigError(
                    f"the repository has data model version {version}, of Pantry before its first release; this one "
                    f"works with {DATA_MODEL_VERSION}",
                    hint="make a new repository and ingest the files again; nothing in the old one was changed",
                )
            universe = DimensionUniverse(json.loads(attributes["universe"]))
            made = cls(database, uuid=attributes["uuid"], version=version, universe=universe, tables=tables)
            made._learn(attributes)
            return made
        except BaseException:
            database.close()
            raise

    @property
    def universe_config(self) -> dict[str, Any]:
        """Configuration of the dimensions that are the repository's own, without elements of operators' tables."""
        config = self.universe.config
        own = {name: body for name, body in config["elements"].items() if name not in self._schema.foreign}
        return {**config, "elements": own}

    def still_unfinished(self) -> bool:
        """Look again whether it is still being filled: another daemon may have finished it."""
        self._learn(read_attributes(self._database))
        return self.is_unfinished

    def _learn(self, attributes: Mapping[str, str]) -> None:
        self.is_being_removed = REMOVING in attributes
        self.keeps_files_of = tuple(kept_files_of(attributes.get(REMOVING, "[]")))
        self.is_unfinished = UNFINISHED in attributes or self.is_being_removed
        self.holders = holders_in(attributes.get(HOLDERS, "{}"))

    def finish(self) -> None:
        """Say that it may be read."""
        self._write(delete_attribute, self._schema, UNFINISHED)
        self.is_unfinished = False

    def read_holders(self) -> dict[str, str]:
        """Look again which repositories it refers to: another daemon may have made it a view of more."""
        self._learn(read_attributes(self._database))
        return self.holders

    def add_holders(self, holders: Mapping[str, str]) -> None:
        """Remember repositories, names by uuid, before datasets are registered whose files are theirs."""
        if not holders.items() <= self.holders.items():
            self.holders = self._write(self._with_holders, dict(holders))

    def _with_holders(self, session: Session, new: dict[str, str]) -> dict[str, str]:
        table = self._schema.attribute
        found = session.rows(self._database.compile(sa.select(table.c.value).where(table.c.key == HOLDERS)))
        holders = {**holders_in(found[0][0] if found else "{}"), **new}
        set_attribute(session, self._schema, HOLDERS, json.dumps(holders))
        return holders

    @property
    def url(self) -> str:
        """Its SQLAlchemy URL, which may hold a password."""
        return self._database.engine.url.render_as_string(hide_password=False)

    def require_droppable(self) -> None:
        """Raise `ConflictError` if views or tables that are not its own use its tables."""
        require_droppable(self._database)

    def begin_removal(self, keep_files_of: Sequence[str] = ()) -> tuple[str, ...]:
        """Say that nobody shall read it or write to it any more; other daemons that have it open do not look again.

        Parameters
        ----------
        keep_files_of : sequence of str
            Names of repositories whose files stay; remembered with those of earlier calls.

        Returns
        -------
        tuple of str
            All of them.
        """
        names = self._write(begin_removal, self._schema, keep_files_of)
        self.keeps_files_of = tuple(names)
        self.is_unfinished = self.is_being_removed = True
        return self.keeps_files_of

    def override(self, overrides: Sequence[Override]) -> None:
        """Let searches of the first dataset find others; once, before any search."""
        self._queries.plans.overrides = tuple(overrides)

    def use_templates(self, templates: Templates) -> None:
        """Store new datasets where the repository's templates say; once, before any are written.

        Raises
        ------
        ConfigError
            A template names what is no dimension, or two datasets could share a path.
        """
        with self._database.reading() as session:
            types = self._definitions.current(session).types
        self._placing.use(templates, list(types.values()))

    def use_formats(self, formats: Formats) -> None:
        """Store new datasets as the repository's configuration says; once, before any are written."""
        self._preparation.formats = (formats,)
        self._dataset_types.formats = (formats,)
