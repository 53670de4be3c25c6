"""A small put whose content came with the request: everything blocking is done in the lane's thread."""

from __future__ import annotations

import time
import uuid
from contextlib import ExitStack

import xxhash

from pantry.daemon.datasets.lanes import LanePut
from pantry.daemon.journal import Intent, Target
from pantry.daemon.registry import PreparedPut, PutWish
from pantry.daemon.repositories.repository import Repository
from pantry.model.datasets import DatasetRef, StoredFile
from pantry.model.metadata import check_columns
from pantry.wire.operations import PutContent


class OtherFormatterError(Exception):
    """The dataset type is written by another formatter than the client believes."""


class ContentPut(LanePut):
    """A put by one request, on its way through the lane of its repository.

    Parameters
    ----------
    repository : Repository
        Where it goes.
    asked : PutContent
        What was asked.

    Attributes
    ----------
    ref, file
        What was made of it, once it is ready.
    """

    def __init__(self, repository: Repository, asked: PutContent) -> None:
        super().__init__(PutWish(asked.dataset_type, asked.run, asked.data_id))
        self.ref: DatasetRef | None = None
        self.file: StoredFile
        self._writing = ExitStack()
        self._repository = repository
        self._asked = asked

    def make_ready(self, prepared: PreparedPut) -> None:
        """Check what the client says of its content."""
        asked = self._asked
        self._writing.enter_context(self._repository.names.writing([prepared.path]))
        kind = prepared.dataset_type
        if prepared.form.formatter != asked.formatter:
            raise OtherFormatterError
        ref = DatasetRef(id=asked.id or uuid.uuid4(), dataset_type=kind, data_id=prepared.data_id, run=asked.run)
        columns = {name: [value] for name, value in asked.metadata.items()}
        checked = check_columns(kind.metadata, columns, [str(ref)]) if columns else {}
        self.file = StoredFile(
            path=prepared.path,
            size_bytes=len(asked.content),
            hash=xxhash.xxh3_128_hexdigest(asked.content),
            formatter=asked.formatter,
            ingest_ns=time.time_ns(),
        )
        target = Target(self._repository.name, prepared.path, ref.id.bytes, self.file.ingest_ns)
        intent = Intent(uuid.uuid4().hex, (target,))
        self.accept(intent, ref, self.file, asked.content, checked)
        self.ref = ref

    def end_writing(self) -> None:
        """Say that it is registered, or undone."""
        self._writing.close()
