"""Deleting datasets."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple

from pantry.client.butler.access import RepositoryAccess, names
from pantry.client.connection import connect
from pantry.model.datasets import DatasetRef
from pantry.wire import operations as ops


class Deleted(NamedTuple):
    """What `Butler.delete` deleted, or would delete.

    Attributes
    ----------
    datasets : int
        Datasets, with the components of composites.
    missing : int
        Datasets that were not there.
    files, size_bytes : int
        Files that nobody needs any more, and their bytes.
    kept : int
        Files that stay: ingested in place, or of other datasets too.
    left : int
        Files of these and of earlier deletions that could not be deleted yet; the daemon goes on trying, also after a
        restart.
    reason : str
        Why, if there are or were such.
    """

    datasets: int = 0
    missing: int = 0
    files: int = 0
    size_bytes: int = 0
    kept: int = 0
    left: int = 0
    reason: str = ""


class Deleting(RepositoryAccess):
    """The methods of `Butler` that delete."""

    def delete(self, refs: Iterable[DatasetRef], *, missing_ok: bool = False, dry_run: bool = False) -> Deleted:
        """Delete datasets for good, with their files (DMS-MWBT-REQ-0004); who may write may delete.

        They leave every collection, as with ``pruneDatasets(unstore=True, purge=True)`` of the Gen3 Butler. Components
        of a composite that is stored in parts go with it. Files that were ingested in place stay, and so do quanta that
        name the datasets. All or none of up to 5,000; of more, those that are deleted when an error comes stay deleted.

        Parameters
        ----------
        refs : iterable of DatasetRef
            Which; they may be of several repositories of a chain.
        missing_ok : bool
            Pass over those that are not there.
        dry_run : bool
            Say what would be done, and change nothing.

        Returns
        -------
        Deleted
            What was done. If files are ``left``, the datasets are gone all the same.

        Raises
        ------
        PermissionDeniedError
            You may not write to the repository, or nobody can.
        DatasetNotFoundError
            One is not there.
        """
        if not dry_run:
            self._writing()
        by_repository: dict[str, dict[bytes, None]] = {}
        for ref in refs:
            by_repository.setdefault(ref.repository or self.repository, {})[ref.id.bytes] = None
        done = Deleted()
        for repository, ids in by_repository.items():
            left = 0
            for packed in _packed(list(ids)):
                one = self.connection.call(
                    ops.RemoveDatasets(repository=repository, ids=packed, missing_ok=missing_ok, dry_run=dry_run)
                )
                done = Deleted(
                    done.datasets + one.datasets,
                    done.missing + one.missing,
                    done.files + one.files,
                    done.size_bytes + one.size_bytes,
                    done.kept + one.kept,
                    # The daemon says what is left in the whole repository.
                    done.left - left + one.left,
                    one.reason or done.reason,
                )
                left = one.left
        return done

    @classmethod
    def remove_repository(
        cls, name: str, *, keep_files_of: str | Iterable[str] = (), dry_run: bool = False, socket: str | None = None
    ) -> ops.RemovedRepository:
        """Remove a repository for good, with its files, its registry and its registration (DMS-MWBT-REQ-0005).

        If something cannot be removed now, nobody can use the repository any more, and the same call goes on.

        Parameters
        ----------
        name : str
            By which it is registered; only its owner may. Of an attached one only the registration goes.
        keep_files_of : str or iterable of str
            Repositories whose files stay if they lie in this one (DMS-MWBT-REQ-0006): ingested there in place, or as
            symbolic links.
        dry_run : bool
            Say what would be done, and change nothing.
        socket : str, optional
            As of `Butler`.

        Returns
        -------
        RemovedRepository
            What was done, and what is left.
        """
        with connect(socket) as connection:
            return connection.call(
                ops.RemoveRepository(repository=name, keep_files_of=names(keep_files_of), dry_run=dry_run)
            )


def _packed(ids: list[bytes]) -> Iterator[bytes]:
    for begin in range(0, len(ids), ops.MAX_REMOVED):
        yield b"".join(ids[begin : begin + ops.MAX_REMOVED])
