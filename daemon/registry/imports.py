"""The door for imports into a registry; see `pantry.wire.operations.importing`."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from pantry.daemon.registry.datasets import NewDataset
from pantry.daemon.registry.declared import Columns
from pantry.daemon.registry.definitions import DefinitionsCache
from pantry.daemon.registry.engine import Database, Session
from pantry.daemon.registry.import_members import ImportedMemberships
from pantry.daemon.registry.importing import ImportedDatasets, Lacking
from pantry.wire.operations.importing import ImportDatasets, ImportDefinitions, ImportedMembers


class Imports:
    """Takes what another repository exported; all methods may be called from any thread.

    Parameters
    ----------
    database : Database
        The registry's.
    definitions : DefinitionsCache
        For reading.
    datasets : ImportedDatasets
        Writes definitions, datasets and chains.
    members : ImportedMemberships
        Writes members of collections.
    write : callable
        Runs its first argument, with a session and the others, in a transaction.
    """

    def __init__(
        self,
        database: Database,
        definitions: DefinitionsCache,
        datasets: ImportedDatasets,
        members: ImportedMemberships,
        write: Callable[..., Any],
    ) -> None:
        self._database = database
        self._definitions = definitions
        self._datasets = datasets
        self._members = members
        self._write = write

    def define(self, asked: ImportDefinitions) -> int:
        """Register dataset types and collections, all or none; give how many are new.

        Raises
        ------
        ConflictingDefinitionError
            If one is there and defined differently.
        """
        return int(self._write(self._datasets.define, self._datasets.complete(asked), asked))

    def standings(self, asked: ImportDatasets) -> bytes:
        """Say how datasets that are to be imported stand here; see `Standings`.

        Raises
        ------
        ConflictError
            If an id is another dataset's here, or the run has another dataset of the same data id.
        """
        with self._database.reading() as session:
            return self._datasets.standings(session, self._definitions.current(session), asked)

    def insert(
        self,
        run: str,
        dataset_type: str,
        new: Sequence[NewDataset],
        lacking: Sequence[Lacking] = (),
        metadata: tuple[Columns, Columns] = ({}, {}),
        *,
        in_place: bool = False,
    ) -> None:
        """Insert datasets and give registered ones the file that they lack, all or none.

        ``metadata`` is of the new ones, then of the others. Files that were there already are ``in_place``.
        """
        self._write(self._datasets.insert, run, dataset_type, new, lacking, metadata, in_place=in_place)

    def fill(self, members: Sequence[ImportedMembers], chains: Mapping[str, Sequence[str]]) -> int:
        """Put datasets into TAGGED and CALIBRATION collections and collections into chains, all or none.

        Returns
        -------
        int
            How many members are new.
        """

        def work(session: Session) -> int:
            new = self._members.insert(session, members)
            self._datasets.chain(session, chains)
            return new

        return int(self._write(work))
