"""From a Python object, or from files that exist, to datasets."""

from __future__ import annotations

import contextlib
import io
import os
from collections.abc import Callable, Iterable
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
    PutContent,
    PutTicket,
)
from pantry.wire.operations.data import MAX_CONTENT_BYTES


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
            formatter_by_name(ticket.formatter).write(obj, file, WriteRequest(given=given))

        # A stream can be read once only, and may be long.
        return self._put(write, dataset_ref_or_type, data_id, run, kwargs, at_once=not hasattr(obj, "read"))

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

        Arguments and errors as of `put`; the file is read from its position to its end.
        """

        def write(_: PutTicket, file: BinaryIO) -> None:
            import shutil

            shutil.copyfileobj(source, file, 1 << 20)

        return self._put(write, dataset_ref_or_type, data_id, run, kwargs, at_once=False)

    def _put(
        self,
        write: Callable[[PutTicket, BinaryIO], None],
        given: DatasetRef | DatasetType | str,
        data_id: DataId | None,
        run: str | None,
        more: dict[str, Any],
        *,
        at_once: bool,
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
            **self._own_form(given),
        )
        link = self.connection.link()
        # Where a user's own file says the form, nothing is remembered of it.
        at_once = at_once and not operation.formatter and operation.extension is None
        if at_once and (known := self._small_puts.get(operation.dataset_type)) is not None:
            content = _written(write, known)
            if (ref := self._put_content(link, operation, known, content)) is not None:
                return ref
            # It has become long, or is written by another formatter now.
            self._small_puts.pop(operation.dataset_type, None)
        ticket, fds = link.call_with_fds(operation)
        try:
            if len(fds) != 1:
                for fd in fds:
                    os.close(fd)
                raise ProtocolError(f"the daemon sent {len(fds)} descriptors in place of one")
            # Closed before the commit: what anybody writes later has no effect.
            with open(fds[0], "w+b") as file:
                write(ticket, file)
                file.flush()
                if at_once and os.fstat(file.fileno()).st_size <= MAX_CONTENT_BYTES:
                    self._small_puts[operation.dataset_type] = ticket
                entries = ticket.ref.dataset_type.metadata
                metadata = {}
                if entries:
                    # Not by its path: another user's daemon made it.
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

    def _put_content(self, link: Link, asked: BeginPut, known: PutTicket, content: bytes) -> DatasetRef | None:
        """Put by one request what is small; None if it is not, or not of this formatter any more."""
        if len(content) > MAX_CONTENT_BYTES:
            return None
        entries = known.ref.dataset_type.metadata
        name = f"{asked.dataset_type} {asked.data_id}"
        operation = PutContent(
            repository=asked.repository,
            dataset_type=asked.dataset_type,
            data_id=asked.data_id,
            run=asked.run,
            id=asked.id,
            formatter=known.formatter,
            content=content,
            metadata=read_entries(known.formatter, io.BytesIO(content), entries, name) if entries else {},
        )
        return link.call(operation).ref

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


def _written(write: Callable[[PutTicket, BinaryIO], None], ticket: PutTicket) -> bytes:
    """Let a formatter write into memory: a file like any other, since some libraries want its descriptor."""
    with open(os.memfd_create("pantry-put", os.MFD_CLOEXEC), "w+b") as file:
        write(ticket, file)
        file.seek(0)
        return file.read()


def _abort(link: Link, put: int, *, wait: bool) -> None:
    """Give up a put; waits for that, so that it can be tried again at once, unless the user is impatient."""
    if not wait:
        link.post(AbortPut(put=put))
        return
    # The daemon has given it up by itself if a commit failed or the connection broke.
    with contextlib.suppress(PantryError):
        link.call(AbortPut(put=put))
