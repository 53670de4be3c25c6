"""Datasets' files taken to where there is no repository, and back."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Literal

from pantry.client.butler.access import RepositoryAccess
from pantry.model.datasets import DatasetRef

if TYPE_CHECKING:
    from pantry.client.staging import Staged


class TakingAway(RepositoryAccess):
    """The methods of `Butler` that take datasets away, and bring outputs back."""

    def stage(
        self,
        datasets: Iterable[DatasetRef],
        directory: str | os.PathLike[str],
        *,
        transfer: Literal["auto", "hardlink", "reflink", "copy"] = "auto",
        overwrite: bool = False,
        progress: Callable[[int, int], None] | None = None,
    ) -> Staged:
        """Put the files of datasets into a directory (DMS-MWBT-REQ-0052).

        Below it they are called as in the mount, ``<run>/<dataset type>/.../<file>``. Each appears when it is complete
        and its hash is right, or not at all. Asked again, files that are there are compared and left alone.

        Parameters
        ----------
        datasets : iterable of DatasetRef
            Which: what `query_datasets` finds, or a graph of `query_graph` with the inputs of a planned run.
        directory : str or path
            Where to; made if need be.
        transfer : str
            ``auto`` takes the first that can be had. ``reflink``: a file of its own that shares the blocks on the disk
            until one is changed (XFS, Btrfs). ``hardlink``: the repository's own file, where the repository is in a
            directory on the same file system; ``auto`` does so only with files that nobody may write to, since who
            writes to the link writes to the repository. ``copy``.
        overwrite : bool
            Replace files of other content, in place of `ConflictError`.
        progress : callable, optional
            Called after each file with the bytes that are done, and those that are known to come.

        Returns
        -------
        Staged
            The paths, and how many files got there in which way.

        Raises
        ------
        ConflictError
            There is another file by such a name.
        IntegrityError
            What the repository has is not what was registered.
        LimitExceededError
            The disk is full. What is complete stays.
        InvalidRequestError
            Hard links or reflinks were asked for, and cannot be had.

        Examples
        --------
        >>> butler.stage(butler.query_graph("raw", where="exposure = 12"), "/scratch/inputs").copies
        """
        from pantry.client.staging import stage

        return stage(self, datasets, directory, transfer=transfer, overwrite=overwrite, progress=progress)
