"""New datasets of a bundle: all or nothing, also when the process is killed."""

from __future__ import annotations

import contextlib
import errno
import itertools
import json
import os
import secrets
import threading
import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Any
from uuid import uuid4

import msgspec

from pantry.client.bundles.contents import Contents, KnownType, encode_key
from pantry.client.bundles.index import DIRECTORY, BundleIndex
from pantry.client.bundles.lookup import Lookup
from pantry.client.staging.placing import hash_file, translate_errors
from pantry.errors import (
    CollectionTypeError,
    ConflictError,
    DatasetExistsError,
    InvalidRequestError,
    PermissionDeniedError,
)
from pantry.model.collections import CollectionType, check_collection_name
from pantry.model.data_id import DataCoordinate
from pantry.model.datasets import DatasetRef
from pantry.model.formats import check_extension, stored_form, usual_extension
from pantry.model.metadata import MetadataValue, check_columns
from pantry.model.naming import dataset_path
from pantry.wire.operations import BeginPut, ExpandDataId, ExpandedDataId, PutContent, PutTicket
from pantry.wire.operations.data import MAX_GROUP

_INSERT = (
    "INSERT INTO dataset (id, dataset_type, run, data_id, path, size_bytes, hash, formatter, ingest_ns, modified_ns, "
    "metadata, output) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, 1)"
)


class _Draft(msgspec.Struct):
    """A put that was begun: its file has no name yet, or a temporary one."""

    ref: DatasetRef
    path: str
    formatter: str
    fd: int
    temporary: str


class Puts:
    """Begins and commits puts.

    Parameters
    ----------
    index : BundleIndex
        Where they are recorded.
    contents : Contents
        Dataset types and records.
    lookup : Lookup
        Resolves data ids.
    """

    def __init__(self, index: BundleIndex, contents: Contents, lookup: Lookup) -> None:
        self._index = index
        self._contents = contents
        self._lookup = lookup
        self._numbers = itertools.count(1)
        self._drafts: dict[int, list[_Draft]] = {}
        self._lock = threading.Lock()

    def begin(self, asked: Sequence[BeginPut]) -> tuple[tuple[PutTicket, ...], tuple[int, ...]]:
        """Check everything that can be known before objects are written; give an empty file for each too.

        They are then stored all or none, and have one number.
        """
        if not self._index.is_writable:
            raise PermissionDeniedError(f"you may not write to the bundle {self._index.directory}")
        if not 0 < len(asked) <= MAX_GROUP:
            raise InvalidRequestError(f"one group has 1 to {MAX_GROUP} datasets, not {len(asked)}")
        number = next(self._numbers)
        drafts: list[_Draft] = []
        tickets = []
        try:
            for one in asked:
                draft, python_type = self._begin(one)
                drafts.append(draft)
                tickets.append(PutTicket(put=number, ref=draft.ref, formatter=draft.formatter, python_type=python_type))
            if len({draft.path for draft in drafts}) < len(drafts) or len({draft.ref.id for draft in drafts}) < len(
                drafts
            ):
                raise DatasetExistsError("a dataset is there twice in one group")
            fds = tuple(os.dup(draft.fd) for draft in drafts)
        except BaseException:
            _drop(drafts)
            raise
        self._drafts[number] = drafts
        return tuple(tickets), fds

    def put(self, asked: PutContent) -> DatasetRef | None:
        """Store a small dataset whose content is there; None if its type is written by another formatter."""
        begun = BeginPut(
            repository=asked.repository,
            dataset_type=asked.dataset_type,
            data_id=asked.data_id,
            run=asked.run,
            id=asked.id,
        )
        ((ticket,), (fd,)) = self.begin([begun])
        try:
            with open(fd, "wb", buffering=0) as file:
                file.write(asked.content)
        except BaseException:
            self.abort(ticket.put)
            raise
        if ticket.formatter != asked.formatter:
            self.abort(ticket.put)
            return None
        return self.commit(ticket.put, [asked.metadata])[0]

    def expand(self, asked: ExpandDataId) -> ExpandedDataId:
        """Complete a data id, and check as a put would that a run may have such a dataset."""
        known, data_id = self._expanded(asked.dataset_type, asked.run, asked.data_id)
        return ExpandedDataId(known.definition, data_id)

    def _expanded(
        self, dataset_type: str, run_name: str, values: Mapping[str, object]
    ) -> tuple[KnownType, DataCoordinate]:
        definitions = self._contents.definitions()
        known = definitions.dataset_type(dataset_type)
        data_id = self._lookup.data_ids.expand(known.group, values)
        if run_name:
            check_collection_name(run_name)
            run = definitions.collections.get(run_name)
            if run is not None and run.type is not CollectionType.RUN:
                raise CollectionTypeError(f"{run_name!r} is a {run.type} collection; datasets are put into a RUN one")
            self._refuse_another(dataset_type, run_name, data_id)
        return known, data_id

    def _begin(self, asked: BeginPut) -> tuple[_Draft, str]:
        check_collection_name(asked.run)
        known, data_id = self._expanded(asked.dataset_type, asked.run, asked.data_id)
        kind = known.definition
        form = stored_form(kind.name, kind.storage_class, (self._contents.info.formats,))
        formatter, extension = form.formatter, form.extension
        if asked.formatter and asked.formatter != formatter:
            formatter, extension = asked.formatter, usual_extension(asked.formatter)
        if asked.extension is not None:
            check_extension(asked.extension, "extension")
            extension = asked.extension
        values = data_id.required
        order = self._contents.universe.path_order(known.group)
        path = dataset_path(asked.run, kind.name, [values[name] for name in order], extension)
        ref = DatasetRef(id=asked.id or uuid4(), dataset_type=kind, data_id=data_id, run=asked.run)
        self._refuse_taken(ref)
        fd, temporary = self._new_file()
        return _Draft(ref, path, formatter, fd, temporary), form.python_type

    def commit(self, number: int, metadata: Sequence[Mapping[str, MetadataValue]]) -> tuple[DatasetRef, ...]:
        """Store what was written, all or nothing; when it returns, everybody finds it."""
        drafts = self._take(number)
        try:
            if len(metadata) != len(drafts):
                raise InvalidRequestError(f"metadata of {len(metadata)} datasets for a put of {len(drafts)}")
            rows = [self._row(draft, given) for draft, given in zip(drafts, metadata, strict=True)]
            named: list[str] = []
            try:
                with self._index.writing():
                    for draft, row in zip(drafts, rows, strict=True):
                        self._register_run(draft.ref.run)
                        self._refuse_taken(draft.ref)
                        self._index.run(_INSERT, row)
                    # Before the rows are there for others. Files without rows are of a writer who was killed here.
                    for draft in drafts:
                        named.append(self._name(draft))  # noqa: PERF401 - what was named before a failure counts
            except BaseException:
                for path in named:
                    with contextlib.suppress(OSError):
                        os.unlink(path)
                raise
            return tuple(draft.ref for draft in drafts)
        finally:
            _drop(drafts)

    def _row(self, draft: _Draft, given: Mapping[str, MetadataValue]) -> tuple[Any, ...]:
        ref = draft.ref
        columns = {name: [value] for name, value in given.items()}
        checked = check_columns(ref.dataset_type.metadata, columns, [str(ref)])
        metadata = {name: values[0] for name, values in checked.items()}
        status = os.fstat(draft.fd)
        return (
            ref.id.bytes,
            ref.dataset_type.name,
            ref.run,
            encode_key(ref.data_id.required_values),
            draft.path,
            status.st_size,
            hash_file(draft.fd),
            draft.formatter,
            time.time_ns(),
            status.st_mtime_ns,
            json.dumps(metadata) if metadata else None,
        )

    def abort(self, number: int) -> None:
        """Give up a put or a group of them."""
        _drop(self._take(number))

    def abort_all(self) -> None:
        """Give up all puts, when the bundle is closed."""
        for number in list(self._drafts):
            with contextlib.suppress(InvalidRequestError):
                self.abort(number)

    # -- inside ------------------------------------------------------------------------------------

    def _take(self, number: int) -> list[_Draft]:
        with self._lock:
            if number not in self._drafts:
                raise InvalidRequestError(f"there is no put {number} under way")
            return self._drafts.pop(number)

    def _refuse_taken(self, ref: DatasetRef) -> None:
        self._refuse_another(ref.dataset_type.name, ref.run, ref.data_id)
        if self._index.row("SELECT 1 FROM dataset WHERE id = ?", (ref.id.bytes,)):
            raise ConflictError(f"the id {ref.id} is another dataset's", hint="every dataset has an id of its own")

    def _refuse_another(self, dataset_type: str, run: str, data_id: DataCoordinate) -> None:
        values = (dataset_type, run, encode_key(data_id.required_values))
        if self._index.row("SELECT 1 FROM dataset WHERE dataset_type = ? AND run = ? AND data_id = ?", values):
            raise DatasetExistsError(
                f"the run {run!r} already has a {dataset_type} for {data_id.required!r}",
                hint="datasets are never overwritten: put it into another run",
            )

    def _register_run(self, run: str) -> None:
        known = self._index.row("SELECT type FROM collection WHERE name = ?", (run,))
        if known is None:
            self._index.run("INSERT INTO collection VALUES (?, 'RUN', '', '[]', 1)", (run,))
            self._index.revise()
        elif known[0] != CollectionType.RUN:
            raise CollectionTypeError(f"{run!r} is a {known[0]} collection; datasets are put into a RUN one")

    def _new_file(self) -> tuple[int, str]:
        """Make a file without a name, which nothing is left of; or a temporary one where there are none such."""
        with translate_errors(self._index.directory):
            try:
                return os.open(self._index.directory, os.O_TMPFILE | os.O_RDWR | os.O_CLOEXEC, 0o666), ""
            except OSError as exc:
                if exc.errno not in (errno.EOPNOTSUPP, errno.EISDIR, errno.ENOENT, errno.EINVAL):
                    raise
            path = os.path.join(self._index.directory, DIRECTORY, f"{secrets.token_hex(8)}.part")
            return os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666), path

    def _name(self, draft: _Draft) -> str:
        """Give the file its name, in one step."""
        path = self._index.path(draft.path)
        with translate_errors(path):
            os.makedirs(os.path.dirname(path), exist_ok=True)
            # Under the writers' lock, and no row has it.
            with contextlib.suppress(FileNotFoundError):
                os.unlink(path)
            if draft.temporary:
                os.rename(draft.temporary, path)
                return path
            parent = os.open(os.path.dirname(path), os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                # With a directory's descriptor: without one, Python would link the link in /proc.
                os.link(f"/proc/self/fd/{draft.fd}", os.path.basename(path), dst_dir_fd=parent, follow_symlinks=True)
            finally:
                os.close(parent)
        return path


def _drop(drafts: Iterable[_Draft]) -> None:
    for draft in drafts:
        os.close(draft.fd)
        if draft.temporary:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(draft.temporary)
