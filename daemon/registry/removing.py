"""Datasets that go, with what is of them (docs/decisions/0065)."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from typing import Any, NamedTuple
from uuid import UUID

import sqlalchemy as sa

from pantry.daemon.registry.definitions import DefinitionsCache
from pantry.daemon.registry.engine import Database, Session, parameter
from pantry.daemon.registry.file_marks import FileMarks
from pantry.daemon.registry.files import file_columns, make_file
from pantry.daemon.registry.removed_files import RemovedFiles
from pantry.daemon.registry.schema import Schema
from pantry.daemon.registry.staged import stage_ids
from pantry.errors import DatasetNotFoundError
from pantry.model.datasets import StoredFile


class Removal(NamedTuple):
    """What goes with datasets, and what stays.

    Attributes
    ----------
    datasets : int
        How many datasets, with the components of composites.
    missing : list of bytes
        Ids that the registry does not know.
    removed : list of StoredFile
        Files that nobody needs any more.
    kept : int
        How many files stay: ingested in place, or of other datasets too.
    """

    datasets: int
    missing: list[bytes]
    removed: list[StoredFile]
    kept: int


class Removing:
    """Deletes datasets.

    Parameters
    ----------
    database, schema
        Where they are.
    written : DefinitionsCache
        The writer's own.
    read : DefinitionsCache
        For reading.
    marks : FileMarks
        Which files are not theirs alone.
    files : RemovedFiles
        Those that are to be deleted after them.
    delete : callable
        Deletes the rows of datasets by their ids, with a session.
    """

    def __init__(
        self,
        database: Database,
        schema: Schema,
        written: DefinitionsCache,
        read: DefinitionsCache,
        marks: FileMarks,
        files: RemovedFiles,
        delete: Callable[[Session, Sequence[UUID | bytes]], object],
    ) -> None:
        self._database = database
        self._schema = schema
        self._written = written
        self._read = read
        self._marks = marks
        self._files = files
        self._delete = delete

    def plan(self, session: Session, ids: Sequence[bytes], spared: Collection[str]) -> Removal:
        """Say what `remove` would do, and change nothing."""
        return self._find(session, self._read, ids, spared)[0]

    def remove(
        self, session: Session, ids: Sequence[bytes], token: str, *, missing_ok: bool, spared: Collection[str]
    ) -> Removal:
        """Delete datasets with the components of composites; see `Registry.remove_datasets`."""
        self._marks.require(session)
        removal, uuids = self._find(session, self._written, ids, spared)
        if removal.missing and not missing_ok:
            raise no_such_datasets(removal.missing, len(ids))
        self._delete(session, uuids)
        self._files.add(session, [file.path for file in removal.removed], token)
        return removal

    def _find(
        self, session: Session, definitions: DefinitionsCache, ids: Sequence[bytes], spared: Collection[str]
    ) -> tuple[Removal, list[UUID | bytes]]:
        given = list(dict.fromkeys(ids))
        rows = {row[0]: row for row in self._rows(session, given)}
        missing = [one for one in given if one not in rows]
        parts = self._components(session, definitions, [row[1] for row in rows.values()])
        rows.update({row[0]: row for row in self._rows(session, parts)})
        files = {row[2]: make_file(row[3:]) for row in rows.values()}
        by_path = {file.path: file for file in files.values() if file.path}
        kept = self._kept(session, set(files), set(by_path)) | by_path.keys() & set(spared)
        removed = [file for path, file in by_path.items() if path not in kept]
        return Removal(len(rows), missing, removed, len(kept)), list(rows)

    def stored(self, session: Session, after: int, count: int) -> list[tuple[int, bytes, str]]:
        """Give key, id and path of the next datasets after a key."""
        dataset = self._schema.dataset
        statement = self._database.prepare(
            ("stored", count),
            lambda: (
                sa.select(dataset.c.id, dataset.c.uuid, dataset.c.path)
                .where(dataset.c.id > parameter("after", sa.BigInteger))
                .order_by(dataset.c.id)
                .limit(count)
            ),
        )
        return [(key, bytes(id_), path) for key, id_, path in session.rows(statement, {"after": after})]

    def _rows(self, session: Session, ids: Sequence[bytes]) -> list[tuple[Any, ...]]:
        """Id, type, key and file of those that are there."""
        if not ids:
            return []
        dataset, staged = self._schema.dataset, stage_ids(session, self._schema, ids)
        columns = [dataset.c.uuid, dataset.c.dataset_type_id, dataset.c.id, *file_columns(dataset)]
        statement = self._database.prepare(
            "removing",
            lambda: sa.select(*columns).join_from(staged, dataset, dataset.c.uuid == staged.c.uuid),
        )
        return [(bytes(row[0]), *row[1:]) for row in session.rows(statement)]

    def _components(self, session: Session, definitions: DefinitionsCache, types: Iterable[int]) -> list[bytes]:
        """Ids of the components of those that are staged, in their runs."""
        current = definitions.current(session)
        dataset, staged = self._schema.dataset, self._schema.staged_ids
        found: list[bytes] = []
        for parent in set(types):
            begin = current.types_by_id[parent].definition.name + "."
            parts = [one.id for one in current.types.values() if one.definition.name.startswith(begin)]
            if not parts:
                continue
            other = dataset.alias("component")
            member = self._schema.membership
            same = sa.and_(
                member.c.collection_id == dataset.c.run_id,
                member.c.data_id_id == dataset.c.data_id_id,
                member.c.dataset_type_id.in_(parts),
            )
            statement = self._database.compile(
                sa.select(other.c.uuid)
                .join_from(staged, dataset, dataset.c.uuid == staged.c.uuid)
                .join(member, same)
                .join(other, sa.and_(other.c.id == member.c.dataset_id, other.c.run_id == dataset.c.run_id))
                .where(dataset.c.dataset_type_id == parent)
            )
            found += [bytes(row[0]) for row in session.rows(statement)]
        return found

    def _kept(self, session: Session, keys: set[int], paths: set[str]) -> set[str]:
        """Those of the paths whose file stays though the datasets of these keys go."""
        if not paths:
            return set()
        if not self._marks.exist(session):
            return paths
        mark, staged = self._schema.file_mark, self._schema.staged_paths
        session.create_temporary(staged)
        session.run_many(
            self._database.prepare_insert(staged), [(number, b"", path) for number, path in enumerate(paths)]
        )
        statement = self._database.prepare(
            "marked paths",
            lambda: sa.select(mark.c.path, mark.c.dataset_id, mark.c.in_place).join_from(
                staged, mark, mark.c.path == staged.c.path
            ),
        )
        return {path for path, key, in_place in session.rows(statement) if in_place or key not in keys}


def no_such_datasets(missing: Sequence[bytes], asked: int) -> DatasetNotFoundError:
    """Return the error for ids that a registry does not know."""
    return DatasetNotFoundError(
        f"{len(missing)} of {asked} datasets are not there, the first with id {UUID(bytes=missing[0])}; "
        "nothing was deleted",
        hint="use missing_ok (--missing-ok) to delete the others",
    )
