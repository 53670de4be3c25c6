"""From a dataset to the Python object, or to its file."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, BinaryIO, NamedTuple, cast

import msgspec

from pantry.client.butler.access import DataId, data_id_values, split_component
from pantry.client.butler.forms import form_of
from pantry.client.butler.opened import OpenedFile
from pantry.client.butler.queries import Queries
from pantry.client.butler.times import TimespanLike, optional_timespan
from pantry.client.formatters import ReadSource, convert, formatter_by_name
from pantry.errors import DatasetNotFoundError, FormatterError, InvalidRequestError, MissingDatasetTypeError
from pantry.model.composites import COMPOSITE
from pantry.model.datasets import DatasetRef, DatasetType
from pantry.model.file_provenance import PROVENANCE, FileProvenance, from_json
from pantry.model.formats import Formats, stored_form
from pantry.model.storage import StorageClass
from pantry.wire.operations import OpenDataset

if TYPE_CHECKING:
    from uuid import UUID

    from pantry.client.butler.butler import Butler


class Asked(NamedTuple):
    """The arguments of `Butler.get` that say which dataset."""

    dataset: DatasetRef | DatasetType | str
    data_id: DataId | None
    more: Mapping[str, Any]
    collections: str | Iterable[str] | None
    timespan: TimespanLike | None


class Reading(Queries):
    """The reading methods of `Butler`."""

    def get(
        self,
        dataset_ref_or_type: DatasetRef | DatasetType | str,
        /,
        data_id: DataId | None = None,
        *,
        parameters: Mapping[str, Any] | None = None,
        collections: str | Iterable[str] | None = None,
        storage_class: str | StorageClass | None = None,
        timespan: TimespanLike | None = None,
        **kwargs: Any,
    ) -> Any:
        """Read a dataset, or a part of it, as a Python object (DMS-MWBT-REQ-0075).

        Parameters
        ----------
        dataset_ref_or_type : DatasetRef, DatasetType or str
            A reference, or what kind of dataset; ``"raw.header"`` reads the component ``header`` of a ``raw``.
        data_id : Mapping, optional
            Which one: dimension names and values.
        parameters : Mapping, optional
            Which part: what the format knows, such as ``bbox`` or ``circle`` of an image, ``columns``, ``rows`` and
            ``timespan`` of a table. Only what that part needs is fetched.
        collections : str or iterable of str, optional
            Where to search, in this order; by default the Butler's own.
        storage_class : str or StorageClass, optional
            As which type to return it, if not that of the dataset type.
        timespan : Timespan or pair, optional
            For which time, in CALIBRATION collections: begin and end, as of `Butler.certify`. By default that
            of the exposure, visit or day that the data id names; if it names none, one dataset must have been
            valid at all times.
        **kwargs : int or str
            More of the data id.

        Returns
        -------
        object
            Of the storage class's Python type, or what the component or the parameters select.

        Raises
        ------
        DatasetNotFoundError
            There is no such dataset.
        FormatterError
            The file cannot be read, or not as this type; unknown components and parameters too.
        IntegrityError
            The bytes are not those that were registered.

        Examples
        --------
        >>> butler.get("calexp", visit=903334, detector=22, parameters={"bbox": (0, 0, 100, 100)})
        """
        component, wanted = _component_and_class(dataset_ref_or_type, storage_class)
        kept = self._kept(dataset_ref_or_type, data_id, kwargs, collections)
        if kept is not None:
            return self._read_kept(kept, component, parameters or {}, wanted)
        if any(layer.gathers for layer in self._formats):
            from pantry.client.composites.gathering import gathered

            asked = Asked(dataset_ref_or_type, data_id, kwargs, collections, timespan)
            found = gathered(cast("Butler", self), asked, component, parameters or {})
            if found is not None:
                return found.value if wanted is None else convert(found.value, self._type_of(wanted))
        narrowed = bool(parameters) or component is not None
        operation = self._open_operation(dataset_ref_or_type, data_id, kwargs, collections, timespan, partial=narrowed)
        with self._explained(dataset_ref_or_type):
            return self._read_operation(operation, component, parameters or {}, wanted)

    def _read_by_id(
        self, repository: str, id_: UUID, component: str | None, parameters: Mapping[str, Any], depth: int = 0
    ) -> Any:
        """Read a dataset, in any repository, as it is stored."""
        operation = self._to_open(repository, id=id_, partial=bool(parameters) or component is not None)
        return self._read_operation(operation, component, parameters, depth=depth)

    def _read_operation(
        self,
        operation: OpenDataset,
        component: str | None,
        parameters: Mapping[str, Any],
        wanted: str | None = None,
        depth: int = 0,
    ) -> Any:
        with OpenedFile.open(self.connection.link(), operation) as source:
            return self._read(source, component, parameters, wanted, depth)

    def _read(
        self,
        source: OpenedFile,
        component: str | None,
        parameters: Mapping[str, Any],
        wanted: str | None,
        depth: int = 0,
    ) -> Any:
        """Read an opened dataset, in one file or a composite of several."""
        if "." in source.ref.dataset_type.name:
            component = None  # a component that is a dataset by itself
        if component == PROVENANCE:
            return self._provenance_of(source)
        if source.file.formatter != COMPOSITE:
            return read_object(source, component, self._completed(source, parameters), wanted, self._formats)
        from pantry.client.composites.assembly import assembled

        obj = assembled(self, source, component, parameters, depth)
        if wanted is not None:
            return convert(obj, self._type_of(wanted))
        own = form_of(source.ref.dataset_type.name, source.ref.dataset_type.storage_class, self._formats)
        return obj if component is not None or parameters or own is None else convert(obj, own.python_type)

    def _provenance_of(self, source: OpenedFile) -> FileProvenance:
        """Read what a dataset's file says of where it comes from, or what lies beside it (decision 0038)."""
        if getattr(formatter_by_name(source.file.formatter), "keeps_provenance", False):
            return cast(FileProvenance, read_object(source, PROVENANCE, {}, None))
        ref = source.ref
        beside = self._to_open(
            ref.repository or self.repository,
            dataset_type=f"{ref.dataset_type.name}.{PROVENANCE}",
            data_id=ref.data_id.required,
            collections=(ref.run,),
        )
        try:
            with OpenedFile.open(self.connection.link(), beside) as opened, opened.complete_file() as file:
                found = from_json(file.read(), str(ref))
        except (DatasetNotFoundError, MissingDatasetTypeError):
            return FileProvenance()
        return found

    def _completed(self, source: OpenedFile, parameters: Mapping[str, Any]) -> Mapping[str, Any]:
        """Return read parameters with what the formatter needs of the repository; `Raws` has some."""
        return parameters

    def _type_of(self, storage_class: str) -> str:
        return stored_form("", storage_class, self._formats).python_type

    def get_deferred(
        self,
        dataset_ref_or_type: DatasetRef | DatasetType | str,
        /,
        data_id: DataId | None = None,
        *,
        parameters: Mapping[str, Any] | None = None,
        collections: str | Iterable[str] | None = None,
        storage_class: str | StorageClass | None = None,
        timespan: TimespanLike | None = None,
        **kwargs: Any,
    ) -> DeferredDatasetHandle:
        """Find a dataset now and read it later; arguments as of `get`."""
        component, wanted = _component_and_class(dataset_ref_or_type, storage_class)
        if isinstance(dataset_ref_or_type, DatasetRef):
            ref = dataset_ref_or_type
        else:
            ref = self._found(split_component(dataset_ref_or_type)[0], data_id, kwargs, collections, timespan)
        return DeferredDatasetHandle(self, ref, dict(parameters or {}), component, wanted)

    def open(
        self,
        dataset_ref_or_type: DatasetRef | DatasetType | str,
        /,
        data_id: DataId | None = None,
        *,
        collections: str | Iterable[str] | None = None,
        timespan: TimespanLike | None = None,
        partial: bool = False,
        **kwargs: Any,
    ) -> BinaryIO:
        """Open a dataset's file as it is stored, read-only and seekable.

        Parameters
        ----------
        dataset_ref_or_type, data_id, collections, timespan, **kwargs
            As of `get`.
        partial : bool
            Return at once and fetch what is read, in place of waiting for the whole file. The object then
            has no ``fileno``.

        Returns
        -------
        BinaryIO
            To be closed by the caller.
        """
        self._require_no_memory(dataset_ref_or_type, data_id, kwargs, collections)
        operation = self._open_operation(dataset_ref_or_type, data_id, kwargs, collections, timespan, partial=partial)
        with OpenedFile.open(self.connection.link(), operation) as source:
            if source.opened.complete:
                return source.complete_file()
            return cast(BinaryIO, io.BufferedReader(source.reader()))

    @contextlib.contextmanager
    def path(
        self,
        dataset_ref_or_type: DatasetRef | DatasetType | str,
        /,
        data_id: DataId | None = None,
        *,
        collections: str | Iterable[str] | None = None,
        timespan: TimespanLike | None = None,
        **kwargs: Any,
    ) -> Iterator[str]:
        """Give a path of the dataset's complete file, for libraries that insist on one.

        The path, ``/proc/self/fd/N``, is of use only in this process and inside the ``with``. Arguments as
        of `get`.
        """
        self._require_no_memory(dataset_ref_or_type, data_id, kwargs, collections)
        operation = self._open_operation(dataset_ref_or_type, data_id, kwargs, collections, timespan, partial=False)
        with OpenedFile.open(self.connection.link(), operation) as source:
            yield f"/proc/self/fd/{source.fd}"

    def _open_operation(
        self,
        given: DatasetRef | DatasetType | str,
        data_id: DataId | None,
        more: Mapping[str, Any],
        collections: str | Iterable[str] | None,
        timespan: TimespanLike | None,
        *,
        partial: bool,
    ) -> OpenDataset:
        if isinstance(given, DatasetRef):
            if data_id or more:
                raise InvalidRequestError("a DatasetRef is complete: give no data id with it")
            return self._to_open(self._holder(given), id=given.id, partial=partial)
        return self._to_open(
            self.repository,
            dataset_type=split_component(given)[0],
            data_id=data_id_values(data_id, more),
            collections=self._search(collections),
            timespan=optional_timespan(timespan),
            partial=partial,
        )


class DeferredDatasetHandle(msgspec.Struct, frozen=True, eq=False):
    """A dataset that is read when it is needed; safe to pass to other threads and processes.

    Attributes
    ----------
    butler : Butler
        That reads it.
    ref : DatasetRef
        Which one.
    parameters : dict
        Which part; `get` may add to it.
    component : str or None
        Which component.
    storage_class : str or None
        As which type, if not that of the dataset type.
    """

    butler: Reading
    ref: DatasetRef
    parameters: dict[str, Any] = {}
    component: str | None = None
    storage_class: str | None = None

    @property
    def data_id(self) -> Any:
        """The dataset's data id."""
        return self.ref.data_id

    @property
    def dataId(self) -> Any:  # noqa: N802 - so it is called in the Gen3 Butler
        """The dataset's data id."""
        return self.ref.data_id

    def get(
        self,
        *,
        component: str | None = None,
        parameters: Mapping[str, Any] | None = None,
        storage_class: str | StorageClass | None = None,
    ) -> Any:
        """Read the dataset; arguments as of `Butler.get`, ``component`` as after the dot of its first one."""
        component = component or self.component
        merged = {**self.parameters, **(parameters or {})}
        wanted = _class_name(storage_class) or (self.storage_class if component == self.component else None)
        kept = self.butler._kept(self.ref)
        if kept is not None:
            return self.butler._read_kept(kept, component, merged, wanted)
        operation = self.butler._to_open(
            self.butler._holder(self.ref), id=self.ref.id, partial=bool(merged) or component is not None
        )
        with self.butler._explained(self.ref):
            return self.butler._read_operation(operation, component, merged, wanted)


def read_object(
    source: OpenedFile,
    component: str | None,
    parameters: Mapping[str, Any],
    wanted_class: str | None,
    layers: Sequence[Formats] = (),
) -> Any:
    """Read an opened file with its formatter; see `Butler.get`."""
    formatter = formatter_by_name(source.file.formatter)
    path = source.path
    described = ReadSource(
        name=f"{source.ref.dataset_type.name}@{source.ref.data_id!r}",
        size_bytes=source.file.size_bytes,
        path=path,
        opener=None if path else cast("Any", source.reader),
    )
    obj = formatter.read(described, component=component, parameters=parameters)
    kind = source.ref.dataset_type
    if wanted_class is not None and wanted_class != kind.storage_class:
        return convert(obj, stored_form("", wanted_class, layers).python_type)
    own = form_of(kind.name, kind.storage_class, layers)
    if component is not None or own is None:
        return obj
    try:
        return convert(obj, own.python_type)
    except FormatterError:
        if parameters:
            return obj  # a part need not be of the whole's type, as one array of an HDF5 file
        raise


def _component_and_class(
    given: DatasetRef | DatasetType | str, override: str | StorageClass | None
) -> tuple[str | None, str | None]:
    kind = given.dataset_type if isinstance(given, DatasetRef) else given
    component = split_component(kind)[1]
    wanted = _class_name(override)
    if wanted is None and component is None and isinstance(kind, DatasetType):
        wanted = kind.storage_class
    return component, wanted


def _class_name(given: str | StorageClass | None) -> str | None:
    return given.name if isinstance(given, StorageClass) else given
