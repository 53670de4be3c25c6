"""Operations that delete datasets."""

from __future__ import annotations

import msgspec

from pantry.wire.operations.base import Operation

MAX_REMOVED = 5000
"""Datasets of one request."""


class RemovedDatasets(msgspec.Struct, frozen=True, kw_only=True):
    """What was deleted, or would be.

    Attributes
    ----------
    datasets : int
        Datasets, with the components of composites.
    missing : int
        How many of those named were not there.
    files, size_bytes : int
        Files that nobody needs any more, and their bytes.
    kept : int
        Files that stay: ingested in place, or of other datasets too.
    left : int
        Of ``files``, those that could not be deleted yet; the daemon goes on trying.
    reason : str
        Why.
    """

    datasets: int
    missing: int
    files: int
    size_bytes: int
    kept: int
    left: int = 0
    reason: str = ""


class RemoveDatasets(Operation[RemovedDatasets], frozen=True, kw_only=True, omit_defaults=True, tag="dataset.remove"):
    """Delete datasets for good, all or none, with their files (DMS-MWBT-REQ-0004).

    Attributes
    ----------
    repository : str
        In which repository; of several the first.
    ids : bytes
        Their ids, 16 bytes each.
    missing_ok : bool
        Pass over those that are not there.
    dry_run : bool
        Say what would be done, and change nothing.
    """

    result_type = RemovedDatasets
    repository: str
    ids: bytes
    missing_ok: bool = False
    dry_run: bool = False


class RemovedRepository(msgspec.Struct, frozen=True, kw_only=True):
    """What was removed, or would be.

    Attributes
    ----------
    datasets, files, size_bytes, kept, left, reason
        As of `RemovedDatasets`. If files are ``left``, so is the repository, which nobody can use: ask again.
    others : int
        Files that are in the root in the end, and are not Pantry's or were kept; counted up to 1,000.
    keep_files_of : tuple of str
        Repositories whose files stay: those that were named now, and when its removal began.
    """

    datasets: int = 0
    files: int = 0
    size_bytes: int = 0
    kept: int = 0
    left: int = 0
    reason: str = ""
    others: int = 0
    keep_files_of: tuple[str, ...] = ()


class RemoveRepository(Operation[RemovedRepository], frozen=True, kw_only=True, omit_defaults=True, tag="repo.remove"):
    """Remove a repository with its files, its registry and its registration (DMS-MWBT-REQ-0005, 0006).

    Attributes
    ----------
    repository : str
        Which; of an attached one only the registration.
    keep_files_of : tuple of str
        Repositories whose files stay where they lie, if they lie in this one; remembered until it is gone.
    dry_run : bool
        Say what would be done, and change nothing.
    """

    result_type = RemovedRepository
    repository: str
    keep_files_of: tuple[str, ...] = ()
    dry_run: bool = False
