"""From a Python object, or from files that exist, to datasets."""

from __future__ import annotations

import functools
import io
import os
from collections.abc import Callable, Iterable, Mapping
from typing import Any, BinaryIO
from uuid import UUID

from pantry.client.butler.access import DataId, data_id_values, names, type_name
from pantry.client.butler.contributors import file_provenance
from pantry.client.butler.group_writing import abort_put, put_group
from pantry.client.butler.in_memory import InMemory
from pantry.client.butler.pieces import PieceMaking
from pantry.client.butler.publishing import NOT_PUBLISHED, PublishWish, publish_wish
from pantry.client.connection import Link
from pantry.client.formatters.declared import read_entries
from pantry.errors import InvalidRequestError, ProtocolError
from pantry.model.datasets import DatasetRef, DatasetType
from pantry.model.file_provenance import FileProvenance
from pantry.wire.operations import (
    Associate,
    BeginPut,
    CommitPut,
    Disassociate,
    PutContent,
    PutTicket,
)
from pantry.wire.operations.data import MAX_CONTENT_BYTES

Provenance = Iterable[DatasetRef] | FileProvenance
"""The parents of a dataset, or all that its file shall say."""

Outputs = str | Iterable[str] | Mapping[str, str]
"""Names of repositories, or for each its run."""


_IN_MEMORY = ("bytes", "json", "yaml")
"""Formatters that have the whole content in memory before they write it, however long it is."""


class Writing(PieceMaking, InMemory):
    """The writing methods of `Butler`.

    Attributes
    ----------
    outputs : Outputs or None
        Where `put` writes if it is not told; None for the Butler's own repository.
    """

    outputs: Outputs | None = None

    def put(
        self,
        obj: Any,
        dataset_ref_or_type: DatasetRef | DatasetType | str,
        /,
        data_id: DataId | None = None,
        *,
        run: str | None = None,
        outputs: Outputs | None = None,
        provenance: Provenance | None = None,
        publish: str | Iterable[str] = (),
        wait: bool | float = False,
        **kwargs: Any,
    ) -> DatasetRef:
        """Store a Python object as a new dataset, all or nothing (DMS-MWBT-REQ-0063, 0073 to 0076).

        When this returns, the dataset is on its storage and in the registry, of every repository that it goes to. If
        the formats say ``memory: true`` of its type, the object itself stays in this process, and nothing is stored.

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
        outputs : str, iterable of str or Mapping of str to str, optional
            The repositories that it goes to, all or none, in the format of each; a mapping also says the run in
            each. It has one id everywhere. By default the Butler's own `outputs`, else its repository.
        provenance : iterable of DatasetRef or FileProvenance, optional
            The dataset's immediate parents. They are written into its file, or beside it where the format has no room,
            with the raw data that the registry knows among their ancestors (DMS-MWBT-REQ-0093, 0096);
            ``get("type.provenance")`` reads them. ``obj`` is not changed.
        publish : str or iterable of str
            Web services that it is published to, by the names that `publish_targets` lists: at least once, if it is
            stored (DMS-MWBT-REQ-0072).
        wait : bool or float
            Store it only if the services that it is published to have accepted it: True for at most five minutes, or
            so many seconds.
        **kwargs : int or str
            More of the data id.

        Returns
        -------
        DatasetRef
            The new dataset, as the first of the repositories has it.

        Raises
        ------
        DatasetExistsError
            The run has such a dataset already; nothing is ever overwritten.
        FormatterError
            The formatter cannot write this object.
        PermissionDeniedError
            The repository's rules do not let this user write.
        PublishError
            With ``wait``: a service did not accept it; nothing was stored.
        """
        wish = publish_wish(publish, wait)
        if self._stays_in_memory(dataset_ref_or_type):
            if outputs is not None or wish != NOT_PUBLISHED:
                raise InvalidRequestError(
                    f"a {type_name(dataset_ref_or_type)} stays in memory, so that it goes to no repository or service",
                    hint="give no outputs and do not publish it, or make the Butler with formats that say memory: false",
                )
            return self._put_in_memory(obj, dataset_ref_or_type, data_id, run, kwargs)
        targets = self._targets(run, outputs, dataset_ref_or_type)
        alone = [repository for repository, _ in targets] == [self.repository]
        if alone and provenance is None and not any(layer.disassembles for layer in self._formats):
            return self._put(
                functools.partial(self._format, obj, self._formats, None),
                dataset_ref_or_type,
                data_id,
                targets[0][1],
                kwargs,
                self._own_form(dataset_ref_or_type),
                wish,
                # A stream can be read once only, and may be long.
                at_once=not hasattr(obj, "read") and not (isinstance(obj, bytes) and len(obj) > MAX_CONTENT_BYTES),
            )
        self._writing()
        said = file_provenance(self, provenance) if provenance is not None else None
        pieces = self._pieces(obj, dataset_ref_or_type, data_id, kwargs, targets, said)
        return put_group(self.connection.link(), pieces, wish)[0]

    def _targets(
        self, run: str | None, outputs: Outputs | None, given: DatasetRef | DatasetType | str
    ) -> list[tuple[str, str]]:
        """Return the repositories that a put goes to, and its run in each."""
        outputs = self.outputs if outputs is None else outputs
        if isinstance(given, DatasetRef) and run is None and not isinstance(outputs, Mapping):
            run = given.run
        if outputs is None:
            return [(self.repository, self._run(run))]
        if isinstance(outputs, Mapping):
            if run is not None:
                raise InvalidRequestError("give the run in each of the outputs, or one run, not both")
            found = list(outputs.items())
        else:
            found = [(name, self._run(run)) for name in names(outputs)]
        repositories = [name for name, _ in found]
        texts = all(isinstance(text, str) for pair in found for text in pair)
        if not found or not texts or len(set(repositories)) < len(repositories):
            raise InvalidRequestError(f"outputs are repositories, each once, not {outputs!r}")
        return found

    def put_file(
        self,
        source: BinaryIO,
        dataset_ref_or_type: DatasetRef | DatasetType | str,
        /,
        data_id: DataId | None = None,
        *,
        run: str | None = None,
        publish: str | Iterable[str] = (),
        wait: bool | float = False,
        **kwargs: Any,
    ) -> DatasetRef:
        """Store the content of an open binary file, which is in the dataset type's format already.

        Arguments and errors as of `put`; the file is read from its position to its end. Its format is what the
        repository says; a user's own `formats` are for objects.
        """
        if self._stays_in_memory(dataset_ref_or_type):
            raise InvalidRequestError(
                f"a {type_name(dataset_ref_or_type)} stays in memory, and a file is no object", hint="put the object"
            )

        def write(_: PutTicket, file: BinaryIO) -> None:
            import shutil

            shutil.copyfileobj(source, file, 1 << 20)

        wish = publish_wish(publish, wait)
        return self._put(write, dataset_ref_or_type, data_id, run, kwargs, wish=wish, at_once=False)

    def _put(
        self,
        write: Callable[[PutTicket, BinaryIO], None],
        given: DatasetRef | DatasetType | str,
        data_id: DataId | None,
        run: str | None,
        more: dict[str, Any],
        form: Mapping[str, Any] = {},
        wish: PublishWish = NOT_PUBLISHED,
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
            **form,
        )
        link = self.connection.link()
        # Where a user's own file says the form, nothing is remembered of it.
        at_once = at_once and not operation.formatter and operation.extension is None and wish == NOT_PUBLISHED
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
                is_small = os.fstat(file.fileno()).st_size <= MAX_CONTENT_BYTES
                if at_once and is_small and ticket.formatter in _IN_MEMORY:
                    self._small_puts[operation.dataset_type] = ticket
                entries = ticket.ref.dataset_type.metadata
                metadata = {}
                if entries:
                    # Not by its path: another user's daemon made it.
                    with open(os.dup(file.fileno()), "rb") as written:
                        metadata = read_entries(ticket.formatter, written, entries, str(ticket.ref))
            commit = CommitPut(put=ticket.put, metadata=metadata, publish=wish.targets, publish_wait_s=wish.wait_s)
            return link.call(commit)
        except BaseException as exc:
            abort_put(link, ticket.put, wait=isinstance(exc, Exception))
            raise

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
    """Let a formatter write into memory."""
    file = io.BytesIO()
    write(ticket, file)
    return file.getvalue()
