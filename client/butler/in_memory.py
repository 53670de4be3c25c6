"""Datasets that stay in the memory of this process, by configuration of their type (DMS-MWBT-REQ-0027).

They are kept by reference: what `Butler.get` returns is the object that was put, and it lives until it is pruned or the
process ends. All Butlers of a repository share them, in all threads; another process, also a forked one, does not see
what is put after it began. The daemon completes data ids and makes runs: no object and no reference is sent to it.
"""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Iterable, Iterator, Mapping
from fnmatch import fnmatchcase
from typing import Any, NamedTuple
from uuid import UUID, uuid4

from pantry.client.butler.access import DataId, RepositoryAccess, data_id_values, split_component, type_name
from pantry.client.butler.forms import form_of
from pantry.errors import (
    DatasetExistsError,
    DatasetNotFoundError,
    FormatterError,
    InvalidRequestError,
    MissingCollectionError,
    PantryError,
)
from pantry.model.collections import CollectionType, check_collection_name
from pantry.model.data_id import DataIdValue
from pantry.model.datasets import DatasetRef, DatasetType
from pantry.model.formats import stays_in_memory, stored_form
from pantry.wire.operations import ExpandDataId, QueryCollections, RegisterCollection


class Kept(NamedTuple):
    """A dataset in memory: its reference and the object itself."""

    ref: DatasetRef
    obj: Any


_Key = tuple[str, str, tuple[DataIdValue, ...]]
"""Dataset type, run and values of the required dimensions."""


class MemoryStore:
    """The datasets of one repository that are in the memory of this process.

    Attributes
    ----------
    plain : set of str
        Collections that are known to be no chains.
    """

    def __init__(self) -> None:
        self.plain: set[str] = set()
        self._by_id: dict[UUID, Kept] = {}
        self._by_key: dict[_Key, Kept] = {}

    def add(self, kept: Kept) -> None:
        """Keep a dataset, or raise `DatasetExistsError`."""
        key = _key(kept.ref)
        with _LOCK:
            if key in self._by_key or kept.ref.id in self._by_id:
                raise DatasetExistsError(
                    f"the run {kept.ref.run!r} already has a {key[0]} for {kept.ref.data_id.required!r} in memory",
                    hint="datasets are never overwritten: put it into another run, or prune_memory first",
                )
            self._by_key[key] = self._by_id[kept.ref.id] = kept

    def by_id(self, id_: UUID) -> Kept | None:
        """Return the dataset of an id."""
        return self._by_id.get(id_)

    def by_data_id(self, dataset_type: str, run: str, required: tuple[DataIdValue, ...]) -> Kept | None:
        """Return the dataset of a type and data id in a run."""
        return self._by_key.get((dataset_type, run, required))

    def all(self) -> list[Kept]:
        """Return all datasets, in the order in which they were put."""
        with _LOCK:
            return list(self._by_id.values())

    def of_type(self, dataset_type: str) -> dict[str, Kept]:
        """Return for each run that has any datasets of a type the one that was put first."""
        found: dict[str, Kept] = {}
        for kept in self.all():
            if kept.ref.dataset_type.name == dataset_type:
                found.setdefault(kept.ref.run, kept)
        return found

    def remove(self, ids: Iterable[UUID]) -> int:
        """Forget datasets; give how many there were."""
        with _LOCK:
            gone = [kept for id_ in set(ids) if (kept := self._by_id.pop(id_, None)) is not None]
            for kept in gone:
                del self._by_key[_key(kept.ref)]
        return len(gone)

    def __len__(self) -> int:
        return len(self._by_id)


_LOCK = threading.Lock()
_STORES: dict[tuple[str, str], MemoryStore] = {}


def _after_fork() -> None:
    global _LOCK
    # Another thread of the parent may have held it.
    _LOCK = threading.Lock()


os.register_at_fork(after_in_child=_after_fork)


def _key(ref: DatasetRef) -> _Key:
    return ref.dataset_type.name, ref.run, ref.data_id.required_values


class InMemory(RepositoryAccess):
    """The methods of `Butler` for datasets in memory."""

    def datasets_in_memory(self, dataset_type: DatasetType | str | None = None) -> list[DatasetRef]:
        """Return the datasets of this repository that are in this process's memory, in the order of their puts.

        Queries do not find them: these ask the registry.
        """
        name = None if dataset_type is None else type_name(dataset_type)
        return [kept.ref for kept in self._memory.all() if name in (None, kept.ref.dataset_type.name)]

    def prune_memory(self, refs: Iterable[DatasetRef] | None = None) -> int:
        """Forget datasets of this repository that are in memory, by default all; those that are not are passed over.

        Returns
        -------
        int
            How many there were. An object that nothing else refers to is freed.
        """
        if refs is None:
            refs = self.datasets_in_memory()
        return self._memory.remove(ref.id for ref in refs)

    @property
    def _memory(self) -> MemoryStore:
        key = (self.info.uuid, self.info.root)  # a bundle has the id of what it was made from
        found = _STORES.get(key)
        return _STORES.setdefault(key, MemoryStore()) if found is None else found

    def _stays_in_memory(self, given: DatasetRef | DatasetType | str) -> bool:
        return stays_in_memory(type_name(given), self._formats)

    def _put_in_memory(
        self,
        obj: Any,
        given: DatasetRef | DatasetType | str,
        data_id: DataId | None,
        run: str | None,
        more: Mapping[str, Any],
    ) -> DatasetRef:
        """Keep an object; its data id is completed and checked by the daemon, in one round trip if its run is known."""
        self._writing()
        id_ = uuid4()
        if isinstance(given, DatasetRef):
            if data_id or more:
                raise InvalidRequestError("a DatasetRef is complete: give no data id with it")
            data_id, run, id_ = given.data_id, run or given.run, given.id
        run = check_collection_name(self._run(run))
        asked = ExpandDataId(
            repository=self.repository,
            dataset_type=type_name(given),
            data_id=data_id_values(data_id, more),
            run=run,
        )
        found = self.connection.call(asked)
        if run not in self._memory.plain:
            # As of every put: what is searched by default should be there.
            self.connection.call(RegisterCollection(repository=self.repository, name=run, type=CollectionType.RUN))
            self._memory.plain.add(run)
        ref = DatasetRef(id=id_, dataset_type=found.dataset_type, data_id=found.data_id, run=run)
        self._memory.add(Kept(ref, obj))
        return ref

    def _kept(
        self,
        given: DatasetRef | DatasetType | str,
        data_id: DataId | None = None,
        more: Mapping[str, Any] = {},
        collections: str | Iterable[str] | None = None,
    ) -> Kept | None:
        """Find a dataset in memory; arguments as of `Butler.get`."""
        store = self._memory
        if not store:
            return None
        if isinstance(given, DatasetRef):
            return None if data_id or more else store.by_id(given.id)
        name = type_name(given)
        in_runs = store.of_type(name) or store.of_type(split_component(name)[0])
        if not in_runs:
            return None
        example = next(iter(in_runs.values())).ref
        required = self._required_values(example, data_id_values(data_id, more))
        if required is None:
            return None
        for run in self._runs_in_memory(collections, in_runs):
            kept = store.by_data_id(example.dataset_type.name, run, required)
            if kept is not None:
                return kept
        return None

    def _required_values(self, example: DatasetRef, given: Mapping[str, DataIdValue]) -> tuple[DataIdValue, ...] | None:
        """Give the required values of a data id, in the types of another one; None if it cannot be understood."""
        names = example.data_id.required_names
        if given.keys() == set(names):
            found = []
            for name, like in zip(names, example.data_id.required_values, strict=True):
                value = given[name]
                if isinstance(like, int) and isinstance(value, str) and value.lstrip("-").isdecimal():
                    value = int(value)
                found.append(value)
            return tuple(found)
        asked = ExpandDataId(repository=self.repository, dataset_type=example.dataset_type.name, data_id=dict(given))
        try:
            return self.connection.call(asked).data_id.required_values
        except PantryError:
            return None  # the registry is asked next, and says what is wrong

    def _runs_in_memory(self, collections: str | Iterable[str] | None, runs: Mapping[str, Kept]) -> Iterator[str]:
        """Give those of ``runs`` that a search goes through, in its order."""
        store = self._memory
        for name in self._search(collections):
            if name in runs:
                yield name
            elif any(char in name for char in "*?["):
                yield from (run for run in runs if fnmatchcase(run, name))
            elif name not in store.plain:
                asked = QueryCollections(repository=self.repository, patterns=(name,))
                try:
                    (found,) = self.connection.call(asked).collections
                except (MissingCollectionError, ValueError):
                    continue
                if found.type is not CollectionType.CHAINED:
                    store.plain.add(name)
                    continue
                flat = QueryCollections(repository=self.repository, patterns=(name,), flatten_chains=True)
                yield from (one.name for one in self.connection.call(flat).collections if one.name in runs)

    def _read_kept(self, kept: Kept, component: str | None, parameters: Mapping[str, Any], wanted: str | None) -> Any:
        """Give the object itself, or a part of it; arguments as of `Butler.get`."""
        kind = kept.ref.dataset_type
        if "." in kind.name:
            component = None  # a component that is a dataset by itself
        obj = self._part_of(kept, component, parameters) if component is not None or parameters else kept.obj
        if wanted is None or wanted == kind.storage_class:
            return obj
        from pantry.client.formatters import convert

        return convert(obj, stored_form("", wanted, self._formats).python_type)

    def _part_of(self, kept: Kept, component: str | None, parameters: Mapping[str, Any]) -> Any:
        """Read a part from what the formatter would store, which is written to memory for that."""
        from pantry.client.formatters import ReadSource, WriteRequest, convert, formatter_by_name

        kind = kept.ref.dataset_type
        form = form_of(kind.name, kind.storage_class, self._formats)
        if form is None:
            raise FormatterError(f"{kept.ref} has no parts: its storage class {kind.storage_class!r} is not known here")
        formatter = formatter_by_name(form.formatter)
        with open(os.memfd_create("pantry-part", os.MFD_CLOEXEC), "w+b") as file:
            formatter.write(kept.obj, file, WriteRequest(formatter=form.formatter, given=form.write))
            file.flush()
            source = ReadSource(
                name=str(kept.ref),
                size_bytes=os.fstat(file.fileno()).st_size,
                path=f"/proc/self/fd/{file.fileno()}",
                opener=None,
            )
            part = formatter.read(source, component=component, parameters=parameters)
            if component is not None:
                return part
            with contextlib.suppress(FormatterError):  # a part need not be of the whole's type
                return convert(part, form.python_type)
            return part

    def _require_no_memory(
        self,
        given: DatasetRef | DatasetType | str,
        data_id: DataId | None,
        more: Mapping[str, Any],
        collections: str | Iterable[str] | None,
    ) -> None:
        """Refuse what needs a file for a dataset that has none."""
        kept = self._kept(given, data_id, more, collections)
        if kept is not None:
            raise InvalidRequestError(f"{kept.ref} is in memory and has no file", hint="`Butler.get` gives the object")

    @contextlib.contextmanager
    def _explained(self, given: DatasetRef | DatasetType | str) -> Iterator[None]:
        """Say of a dataset that is not there that only the process that put it has it, if its type is such."""
        try:
            yield
        except DatasetNotFoundError as exc:
            name, parent = type_name(given), split_component(type_name(given))[0]
            if not any(stays_in_memory(one, self._formats) for one in (name, parent)):
                raise
            hint = f"a {parent} stays in memory: only the process that put it has it, and only while that runs"
            raise DatasetNotFoundError(exc.message, hint=hint) from None
