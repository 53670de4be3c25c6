"""Composites made of other datasets, what they consist of, and their export as one file."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import chain
from typing import TYPE_CHECKING, Any, Literal
from uuid import uuid4

from pantry.client.butler.access import DataId, data_id_values, type_name
from pantry.client.butler.group_writing import put_group
from pantry.client.butler.opened import OpenedFile
from pantry.client.butler.pieces import Place
from pantry.client.butler.reading import Reading
from pantry.client.butler.times import TimespanLike
from pantry.client.butler.writing import Outputs, Writing
from pantry.errors import DatasetNotFoundError, InvalidRequestError
from pantry.model.composites import COMPOSITE, Source
from pantry.model.datasets import DatasetRef, DatasetType
from pantry.model.formats import stored_form
from pantry.wire.operations import GetDataset, ListRepositories

if TYPE_CHECKING:
    from pantry.client.composites.delegates import Part
    from pantry.model.composites import Manifest

Component = Any
"""An object, a `DatasetRef`, or a pair of one and the name of a component of it."""


class Composing(Reading, Writing):
    """The methods of `Butler` on composites (DMS-MWBT-REQ-0051, 0077)."""

    def put_composite(
        self,
        components: Mapping[str, Component],
        dataset_type: DatasetType | str,
        /,
        data_id: DataId | None = None,
        *,
        base: DatasetRef | None = None,
        run: str | None = None,
        outputs: Outputs | None = None,
        **kwargs: Any,
    ) -> DatasetRef:
        """Store a composite whose components are datasets that exist, objects, or both (DMS-MWBT-REQ-0051).

        Nothing of the datasets is copied: the composite names them by id, with their repository, and reads them when
        it is read. Objects become datasets of their own. All or nothing, as `put`.

        Parameters
        ----------
        components : Mapping
            For each component's name an object; a `DatasetRef`; or a pair of one and the name of a component
            of it, such as ``(calexp, "wcs")``.
        dataset_type : DatasetType or str
            What the composite is.
        data_id : Mapping, optional
            Which one.
        base : DatasetRef, optional
            A dataset that has the other components: ``components`` replace some of its own.
        run, outputs, **kwargs
            As of `put`.

        Returns
        -------
        DatasetRef
            The composite.

        Examples
        --------
        The image of the night with the WCS of a data release:

        >>> night = butler.find_dataset("calexp", visit=903334, detector=22)
        >>> release = Butler("dp1", collections="LSSTComCam/DP1").find_dataset("wcs", visit=903334, detector=22)
        >>> butler.put_composite({"wcs": release}, "calexp", night.data_id, base=night, run="u/ann/better")
        """
        from pantry.client.composites.delegates import delegate_by_name, delegate_of
        from pantry.client.composites.disassembly import compose

        if not components:
            raise InvalidRequestError("a composite has components", hint="give {'wcs': other}; to copy one use `put`")
        self._writing()
        values = data_id_values(data_id, kwargs)
        kind = self._dataset_type(type_name(dataset_type))
        form = stored_form(kind.name, kind.storage_class, self._formats)
        delegate = delegate_of(form.python_type, form.delegate)
        sources: dict[str, Source] = {}
        parts: dict[str, Part] = {}
        for name, given in components.items():
            source = self._source(given)
            if source is not None:
                sources[name] = source
            else:
                parts[name] = delegate_by_name(delegate).store(name, given)
        below = self._source(base) if base is not None else None
        composite = compose(delegate, form.python_type, parts, sources, below)
        composite.manifest.check(f"a {kind.name}")
        id_, wholes, rest = uuid4(), [], []
        for repository, run_there in self._targets(run, outputs, dataset_type):
            place = Place(repository, run_there, values, self._formats_of(repository))
            whole, *others = self._composite_pieces(kind.name, id_, composite, place, form)
            wholes.append(whole)
            rest += others
        return put_group(self.connection.link(), wholes + rest)[0]

    def _source(self, given: Component) -> Source | None:
        component = ""
        if isinstance(given, tuple) and len(given) == 2 and isinstance(given[0], DatasetRef):
            given, component = given
        if not isinstance(given, DatasetRef):
            return None
        # The name of the repository it was read from; `manifest_for` leaves it out there.
        return Source(id=given.id, repository=given.repository or self._home_of(given), component=component)

    def _home_of(self, ref: DatasetRef) -> str:
        """Find the repository of a reference that does not say it: this Butler's own, else the first by name.

        An id means the same dataset everywhere.
        """
        own = self.info.chain or (self.repository,)
        for one in chain(own, self._others(own)):
            if self.connection.call(GetDataset(repository=one, id=ref.id)).ref is not None:
                return one
        raise DatasetNotFoundError(
            f"{ref} is in no repository that you may read here", hint="it may have been deleted since it was found"
        )

    def _others(self, own: Sequence[str]) -> Iterator[str]:
        found = self.connection.call(ListRepositories()).repositories
        yield from (one.name for one in found if not one.chain and one.name not in own)

    def get_components(
        self,
        dataset_ref_or_type: DatasetRef | DatasetType | str,
        /,
        data_id: DataId | None = None,
        *,
        collections: str | Iterable[str] | None = None,
        timespan: TimespanLike | None = None,
        **kwargs: Any,
    ) -> dict[str, DatasetRef]:
        """Return which dataset each component of a composite is, wherever it is stored.

        Arguments as of `get`. Of a dataset in one file the result is empty; the components that a composite has of
        the dataset that it is based on are there under ``base``.
        """
        operation = self._open_operation(dataset_ref_or_type, data_id, kwargs, collections, timespan, partial=False)
        with OpenedFile.open(self.connection.link(), operation) as opened:
            if opened.file.formatter != COMPOSITE:
                return {}
            manifest = self._manifest(opened)
            home = opened.ref.repository or self.repository
        named = {**manifest.components, **({"base": manifest.base} if manifest.base is not None else {})}
        return {name: self._ref_of(source, home) for name, source in named.items()}

    def _manifest(self, opened: OpenedFile) -> Manifest:
        from pantry.client.composites.assembly import read_manifest

        return read_manifest(opened)

    def _ref_of(self, source: Source, home: str) -> DatasetRef:
        import msgspec

        if source.id is None:
            raise InvalidRequestError("a stored composite names its components by their ids")
        # A subset has what its composites take from others, by the same id.
        for place in dict.fromkeys((home, source.repository or home)):
            ref = self.connection.call(GetDataset(repository=place, id=source.id)).ref
            if ref is not None:
                return ref if place == self.repository else msgspec.structs.replace(ref, repository=place)
        raise DatasetNotFoundError(f"the dataset {source.id} is not in {place!r} any more")

    def export_file(
        self,
        dataset_ref_or_type: DatasetRef | DatasetType | str,
        directory: str | os.PathLike[str],
        /,
        data_id: DataId | None = None,
        *,
        format: Literal["fits", "hdf5"] = "fits",  # noqa: A002 - the word of its users
        collections: str | Iterable[str] | None = None,
        timespan: TimespanLike | None = None,
        overwrite: bool = False,
        **kwargs: Any,
    ) -> str:
        """Write a dataset with all its components to one file of a standard format (DMS-MWBT-REQ-0077, 0078).

        Parameters
        ----------
        dataset_ref_or_type, data_id, collections, timespan, **kwargs
            As of `get`.
        directory : str or path
            Where to; it must exist. The file's name is that of the dataset in the mount, with the suffix of the format.
        format : str
            ``fits``: an HDU for each component, by its name; ``hdf5``: a dataset or group for each.
        overwrite : bool
            Whether to replace a file of this name.

        Returns
        -------
        str
            Path of the file, which appears when it is whole.

        Raises
        ------
        FileExistsError
            There is such a file.
        FormatterError
            The format cannot hold one of the components.
        """
        from pantry.client.composites.export import Exported, write_export

        operation = self._open_operation(dataset_ref_or_type, data_id, kwargs, collections, timespan, partial=False)
        with OpenedFile.open(self.connection.link(), operation) as opened:
            manifest = self._manifest(opened) if opened.file.formatter == COMPOSITE else None
            exported = Exported(
                ref=opened.ref,
                name=opened.opened.name.rpartition("/")[2],
                obj=self._read(opened, None, {}, None),
                manifest=manifest,
            )
        return write_export(exported, os.fspath(directory), format, overwrite=overwrite)
