"""What every part of a Butler needs: the connection, the repository, the defaults."""

from __future__ import annotations

import operator
import os
from collections.abc import Iterable, Mapping
from typing import Any, Literal, get_args

from pantry.client.connection import Connection
from pantry.errors import (
    DataIdValueError,
    InvalidRequestError,
    MissingDatasetTypeError,
    PantryError,
    PermissionDeniedError,
)
from pantry.model.data_id import DataCoordinate, DataIdValue
from pantry.model.datasets import DatasetRef, DatasetType
from pantry.model.formats import NO_FORMATS, Formats
from pantry.model.repository import RepositoryInfo
from pantry.wire.operations import GetRepository, ListDatasetTypes, OpenDataset, PutTicket, QueryCollections

Missing = Literal["fetch", "error"]
MISSING_VARIABLE = "PANTRY_MISSING"
"""Environment variable that says what becomes of files that are not on this node."""

DataId = Mapping[str, Any] | DataCoordinate
"""What can be given as a data id; keyword arguments are merged into it."""

_GEN3_WORDS = {"dataId": "data_id", "storageClass": "storage_class", "datasetType": "dataset_type"}


class RepositoryAccess:
    """One repository through one connection.

    Attributes
    ----------
    connection : Connection
        To the daemon.
    repository : str
        By which name the daemon knows it.
    run : str or None
        Where `Butler.put` writes if it is not told.
    info : RepositoryInfo
        What the daemon says of the repository.
    own_formats : Formats
        What this user says of formats.
    missing : str
        What becomes of reading a file that is not on this node: ``fetch`` it, or it is an ``error``.
    """

    info: RepositoryInfo
    own_formats: Formats = NO_FORMATS
    missing: Missing = "fetch"

    def __init__(
        self, connection: Connection, repository: str, collections: tuple[str, ...], run: str | None, writeable: bool
    ) -> None:
        self.connection = connection
        self.repository = repository
        self.run = run
        self._default_collections = collections
        self._writeable = writeable
        # By dataset type, the last ticket of a put that turned out small: the next one needs no ticket.
        self._small_puts: dict[str, PutTicket] = {}
        self._kinds: dict[tuple[str, str], DatasetType] = {}
        self._infos: dict[str, RepositoryInfo] = {}

    @property
    def _formats(self) -> tuple[Formats, ...]:
        """What is said of formats; what wins comes first."""
        return (self.own_formats, self.info.formats)

    def _formats_of(self, repository: str) -> tuple[Formats, ...]:
        """Return what is said of formats in a repository that this Butler writes to."""
        if repository == self.repository:
            return self._formats
        return (self.own_formats, self._info_of(repository).formats)

    def _dataset_type(self, name: str, repository: str = "") -> DatasetType:
        """Return a dataset type; what it is called once never means anything else."""
        repository = repository or self.repository
        known = self._kinds.get((repository, name))
        if known is None:
            asked = ListDatasetTypes(repository=repository, patterns=(name,))
            found = {kind.name: kind for kind in self.connection.call(asked).dataset_types}
            if name not in found:
                raise MissingDatasetTypeError(f"no dataset type {name!r} in {repository!r}")
            known = self._kinds[repository, name] = found[name]
        return known

    def _search(self, collections: str | Iterable[str] | None) -> tuple[str, ...]:
        """Return the collections to search, the default ones if none are given."""
        if collections is None:
            if self._default_collections:
                return self._default_collections
            raise InvalidRequestError(
                "no collections were given, and this Butler has no default ones", hint=self._some()
            )
        return names(collections)

    def _some(self) -> str:
        hint = "give collections=..., here or when you make the Butler; on the command line -c"
        try:
            found = self.connection.call(QueryCollections(repository=self.repository)).collections
        except PantryError:
            return hint
        shown = ", ".join(repr(info.name) for info in found[:8])
        return f"{hint}; there are {shown}{', ...' if len(found) > 8 else ''}" if shown else hint

    def _to_open(self, repository: str, **asked: Any) -> OpenDataset:
        """Make the operation that opens a dataset; where a missing file is an error, one that fetches nothing."""
        cached_only = self.missing == "error" and not self._is_local(repository)
        # Also a repository in a directory may refer to files in another archive.
        return OpenDataset(repository=repository, cached_only=cached_only, here_only=self.missing == "error", **asked)

    def _is_local(self, repository: str) -> bool:
        """Whether the files of a repository, or of all of a chain, lie in directories of this node."""
        info = self._info_of(repository)
        return all(self._info_of(member).root.startswith(("/", "file:")) for member in info.chain or (repository,))

    def _info_of(self, repository: str) -> RepositoryInfo:
        if repository == self.repository:
            return self.info
        info = self._infos.get(repository)
        if info is None:
            info = self._infos[repository] = self.connection.call(GetRepository(repository=repository))
        return info

    def _companions(self, refs: Iterable[DatasetRef]) -> list[DatasetRef]:
        """Return datasets that others need to be read as they are read here; `Raws` knows of some."""
        return []

    def _holder(self, ref: DatasetRef) -> str:
        """Name of the repository to read a dataset from."""
        return ref.repository if ref.repository in self.info.chain else self.repository

    def _writing(self) -> None:
        if not self._writeable:
            raise PermissionDeniedError(
                f"this Butler of {self.repository!r} was made read-only", hint="make it with writeable=True"
            )

    def _run(self, run: str | None) -> str:
        if run is None:
            run = self.run
        if run is None:
            raise InvalidRequestError("no run was given, and this Butler has no default one", hint="give run=...")
        return run


def names(given: str | Iterable[str]) -> tuple[str, ...]:
    """Return one name or several as a tuple."""
    return (given,) if isinstance(given, str) else tuple(given)


def data_id_values(data_id: DataId | None, more: Mapping[str, Any]) -> dict[str, DataIdValue]:
    """Merge a data id and keywords into plain values; keywords win.

    Numpy's scalars become int and str; anything else than these is a `DataIdValueError`.
    """
    if isinstance(data_id, DataCoordinate):
        merged: dict[str, Any] = data_id.required
    elif data_id is None:
        merged = {}
    elif isinstance(data_id, Mapping):
        merged = dict(data_id)
    else:
        raise DataIdValueError(f"a data id is a mapping, not {data_id!r}")
    merged.update(more)
    for name, value in merged.items():
        kind = type(value)
        if kind is not int and kind is not str:
            merged[name] = _plain_value(name, value)
    return merged


def _plain_value(name: str, value: object) -> DataIdValue:
    if name in _GEN3_WORDS:
        raise DataIdValueError(f"{name!r} is not a dimension", hint=f"this argument is called {_GEN3_WORDS[name]} here")
    if isinstance(value, str):
        return str(value)
    if not isinstance(value, bool) and hasattr(value, "__index__"):
        return operator.index(value)
    raise DataIdValueError(f"the dimension {name!r} takes an integer or text, not {value!r}")


def split_component(dataset_type: str | DatasetType) -> tuple[str, str | None]:
    """Split ``"raw.header"`` into the dataset type's name and the component."""
    name = dataset_type if isinstance(dataset_type, str) else dataset_type.name
    parent, dot, component = name.partition(".")
    return parent, component if dot else None


def type_name(given: DatasetRef | DatasetType | str) -> str:
    """Return the name of a dataset type, however it was given."""
    if isinstance(given, str):
        return given
    if isinstance(given, DatasetType):
        return given.name
    if isinstance(given, DatasetRef):
        return given.dataset_type.name
    raise InvalidRequestError(f"expected a dataset type, its name or a DatasetRef, not {given!r}")


def missing_or_default(given: str | None) -> Missing:
    """Return what becomes of missing files; by default what the environment says, else they are fetched."""
    chosen = os.environ.get(MISSING_VARIABLE) or "fetch" if given is None else given
    if chosen not in get_args(Missing):
        source = MISSING_VARIABLE if given is None else "missing"
        raise InvalidRequestError(f"{source} is {chosen!r}", hint=f"one of {', '.join(get_args(Missing))}")
    return chosen  # type: ignore[return-value]
