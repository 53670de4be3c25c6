"""From a Python object, or from files that exist, to datasets."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterable, Mapping
from typing import Any, BinaryIO
from uuid import UUID

from pantry.client.butler.access import DataId, RepositoryAccess, data_id_values, type_name
from pantry.client.butler.forms import form_of
from pantry.client.connection import Link
from pantry.client.formatters import WriteRequest, formatter_by_name
from pantry.client.formatters.declared import read_entries
from pantry.errors import InvalidRequestError, MissingDatasetTypeError, PantryError, ProtocolError
from pantry.model.datasets import DatasetRef, DatasetType
from pantry.model.formats import NO_FORMATS
from pantry.wire.operations import (
    AbortPut,
    Associate,
    BeginPut,
    CommitPut,
    Disassociate,
    ListDatasetTypes,
    PutTicket,
)


class Writing(RepositoryAccess):
    """The writing methods of `Butler`."""

    def put(
        self,
        obj: Any,
        dataset_ref_or_type: DatasetRef | DatasetType | str,
        /,
        data_id: DataId | None = None,
        *,
        run: str | None = None,
        **kwargs: Any,
    ) -> DatasetRef:
        """Store a Python object as a new dataset, all or nothing (DMS-MWBT-REQ-0074).

        When this returns, the dataset is on its storage and in the registry.

        Parameters
        ----------
        obj : object
            Something that the dataset type's formatter can write.
        dataset_ref_or_type : DatasetRef, DatasetType or str
            What kind of dataset; a reference also says which one.
        data_id : Mapping, optional
            Which one: dimension names and values.
        run : str, optional
            The RUN collection; by default the Butler's own.
        **kwargs : int or str
            More of the data id.

        Returns
        -------
        DatasetRef
            The new dataset.

        Raises
        ------
        DatasetExistsError
            The run has such a dataset already; nothing is ever overwritten.
        FormatterError
            The formatter cannot write this object.
        PermissionDeniedError
            The repository's rules do not let this user write.
        """

        def write(ticket: PutTicket, file: BinaryIO) -> None:
            kind = ticket.ref.dataset_type
            form = form_of(kind.name, kind.storage_class, self._formats)
            given = form.write if form is not None and form.formatter == ticket.formatter else {}
            formatter_by_name(ticket.formatter).write(obj, file, WriteRequest(formatter=ticket.formatter, given=given))

        return self._put(write, dataset_ref_or_type, data_id, run, kwargs, self._own_form(dataset_ref_or_type))

    def put_file(
        self,
        source: BinaryIO,
        dataset_ref_or_type: DatasetRef | DatasetType | str,
        /,
        data_id: DataId | None = None,
        *,
        run: str | None = None,
        **kwargs: Any,
    ) -> DatasetRef:
        """Store the content of an open binary file, which is in the dataset type's format already.

        Arguments and errors as of `put`; the file is read from its position to its end. Its format is what the
        repository says; a user's own `formats` are for objects.
        """

        def write(_: PutTicket, file: BinaryIO) -> None:
            import shutil

            shutil.copyfileobj(source, file, 1 << 20)

        return self._put(write, dataset_ref_or_type, data_id, run, kwargs)

    def _put(
        self,
        write: Callable[[PutTicket, BinaryIO], None],
        given: DatasetRef | DatasetType | str,
        data_id: DataId | None,
        run: str | None,
        more: dict[str, Any],
        form: Mapping[str, Any] = {},
    ) -> DatasetRef:
        self._writing()
        id_ = None
        if isinstance(given, DatasetRef):
            if data_id or more:
                raise InvalidRequestError("a DatasetRef is complete: give no data id with it")
            data_id, run, id_ = given.data_id, run or given.run, given.id
        operation = BeginPut(
            repository=self.repository,
            dataset_type=type_name(given),
            data_id=data_id_values(data_id, more),
            run=self._run(run),
            id=id_,
            **form,
        )
        link = self.connection.link()
        ticket, fds = link.call_with_fds(operation)
        try:
            if len(fds) != 1:
                for fd in fds:
                    os.close(fd)
                raise ProtocolError(f"the daemon sent {len(fds)} descriptors in place of one")
            # Closed before the commit: what anybody writes later has no effect.
            with open(fds[0], "w+b") as file:
                write(ticket, file)
                entries = ticket.ref.dataset_type.metadata
                metadata = {}
                if entries:
                    # Not by its path: another user's daemon made it.
                    file.flush()
                    with open(os.dup(file.fileno()), "rb") as written:
                        metadata = read_entries(ticket.formatter, written, entries, str(ticket.ref))
            return link.call(CommitPut(put=ticket.put, metadata=metadata))
        except BaseException as exc:
            _abort(link, ticket.put, wait=isinstance(exc, Exception))
            raise

    def _own_form(self, given: DatasetRef | DatasetType | str) -> dict[str, Any]:
        """Give formatter and suffix if this user's file decides them; the daemon knows what the repository says."""
        if self.own_formats == NO_FORMATS:
            return {}
        kind = given.dataset_type if isinstance(given, DatasetRef) else given
        form = self.own_formats.of_type(type_name(kind))
        if (form is None or not form.formatter) and self.own_formats.storage_classes:
            if isinstance(kind, str):
                kind = self._dataset_type(kind)
            form = self.own_formats.storage_classes.get(kind.storage_class)
        if form is None or not form.formatter:
            return {}
        return {"formatter": form.formatter, "extension": form.extension or None}

    def _dataset_type(self, name: str) -> DatasetType:
        found = self.connection.call(ListDatasetTypes(repository=self.repository, patterns=(name,))).dataset_types
        for one in found:
            if one.name == name:
                return one
        raise MissingDatasetTypeError(f"no dataset type {name!r} in {self.repository!r}")

    def associate(self, collection: str, refs: Iterable[DatasetRef]) -> int:
        """Put datasets into a TAGGED collection, in place of members of the same type and data id.

        Returns how many.
        """
        self._writing()
        operation = Associate(repository=self.repository, collection=collection, ids=_ids(refs))
        return self.connection.call(operation).count

    def disassociate(self, collection: str, refs: Iterable[DatasetRef]) -> int:
        """Take datasets out of a TAGGED collection; those that are not in it are passed over.

        Returns how many.
        """
        self._writing()
        operation = Disassociate(repository=self.repository, collection=collection, ids=_ids(refs))
        return self.connection.call(operation).count


def _ids(refs: Iterable[DatasetRef]) -> tuple[UUID, ...]:
    return tuple(ref.id for ref in refs)


def _abort(link: Link, put: int, *, wait: bool) -> None:
    """Give up a put; waits for that, so that it can be tried again at once, unless the user is impatient."""
    if not wait:
        link.post(AbortPut(put=put))
        return
    # The daemon has given it up by itself if a commit failed or the connection broke.
    with contextlib.suppress(PantryError):
        link.call(AbortPut(put=put))
