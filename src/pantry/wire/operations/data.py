"""Operations on the bytes of datasets."""

from __future__ import annotations

from typing import Literal
from uuid import UUID

import msgspec

from pantry.model.data_id import DataIdValue
from pantry.model.datasets import DatasetRef, StoredFile
from pantry.model.metadata import MetadataValue
from pantry.model.timespan import Timespan
from pantry.wire.operations.base import Operation
from pantry.wire.operations.repositories import Done

Transfer = Literal["copy", "move", "link", "hardlink", "symlink", "in_place"]
"""How `ingest` takes a file over: ``link`` is ``hardlink`` where it can be, else ``symlink``."""


class Opened(msgspec.Struct, frozen=True, kw_only=True):
    """An opened dataset; the read-only descriptor of its cached file comes with it.

    Attributes
    ----------
    ref : DatasetRef
        What was found.
    file : StoredFile
        What is recorded of its file.
    name : str
        The file's path in the mount below the repository, in a stage directory and in an export:
        ``<run>/<dataset type>/<values but the last>/<file>``.
    complete : bool
        Whether the whole file is there. If not, the descriptor has holes: a range may be read only
        after `FetchRanges` with ``handle`` said that it is there.
    handle : int
        For `FetchRanges` and `CloseOpened`; 0 if complete.
    was_cached : bool
        Whether nothing had to be fetched.
    origin : str
        URI from which it is or was fetched, without secrets.
    """

    ref: DatasetRef
    file: StoredFile
    name: str
    complete: bool
    handle: int = 0
    was_cached: bool = False
    origin: str = ""

    @property
    def size_bytes(self) -> int:
        """Length of its file."""
        return self.file.size_bytes


class OpenDataset(Operation[Opened], frozen=True, kw_only=True, omit_defaults=True, tag="data.open"):
    """Resolve and open in one round trip, by id or by dataset type and data id.

    Attributes
    ----------
    repository : str
        In which repository.
    id : uuid.UUID or None
        The dataset, if known.
    dataset_type, data_id, collections, timespan
        Otherwise, as in `FindDataset` with ``time_of_data_id``.
    partial : bool
        Answer at once, also when the file is not complete in the cache.
    cached_only : bool
        Answer only if it is complete there, without asking its origin for anything; else `NotCachedError`.
    here_only : bool
        The same for a file in another archive; the repository's own files are fetched.
    uncached : bool
        If it is not complete there, read it through memory: its handle became stale (`StaleHandleError`), as
        the disk cannot take more.
    ahead : bool
        Fetch ahead of this reader when it goes straight on; a mount sees all reads and does so itself.
    """

    result_type = Opened
    repository: str
    id: UUID | None = None
    dataset_type: str = ""
    data_id: dict[str, DataIdValue] = {}
    collections: tuple[str, ...] = ()
    timespan: Timespan | None = None
    partial: bool = False
    cached_only: bool = False
    here_only: bool = False
    uncached: bool = False
    ahead: bool = True


class FetchRanges(Operation[Done], frozen=True, kw_only=True, tag="data.fetch"):
    """Wait until the ranges ``[start, stop)`` of an incomplete file can be read from its descriptor.

    After a `StaleHandleError` this handle gives no more; what was read from its descriptor is right.
    """

    result_type = Done
    handle: int
    ranges: tuple[tuple[int, int], ...]


class CloseOpened(Operation[Done], frozen=True, kw_only=True, tag="data.close"):
    """Give an `Opened.handle` back."""

    result_type = Done
    handle: int


class PutTicket(msgspec.Struct, frozen=True, kw_only=True):
    """Leave to write; the read-write descriptor of an empty temporary file comes with it.

    Attributes
    ----------
    put : int
        For `CommitPut` and `AbortPut`.
    ref : DatasetRef
        What the dataset will be.
    formatter : str
        Name of the formatter to write with.
    python_type : str
        What the storage class expects.
    """

    put: int
    ref: DatasetRef
    formatter: str
    python_type: str


class BeginPut(Operation[PutTicket], frozen=True, kw_only=True, omit_defaults=True, tag="data.begin_put"):
    """Check that a dataset may be written and does not exist, and get a file to write it to.

    Attributes
    ----------
    repository, dataset_type, data_id, run
        What and where to.
    id : uuid.UUID or None
        Which id it shall have; None for a new one.
    formatter : str
        Name of the formatter that will write it; empty for what the repository or the storage class says.
    extension : str or None
        Suffix of its file; None for the usual one.
    """

    result_type = PutTicket
    repository: str
    dataset_type: str
    data_id: dict[str, DataIdValue]
    run: str
    id: UUID | None = None
    formatter: str = ""
    extension: str | None = None


class CommitPut(Operation[DatasetRef], frozen=True, kw_only=True, omit_defaults=True, tag="data.commit_put"):
    """Store what was written, all or nothing; when it returns the dataset is stored and findable.

    The client has closed its descriptor; what anybody writes later has no effect.

    Attributes
    ----------
    put : int
        Of the ticket.
    metadata : dict of str to value
        What the file says of the entries that the dataset type declares.
    publish : tuple of str
        Web services that it is published to, besides those that get every dataset of its type.
    publish_wait_s : float
        Commit only when all services that get it have accepted it, which may take so long, in seconds; 0: publish it
        afterwards.
    """

    result_type = DatasetRef
    put: int
    metadata: dict[str, MetadataValue] = {}
    publish: tuple[str, ...] = ()
    publish_wait_s: float = 0.0


MAX_CONTENT_BYTES = 64 * 1024
"""Longest content that `PutContent` takes, in bytes."""


class PutDone(msgspec.Struct, frozen=True):
    """The new dataset; None if its type is written by another formatter now, and nothing was stored."""

    ref: DatasetRef | None


class PutContent(Operation[PutDone], frozen=True, kw_only=True, omit_defaults=True, tag="data.put"):
    """Store a small dataset of which the client has the content already: a put by one request.

    Attributes
    ----------
    repository, dataset_type, run : str
        Where to and as what; the run is made if it does not exist.
    data_id : dict
        Dimension names and values.
    formatter : str
        Name of the formatter that wrote the content, as the ticket of an earlier put of this type said.
    content : bytes
        The file, at most `MAX_CONTENT_BYTES`.
    id : UUID or None
        Of the dataset; made if None.
    metadata : dict of str to value
        What the content says of the entries that the dataset type declares.
    """

    result_type = PutDone
    repository: str
    dataset_type: str
    data_id: dict[str, DataIdValue]
    run: str
    formatter: str
    content: bytes
    id: UUID | None = None
    metadata: dict[str, MetadataValue] = {}


MAX_GROUP = 64
"""Datasets that one group of puts may have."""


class PutTickets(msgspec.Struct, frozen=True):
    """Leave to write several datasets; a read-write descriptor for each comes with it, in their order.

    All tickets have the number of the group.
    """

    tickets: tuple[PutTicket, ...]


class BeginPuts(Operation[PutTickets], frozen=True, kw_only=True, tag="data.begin_puts"):
    """Do for several datasets, which are then stored all or none, what `BeginPut` does for one.

    Attributes
    ----------
    puts : tuple of BeginPut
        At most `MAX_GROUP`, of any repositories.
    """

    result_type = PutTickets
    puts: tuple[BeginPut, ...]


class StoredPuts(msgspec.Struct, frozen=True):
    """What was stored, in the order of the tickets."""

    refs: tuple[DatasetRef, ...]


class CommitPuts(Operation[StoredPuts], frozen=True, kw_only=True, omit_defaults=True, tag="data.commit_puts"):
    """Store all that was written for a group, or nothing of it.

    Attributes
    ----------
    put : int
        Of the tickets.
    metadata : tuple of dict of str to value
        As in `CommitPut`, for each dataset.
    publish, publish_wait_s
        As in `CommitPut`; of those whose type the service takes, each dataset once.
    """

    result_type = StoredPuts
    put: int
    metadata: tuple[dict[str, MetadataValue], ...]
    publish: tuple[str, ...] = ()
    publish_wait_s: float = 0.0


class AbortPut(Operation[Done], frozen=True, kw_only=True, tag="data.abort_put"):
    """Give up a put or a group of them; a broken connection does the same."""

    result_type = Done
    put: int


class IngestItem(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """One file to ingest.

    Attributes
    ----------
    path : str
        Absolute path of the file, or for ``in_place`` its key in the repository's storage.
    values : tuple of int or str
        Of the dimensions that `IngestFiles` names.
    """

    path: str
    values: tuple[DataIdValue, ...]


class Ingested(msgspec.Struct, frozen=True):
    """What was ingested: 16 bytes of dataset id for each item, in their order; zeros for one that existed."""

    ids: bytes


class IngestFiles(Operation[Ingested], frozen=True, kw_only=True, omit_defaults=True, tag="data.ingest"):
    """Take existing files into a repository, all or none (DMS-MWBT-REQ-0008, 0009).

    Unless the peer is the daemon's own user or ``transfer`` is ``in_place`` on a remote store, the
    request carries one readable descriptor per item, so that the daemon reads nothing that the user
    could not.

    Attributes
    ----------
    repository, dataset_type, run : str
        Where to and as what; the run is made if it does not exist.
    transfer : str
        See `Transfer`.
    dimensions : tuple of str
        What the items' values are of.
    items : tuple of IngestItem
        The files.
    formatter : str
        Name of the formatter that will read them; empty for the storage class's own.
    skip_existing : bool
        Pass over data ids that the run already has, in place of a `DatasetExistsError`.
    metadata : dict of str to list
        For each entry that the dataset type declares, what each file says of it.
    """

    result_type = Ingested
    repository: str
    dataset_type: str
    run: str
    transfer: Transfer
    dimensions: tuple[str, ...]
    items: tuple[IngestItem, ...]
    formatter: str = ""
    skip_existing: bool = False
    metadata: dict[str, list[MetadataValue]] = {}
