"""What changes a registry, and what is asked before: a room of `Registry`."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from uuid import UUID

from pantry.daemon.registry.datasets import Insert, NewDataset
from pantry.daemon.registry.declared import Columns
from pantry.daemon.registry.definitions import Definitions
from pantry.daemon.registry.engine import Session
from pantry.daemon.registry.parts import Parts
from pantry.daemon.registry.preparation import PreparedIngest, PreparedPut, PutWish
from pantry.daemon.registry.removed_files import RemovedFile
from pantry.daemon.registry.removing import Removal
from pantry.model.collections import CollectionType
from pantry.model.data_id import DataCoordinate, DataIdValue
from pantry.model.datasets import DatasetType, StoredFile
from pantry.model.records import DimensionRecord
from pantry.model.timespan import Timespan

__all__ = ["Changing"]


class Changing(Parts):
    """The methods of `Registry` that prepare and write."""

    def register_dataset_type(self, dataset_type: DatasetType) -> tuple[DatasetType, bool]:
        """Register a dataset type unless an equal one is.

        Returns
        -------
        DatasetType
            With complete dimensions, in the order of the universe.
        bool
            Whether it is new.

        Raises
        ------
        ConflictingDefinitionError
            If one of this name is defined differently.
        DatasetTypeError
            For an unknown storage class or a component.
        """
        complete = self._dataset_types.complete(dataset_type)
        known, new = self._write(self._dataset_types.register, complete)
        return known.definition, new

    def register_collection(self, name: str, type: CollectionType, doc: str = "") -> None:  # noqa: A002 - Gen3's name
        """Make a collection unless it exists; `ConflictingDefinitionError` if it is of another type."""
        self._write(self._collections.register, name, type, doc)

    def redefine_chain(self, name: str, children: Sequence[str]) -> None:
        """Set the children of a CHAINED collection, in search order; circles are refused."""
        self._write(self._collections.redefine_chain, name, tuple(children))

    def insert_dimension_records(
        self,
        records: Iterable[DimensionRecord],
        *,
        skip_existing: bool = False,
        compare: bool = False,
        replace: bool = False,
    ) -> int:
        """Insert dimension records of any elements, all or none.

        Parameters
        ----------
        records : iterable of DimensionRecord
            In any order; the bands of filters need no records of their own.
        skip_existing : bool
            Leave records with equal keys as they are.
        compare : bool
            With ``skip_existing``: those must say the same, as far as these say anything.
        replace : bool
            Put the given ones in the place of those with equal keys.

        Returns
        -------
        int
            How many are new or were replaced.

        Raises
        ------
        DataIdValueError
            For a value of the wrong type, or a record that another one needs and that is missing.
        ConflictError
            If a record exists or is different, or another one has the same alternate key.
        """
        rows = self._records.check(records)
        return self._write(self._records.insert, rows, skip_existing=skip_existing, compare=compare, replace=replace)

    def prepare_put(
        self,
        dataset_type: str,
        run: str,
        data_id: Mapping[str, object],
        extension: str | None = None,
        formatter: str = "",
    ) -> PreparedPut:
        """Check that a dataset may be stored, and say where.

        Parameters
        ----------
        dataset_type, run : str
            As what and in which RUN collection; it need not exist.
        data_id : Mapping
            Dimensions, alternate keys (``detector.full_name``) or record fields
            (``exposure.seq_num``, or ``seq_num`` if only one dimension has it) with their values.
        extension : str or None
            Suffix of the file, with its dot; None for the format's own.
        formatter : str
            Name of the formatter; empty for what the repository says, or the storage class.

        Raises
        ------
        DatasetExistsError
            If the run has such a dataset.
        DataIdValueError
            If a value has no dimension record.
        """
        (prepared,) = self.prepare_puts([PutWish(dataset_type, run, data_id, extension, formatter)])
        return prepared

    def prepare_puts(self, wishes: Iterable[PutWish]) -> list[PreparedPut]:
        """Check several datasets as `prepare_put` does, in one visit to the database."""
        with self._database.reading() as session:
            definitions = self._definitions.current(session)
            return [self._preparation.put(session, definitions, one) for one in wishes]

    def prepare_each(self, wishes: Iterable[PutWish]) -> list[PreparedPut | Exception]:
        """Check several datasets as `prepare_put` does, in one visit to the database; one that fails fails alone."""
        with self._database.reading() as session:
            definitions = self._definitions.current(session)
            return [self._prepare_alone(session, definitions, one) for one in wishes]

    def _prepare_alone(self, session: Session, definitions: Definitions, wish: PutWish) -> PreparedPut | Exception:
        try:
            return self._preparation.put(session, definitions, wish)
        except Exception as exc:
            return exc

    def expand_data_id(
        self, dataset_type: str, data_id: Mapping[str, object], run: str = ""
    ) -> tuple[DatasetType, DataCoordinate]:
        """Complete a data id as `prepare_put` does, and give the dataset type too; nothing is to be stored."""
        with self._database.reading() as session:
            definitions = self._definitions.current(session)
            known = definitions.dataset_type(dataset_type)
            return known.definition, self._preparation.expand(session, definitions, known, run, data_id)

    def prepare_ingest(
        self,
        dataset_type: str,
        run: str,
        dimensions: Sequence[str],
        rows: Sequence[Sequence[DataIdValue]],
        extensions: Sequence[str | None] | None = None,
        *,
        named: bool = True,
    ) -> PreparedIngest:
        """Check that many datasets may be stored, and say where; no query per row.

        Parameters
        ----------
        dataset_type, run : str
            As what and in which RUN collection.
        dimensions : sequence of str
            All required dimensions of the type, and implied ones if they shall be checked.
        rows : sequence of tuple
            Their values.
        extensions : sequence of str or None, optional
            For each row, the suffix of the file; None for the storage class's own.
        named : bool
            Whether paths are wanted.
        """
        with self._database.reading() as session:
            definitions = self._definitions.current(session)
            return self._preparation.ingest(
                session, definitions, dataset_type, run, dimensions, rows, extensions, named=named
            )

    def insert_datasets(
        self,
        run: str,
        dataset_type: str,
        new: Sequence[NewDataset],
        metadata: Columns | None = None,
        *,
        in_place: bool = False,
    ) -> None:
        """Insert datasets into a RUN collection, which is made if it is absent; all or none.

        Parameters
        ----------
        run, dataset_type : str
            Where and as what.
        new : sequence of (id, data id, StoredFile)
            The data id as a `DataCoordinate`, or as the values of the required dimensions.
        metadata : Mapping, optional
            For each declared entry's name a checked value for each of them.
        in_place : bool
            Whether the files were there already, and are not Pantry's to delete.

        Raises
        ------
        DatasetExistsError
            If the run has one of them, or two have the same data id.
        DataIdValueError
            If a value has no dimension record.
        """
        self._write(self._datasets.insert, run, dataset_type, new, metadata, in_place=in_place)

    def insert_each(self, inserts: Sequence[Insert]) -> list[BaseException | None]:
        """Do several times what `insert_datasets` does, by one commit; give the error of each that failed.

        Parameters
        ----------
        inserts : sequence of (run, dataset type, new, metadata)
            As of `insert_datasets`; each is all or none.
        """
        return self._write_each(self._datasets.insert, inserts)

    def insert_together(self, inserts: Sequence[Insert]) -> None:
        """Do several times what `insert_datasets` does, of several types and runs, all or none."""
        self._write(self._datasets.insert_together, inserts)

    def record_metadata(self, dataset_type: str, ids: Sequence[bytes], columns: Columns) -> int:
        """Store declared metadata of datasets of a type in place of what was there, all or none; give their number.

        Raises
        ------
        InvalidRequestError
            If the type declares no such entries, or a value is of another type.
        DatasetNotFoundError
            If one of the datasets is not there.
        """
        return self._write(self._datasets.declared.record, dataset_type, ids, columns)

    def delete_datasets(self, ids: Sequence[UUID | bytes]) -> list[StoredFile]:
        """Delete datasets from all collections; ids that are not there are passed over.

        Returns
        -------
        list of StoredFile
            The files of those that were there.
        """
        return self._write(self._datasets.delete, ids)

    def stored_datasets(self, after: int, count: int) -> list[tuple[int, bytes, str]]:
        """Give key, id and path of the next ``count`` datasets, whose keys are greater than ``after``."""
        with self._database.reading() as session:
            return self._removing.stored(session, after, count)

    def count_sharers(self, path: str) -> int:
        """Count the datasets that have a file which stays when one of them goes: shared, or ingested in place."""
        with self._database.reading() as session:
            return self._marks.sharers(session, path)

    def plan_removal(self, ids: Sequence[bytes], *, spared: Collection[str] = ()) -> Removal:
        """Say what `remove_datasets` would do, and change nothing."""
        with self._database.reading() as session:
            return self._removing.plan(session, ids, spared)

    def remove_datasets(
        self, ids: Sequence[bytes], token: str, *, missing_ok: bool = False, spared: Collection[str] = ()
    ) -> Removal:
        """Delete datasets, with the components of composites, for good; all or none.

        The names of their files are not free until `forget_removed`.

        Parameters
        ----------
        ids : sequence of bytes
            Which.
        token : str
            Of this removal; see `claim_removed_files`.
        missing_ok : bool
            Pass over those that are not there.
        spared : collection of str
            Paths of files that stay.

        Raises
        ------
        DatasetNotFoundError
            If one is not there.
        """
        return self._write(self._removing.remove, ids, token, missing_ok=missing_ok, spared=spared)

    def claim_removed_files(
        self, tokens: Sequence[str], claim: str, *, after: str = "", count: int = 1000
    ) -> list[RemovedFile]:
        """Give the next files to delete: of these removals, and those with which nobody goes on.

        Nobody else is given them within `ABANDONED_NS` from now; nothing may be deleted any more after that.

        Parameters
        ----------
        tokens : sequence of str
            Of the caller's removals, with ``claim``.
        claim : str
            Becomes the token of those with which nobody goes on.
        after : str
            Paths that are greater, in the database's order.
        count : int
            At most so many.
        """
        return self._write(self._removed.claim, tokens, claim, after, count)

    def count_removed_files(self, tokens: Sequence[str]) -> dict[str, int]:
        """Count the files that are still to be deleted, by the token of their removal."""
        with self._database.reading() as session:
            return self._removed.count(session, tokens)

    def forget_removed(self, files: Sequence[RemovedFile]) -> None:
        """Free the names of files that are gone, but for those that somebody else was given since."""
        self._write(self._removed.forget, files)

    def associate(self, collection: str, ids: Sequence[UUID | bytes]) -> int:
        """Put datasets into a TAGGED collection in place of those with the same type and data id."""
        return self._write(self._tagging.associate, collection, ids)

    def disassociate(self, collection: str, ids: Sequence[UUID | bytes]) -> int:
        """Take datasets out of a TAGGED collection; give the number that were in it."""
        return self._write(self._tagging.disassociate, collection, ids)

    def certify(self, collection: str, ids: Sequence[UUID | bytes], timespan: Timespan) -> int:
        """Make datasets valid for a time in a CALIBRATION collection.

        Raises
        ------
        ConflictError
            If another dataset of the same type and data id is valid in a part of this time.
        DatasetTypeError
            If a dataset's type is not a calibration type.
        """
        return self._write(self._tagging.certify, collection, ids, timespan)

    def decertify(
        self,
        collection: str,
        dataset_type: str,
        timespan: Timespan,
        data_ids: Sequence[Mapping[str, object]] | None = None,
    ) -> int:
        """Make a type's datasets invalid for a time; validity before and after it stays.

        Parameters
        ----------
        collection, dataset_type : str
            Where and what.
        timespan : Timespan
            The time to clear.
        data_ids : sequence of Mapping, optional
            Only these.

        Returns
        -------
        int
            How many validity ranges were cut or removed.
        """
        return self._write(self._tagging.decertify, collection, dataset_type, timespan, data_ids)
