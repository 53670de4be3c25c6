"""The Butler: one repository, as its users work with it."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from typing import Any, Literal

from pantry.client.butler.access import missing_or_default, names
from pantry.client.butler.associating import Associating
from pantry.client.butler.calibrating import Calibrating
from pantry.client.butler.composing import Composing
from pantry.client.butler.correcting import Correcting
from pantry.client.butler.definitions import Definitions
from pantry.client.butler.deleting import Deleting
from pantry.client.butler.describing import Describing
from pantry.client.butler.discovered import Discovered
from pantry.client.butler.discovery import Discovery
from pantry.client.butler.engineering import Engineering
from pantry.client.butler.forms import FormatsLike, TemplatesLike, path_templates, user_formats
from pantry.client.butler.graphing import Graphing
from pantry.client.butler.importing import Importing
from pantry.client.butler.ingesting import Ingesting
from pantry.client.butler.introspecting import Introspecting
from pantry.client.butler.lineage import Lineage
from pantry.client.butler.prefetching import Prefetching
from pantry.client.butler.publishing import Publishing
from pantry.client.butler.taking_away import TakingAway
from pantry.client.butler.tilings import Tilings
from pantry.client.butler.visits import Visits
from pantry.client.butler.writing import Outputs
from pantry.client.connection import Connection, connect
from pantry.errors import PermissionDeniedError, RepositoryNotFoundError
from pantry.model.formats import NO_FORMATS, Formats
from pantry.model.repository import RepositoryInfo
from pantry.wire.operations import CreateRepository, GetRepository, ListRepositories


class Butler(
    Discovery,
    Describing,
    Introspecting,
    Graphing,
    Tilings,
    Visits,
    Calibrating,
    Correcting,
    Composing,
    Ingesting,
    Importing,
    Discovered,
    Prefetching,
    TakingAway,
    Deleting,
    Definitions,
    Lineage,
    Associating,
    Engineering,
    Publishing,
):
    """Finds, reads and writes the datasets of a repository.

    All threads may share one, and a forked process may go on using it. Closing is never necessary.

    Parameters
    ----------
    repository : str, path or iterable of str
        Name of the repository; `Butler.repositories` lists those that you may read. Several, or their names
        with commas between, are read as one (DMS-MWBT-REQ-0081): of datasets with one type and data id, that of
        the first repository; what is written goes to the first. What has a slash in it is the directory of a
        bundle; see `from_bundle`.
    collections : str or iterable of str, optional
        Where to search if a call does not say, in this order; by default ``run``.
    run : str, optional
        Where `put` and `ingest` write if a call does not say.
    outputs : str, iterable of str or Mapping of str to str, optional
        The repositories that `put` writes to if a call does not say, all or none; a mapping also says the run in
        each. By default ``repository``.
    writeable : bool, optional
        False refuses every change, True fails at once if you may not change anything; by default the
        repository's rules decide with each call.
    socket : str, optional
        Path of the daemon's socket, if it is not the usual one.
    formats : str, path or Mapping, optional
        What is stored in which format and read as what, over what the repository says (DMS-MWBT-REQ-0025): a file,
        or its content. By default the file that ``PANTRY_FORMATS`` names, or ``~/.config/pantry/formats.yaml``.

    missing : str, optional
        What becomes of reading a file that is not on this node (DMS-MWBT-REQ-0054): ``fetch`` it, or it is an
        ``error`` at once, a `NotCachedError`, and nothing is fetched. On this node is what is complete in its cache,
        and what lies in a repository in a directory. By default what ``PANTRY_MISSING`` says, else ``fetch``.

    Raises
    ------
    RepositoryNotFoundError
        There is no such repository, or you may not know of it.
    DaemonUnavailableError
        No daemon answers, and none could be started.

    Examples
    --------
    >>> from pantry.client import Butler
    >>> butler = Butler("dp1", collections="LSSTComCam/DP1")
    >>> calexp = butler.get("calexp", visit=2024110800263, detector=4)
    """

    def __init__(
        self,
        repository: str | os.PathLike[str] | Iterable[str],
        *,
        collections: str | Iterable[str] | None = None,
        run: str | None = None,
        outputs: Outputs | None = None,
        writeable: bool | None = None,
        socket: str | None = None,
        formats: FormatsLike | None = None,
        missing: Literal["fetch", "error"] | None = None,
        connection: Connection | None = None,
    ) -> None:
        searched = (run,) if collections is None and run is not None else names(collections or ())
        self._socket = socket
        self.missing = missing_or_default(missing)
        self.outputs = dict(outputs) if isinstance(outputs, Mapping) else names(outputs) if outputs else None
        if isinstance(repository, os.PathLike):
            repository = os.path.abspath(repository)
        repository = ",".join(names(repository))
        if connection is None and "/" in repository:
            from pantry.client.bundles import BundleConnection

            connection = bundle = BundleConnection(repository)
            repository = bundle.directory
            usual = bundle.defaults()
            if collections is None and run is None:
                searched, run = usual
        super().__init__(connection or connect(socket), repository, searched, run, writeable is not False)
        self.info: RepositoryInfo = self._described(repository)
        self.own_formats = user_formats(formats, self.info.formats)
        if writeable and not self.info.writable:
            raise PermissionDeniedError(
                f"you may not write to {repository!r}", hint="ask its owner to name you among its writers"
            )

    def _described(self, repository: str) -> RepositoryInfo:
        try:
            return self.connection.call(GetRepository(repository=repository))
        except RepositoryNotFoundError as exc:
            if not os.path.isdir(os.path.join(repository, ".pantry-bundle")):
                raise
            raise RepositoryNotFoundError(
                exc.message, hint=f"for the bundle of this name write ./{repository}"
            ) from None

    @classmethod
    def create(
        cls,
        name: str,
        root: str,
        *,
        registry: str = "",
        dimensions: str = "",
        storage_options: Mapping[str, str | int | float | bool] | None = None,
        readers: str | Iterable[str] = (),
        writers: str | Iterable[str] = (),
        formats: FormatsLike | None = None,
        templates: TemplatesLike | None = None,
        socket: str | None = None,
    ) -> Butler:
        """Make a repository and register it (DMS-MWBT-REQ-0024).

        Parameters
        ----------
        name : str
            How users will call it.
        root : str
            Where its files go: a directory, or ``s3://bucket/prefix``. Must not hold a repository yet.
        registry : str
            SQLAlchemy URL of the registry; by default SQLite in the root.
        dimensions : str
            A dimension universe as YAML text; by default Gen3's.
        storage_options : Mapping, optional
            Options of the storage backend, without secrets.
        readers, writers : str or iterable of str
            User names, ``@group`` names, or ``*`` for everybody; you may always do both.
        formats : str, path or Mapping, optional
            What is stored in which format, and read as what, by everybody: a file, or its content.
        templates : str, path or Mapping, optional
            Where files go (DMS-MWBT-REQ-0066): for names of dataset types, or patterns, a template such as
            ``{run}/{dataset_type}/{visit:08d}/{dataset_type}_{detector:03d}``; a file, or its content.
        socket : str, optional
            Path of the daemon's socket, if it is not the usual one.

        Returns
        -------
        Butler
            Of the new repository.
        """
        connection = connect(socket)
        operation = CreateRepository(
            name=name,
            root=root,
            registry=registry,
            dimensions=dimensions,
            storage_options=dict(storage_options or {}),
            readers=names(readers),
            writers=names(writers),
            formats=user_formats(formats) if formats is not None else NO_FORMATS,
            templates=path_templates(templates) if templates is not None else {},
        )
        connection.call(operation)
        return cls(name, socket=socket, connection=connection)

    @classmethod
    def from_bundle(
        cls,
        directory: str | os.PathLike[str],
        *,
        collections: str | Iterable[str] | None = None,
        run: str | None = None,
        writeable: bool | None = None,
        formats: FormatsLike | None = None,
    ) -> Butler:
        """Read and write a bundle, with no daemon, database server or network (DMS-MWBT-REQ-0053).

        What is not in it is an error at once, and nothing is fetched (DMS-MWBT-REQ-0054). It has the methods of every
        Butler; what a bundle cannot do, such as expressions (``where``), is an error that says so.

        Parameters
        ----------
        directory : str or path
            What `create_bundle` made.
        collections, run : str or iterable of str, optional
            As of `Butler`; by default what the bundle was made with.
        writeable, formats
            As of `Butler`.

        Raises
        ------
        NotFoundError
            It is no bundle, or was not made to its end.
        """
        path = os.path.abspath(os.path.expanduser(os.fspath(directory)))
        return cls(path, collections=collections, run=run, writeable=writeable, formats=formats)

    @staticmethod
    def repositories(*, socket: str | None = None) -> list[RepositoryInfo]:
        """Return the repositories that you may read, in order of name."""
        with connect(socket) as connection:
            return list(connection.call(ListRepositories()).repositories)

    def clone(
        self,
        *,
        collections: str | Iterable[str] | None = None,
        run: str | None = None,
        outputs: Outputs | None = None,
        writeable: bool | None = None,
    ) -> Butler:
        """Return a Butler of the same repository and connection with other defaults; what is not given stays."""
        searched = self._default_collections if collections is None and run is None else collections
        return Butler(
            self.repository,
            collections=searched,
            run=self.run if run is None else run,
            outputs=self.outputs if outputs is None else outputs,
            writeable=writeable if writeable is not None else (None if self._writeable else False),
            socket=self._socket,
            formats=self.own_formats,
            missing=self.missing,
            connection=self.connection,
        )

    def close(self) -> None:
        """Close the connection; the next call opens it again."""
        self.connection.close()
        if "_introspection" in self.__dict__:
            self._introspection.close()

    def __enter__(self) -> Butler:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __reduce__(self) -> tuple[object, ...]:
        writeable = None if self._writeable else False
        return _rebuild, (
            self.repository,
            self._default_collections,
            self.run,
            writeable,
            self._socket,
            self.own_formats,
            self.outputs,
            self.missing,
        )

    def __repr__(self) -> str:
        defaults = f", collections={list(self._default_collections)!r}" if self._default_collections else ""
        return f"Butler({self.repository!r}{defaults}{f', run={self.run!r}' if self.run else ''})"

    def _repr_html_(self) -> str:
        from pantry.model.html import fields

        rows = {
            "repository": self.repository,
            "root": self.info.root,
            "collections": ", ".join(self._default_collections) or "none by default",
            "run": self.run or "none by default",
            "you may write": "yes" if self._writeable and self.info.writable else "no",
        }
        return fields(rows, "Butler")


def _rebuild(
    repository: str,
    collections: tuple[str, ...],
    run: str | None,
    writeable: bool | None,
    socket: str | None,
    formats: Formats,
    outputs: Outputs | None,
    missing: Literal["fetch", "error"],
) -> Any:
    return Butler(
        repository,
        collections=collections,
        run=run,
        outputs=outputs,
        writeable=writeable,
        socket=socket,
        formats=formats,
        missing=missing,
    )
