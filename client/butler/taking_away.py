"""Datasets' files taken to where there is no repository, and back."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Literal

from pantry.client.butler.access import DataId, RepositoryAccess, names
from pantry.model.datasets import DatasetRef

if TYPE_CHECKING:
    from pantry.client.bundles import Bundled, Harvested
    from pantry.client.staging import Staged
    from pantry.client.subsetting import Subset


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

    def create_bundle(
        self,
        datasets: Iterable[DatasetRef],
        directory: str | os.PathLike[str],
        *,
        collections: str | Iterable[str] | None = None,
        run: str | None = None,
        data_ids: Iterable[DataId] = (),
        transfer: Literal["auto", "hardlink", "reflink", "copy"] = "auto",
        progress: Callable[[int, int], None] | None = None,
    ) -> Bundled:
        """Make a directory with datasets and all that is needed to use them where there is nothing else.

        Besides the files, as `stage` puts them, it has the dimension records of the datasets, all dataset types,
        collections, validity of calibrations, and what the repository says of formats. `Butler.from_bundle` reads it
        and writes outputs to it; `harvest` brings these back. Asked again, it makes only what is missing or damaged; a
        bundle that was not made to its end cannot be opened.

        Parameters
        ----------
        datasets : iterable of DatasetRef
            Which: what `query_datasets` finds, or a graph of `query_graph`, which also says the data ids of outputs.
        directory : str or path
            Where to; made if need be.
        collections : str or iterable of str, optional
            Where the bundle is searched by default: chains, TAGGED and CALIBRATION collections too. By default this
            Butler's own.
        run : str, optional
            Where it is written to by default; by default this Butler's own.
        data_ids : iterable of Mapping, optional
            Further data ids, such as those of outputs that will be put into it: their records are taken along.
        transfer, progress
            As of `stage`.

        Returns
        -------
        Bundled
            What was done.

        Raises
        ------
        ConflictError
            The directory is a bundle of another repository, or a file is in the way.
        LimitExceededError
            The disk is full. What is complete stays.

        Examples
        --------
        >>> graph = butler.query_graph("raw", dimensions="patch", where="tract = 9813 AND patch = 12")
        >>> butler.create_bundle(graph, "/scratch/job12", run="u/you/coadds")
        """
        from pantry.client.bundles import create_bundle

        return create_bundle(
            self,
            datasets,
            directory,
            collections=self._default_collections if collections is None else names(collections),
            run=self.run if run is None else run,
            data_ids=data_ids,
            transfer=transfer,
            progress=progress,
        )

    def harvest(
        self,
        bundle: str | os.PathLike[str],
        *,
        transfer: Literal["copy", "move", "link", "hardlink", "symlink"] = "copy",
        progress: Callable[[str, int, int], None] | None = None,
    ) -> Harvested:
        """Take the outputs of a bundle into this repository, with their ids and provenance (DMS-MWBT-REQ-0079).

        Each file is compared with the hash that it was put with. Asked again, it goes on where it was cut off, and
        passes over what is there.

        Parameters
        ----------
        bundle : str or path
            The bundle's directory.
        transfer : str
            How files are taken over, as of `ingest`.
        progress : callable, optional
            Called with what is done, how many are, and how many there will be.

        Returns
        -------
        Harvested
            What is new.

        Raises
        ------
        IntegrityError, NotFoundError
            An output is damaged, or gone. Nothing was harvested.
        ConflictError
            The repository has something else in the place of an output. Nothing is ever overwritten; requests before
            this one (up to 5,000 datasets each, all or none) stay.

        Examples
        --------
        >>> butler.harvest("/scratch/job12").datasets
        """
        from pantry.client.bundles import harvest

        return harvest(self, bundle, transfer=transfer, progress=progress)

    def subset(
        self,
        datasets: Iterable[DatasetRef],
        name: str,
        root: str | os.PathLike[str],
        *,
        collections: str | Iterable[str] | None = None,
        data_ids: Iterable[DataId] = (),
        transfer: Literal["auto", "hardlink", "copy"] = "auto",
        registry: str = "",
        storage_options: Mapping[str, str | int | float | bool] | None = None,
        readers: str | Iterable[str] = (),
        writers: str | Iterable[str] = (),
        progress: Callable[[str, int, int], None] | None = None,
    ) -> Subset:
        """Make a new repository that has a copy of a part of this one (DMS-MWBT-REQ-0011).

        The daemon transfers the files, and compares each with its registered hash; none is loaded. With them come the
        dimension records that they need, their dataset types, runs and ids, the components of composites, declared
        metadata, and the quanta that made them and their ancestors. Afterwards the new repository needs neither this
        one nor a network. Before it is complete nobody can read it. Asked again with the same source, name and root,
        it goes on where it was cut off; a complete subset gets what is missing.

        Parameters
        ----------
        datasets : iterable of DatasetRef
            Which: what `query_datasets` finds, or a graph of `query_graph`, of which also the dataset types and
            data ids of outputs come along.
        name : str
            How users will call the new repository.
        root : str or path
            Where its files go: a directory, or a URI such as ``s3://bucket/prefix``.
        collections : str or iterable of str, optional
            Chains, TAGGED and CALIBRATION collections that come along, with what they chain; of their members those
            that are among the datasets, calibrations with their validity. By default this Butler's own.
        data_ids : iterable of Mapping, optional
            Further data ids, such as those of outputs that will be put into it: their records are taken along.
        transfer : str
            ``copy``; ``hardlink``, where both repositories are directories on one file system; ``auto`` copies, which
            XFS and Btrfs do by sharing blocks, and links only files that nobody may write to.
        registry, storage_options, readers, writers
            As of `Butler.create`. Dimensions, formats and path templates are this repository's.
        progress : callable, optional
            Called with what is done, how many are, and how many there will be.

        Returns
        -------
        Subset
            What was done.

        Raises
        ------
        NotFoundError
            There are no datasets, or no such collection. Nothing was made.
        ConflictError
            Another repository has the name or the root.
        IntegrityError
            A file is not what was registered. What is complete stays.
        PermissionDeniedError
            You may not create repositories with this daemon.

        Examples
        --------
        >>> refs = butler.query_datasets("raw", where="exposure IN (12, 13)")
        >>> butler.subset(refs, "mini", "/data/mini").datasets
        """
        from pantry.client.subsetting import absolute, subset
        from pantry.wire.operations import BeginSubset

        begin = BeginSubset(
            name=name,
            root=absolute(root),
            source=self.repository,
            registry=registry,
            storage_options=dict(storage_options or {}),
            readers=names(readers),
            writers=names(writers),
        )
        return subset(
            self,
            datasets,
            begin,
            collections=self._default_collections if collections is None else names(collections),
            data_ids=data_ids,
            transfer=transfer,
            progress=progress,
        )

    def create_view(
        self,
        datasets: Iterable[DatasetRef],
        name: str,
        root: str | os.PathLike[str],
        *,
        collections: str | Iterable[str] | None = None,
        data_ids: Iterable[DataId] = (),
        registry: str = "",
        storage_options: Mapping[str, str | int | float | bool] | None = None,
        readers: str | Iterable[str] = (),
        writers: str | Iterable[str] = (),
        progress: Callable[[str, int, int], None] | None = None,
    ) -> Subset:
        """Make a new repository that is a view of a part of this one: nothing is copied (DMS-MWBT-REQ-0010).

        It has all that a `subset` has, but for the files. These stay where they are, and are read from there, through
        the one cache, by whoever may read both repositories. What is put into the view is stored in its own root. What
        is deleted in this repository is gone in the view too, which says so; what is deleted in the view stays here.

        Parameters
        ----------
        datasets, name, collections, data_ids, registry, storage_options, readers, writers, progress
            As of `subset`.
        root : str or path
            Where the view is described, and where the files go that are put into it: a directory, or a URI.

        Returns
        -------
        Subset
            What was done.

        Raises
        ------
        NotFoundError
            There are no datasets, or no such collection. Nothing was made.
        ConflictError
            Another repository has the name or the root.
        PermissionDeniedError
            You may not create repositories with this daemon.

        Examples
        --------
        >>> refs = butler.query_datasets("raw", where="exposure IN (12, 13)")
        >>> butler.create_view(refs, "night", "/data/night").datasets
        """
        from pantry.client.subsetting import absolute, subset
        from pantry.wire.operations import BeginSubset

        begin = BeginSubset(
            name=name,
            root=absolute(root),
            source=self.repository,
            registry=registry,
            storage_options=dict(storage_options or {}),
            readers=names(readers),
            writers=names(writers),
            view=True,
        )
        return subset(
            self,
            datasets,
            begin,
            collections=self._default_collections if collections is None else names(collections),
            data_ids=data_ids,
            transfer="view",
            progress=progress,
        )
