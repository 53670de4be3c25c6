"""From an object to the datasets that it becomes: one, one in each of several repositories, or those of a composite."""

from __future__ import annotations

import functools
from collections.abc import Hashable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, BinaryIO, NamedTuple
from uuid import UUID, uuid4

import msgspec

from pantry.client.butler.access import DataId, RepositoryAccess, data_id_values, type_name
from pantry.client.butler.forms import form_of
from pantry.client.butler.group_writing import Piece
from pantry.client.formatters import WriteRequest, formatter_by_name
from pantry.errors import InvalidRequestError, MissingDatasetTypeError
from pantry.model.composites import COMPOSITE
from pantry.model.data_id import DataIdValue
from pantry.model.datasets import DatasetRef, DatasetType
from pantry.model.file_provenance import PROVENANCE, FileProvenance, of_dataset
from pantry.model.formats import NO_FORMATS, Form, Formats, OptionValue, StoredForm
from pantry.wire.operations import BeginPut, PutTicket, RegisterDatasetType

if TYPE_CHECKING:
    from pantry.client.composites.disassembly import TakenApart


class Place(NamedTuple):
    """Where a dataset goes.

    Attributes
    ----------
    repository, run : str
        There.
    data_id : dict of str to int or str
        About what it is.
    layers : tuple of Formats
        What is said of formats there.
    provenance : FileProvenance or None
        What its files shall say of where they come from.
    """

    repository: str
    run: str
    data_id: dict[str, DataIdValue]
    layers: tuple[Formats, ...]
    provenance: FileProvenance | None = None


class PieceMaking(RepositoryAccess):
    """Describes what is to be written."""

    def _pieces(
        self,
        obj: Any,
        given: DatasetRef | DatasetType | str,
        data_id: DataId | None,
        more: Mapping[str, Any],
        targets: Sequence[tuple[str, str]],
        provenance: FileProvenance | None = None,
    ) -> list[Piece]:
        """Describe the datasets that an object becomes; the first is that of the first repository."""
        if isinstance(given, DatasetRef) and (data_id or more):
            raise InvalidRequestError("a DatasetRef is complete: give no data id with it")
        values = data_id_values(given.data_id if isinstance(given, DatasetRef) else data_id, more)
        id_ = given.id if isinstance(given, DatasetRef) else uuid4()
        wholes, parts = [], []
        taken_apart: dict[str, TakenApart] = {}
        for repository, run in targets:
            layers = self._formats_of(repository)
            place = Place(repository, run, values, layers, provenance)
            form = self._composite_form(given, place)
            if form is None:
                wholes.append(self._piece(obj, type_name(given), id_, place, self._own_form(given)))
                if provenance is not None and not self._keeps_provenance(type_name(given), place):
                    parts.append(self._provenance_piece(type_name(given), id_, place))
                continue
            from pantry.client.composites.delegates import delegate_of
            from pantry.client.composites.disassembly import take_apart

            delegate = delegate_of(form.python_type, form.delegate)
            if delegate not in taken_apart:
                # Once, so that a component has one id everywhere.
                taken_apart[delegate] = take_apart(obj, delegate, form.python_type)
            whole, *components = self._composite_pieces(type_name(given), id_, taken_apart[delegate], place, form)
            wholes.append(whole)
            parts += components
        return wholes + parts

    def _composite_form(self, given: DatasetRef | DatasetType | str, place: Place) -> StoredForm | None:
        """Return the form of a dataset type that is stored in parts in a repository, None of one that is not."""
        if not any(layer.disassembles for layer in place.layers):
            return None
        kind = self._dataset_type(type_name(given), place.repository)
        form = form_of(kind.name, kind.storage_class, place.layers)
        return form if form is not None and form.disassembled else None

    def _composite_pieces(
        self, name: str, id_: UUID, composite: TakenApart, place: Place, form: StoredForm
    ) -> list[Piece]:
        """Describe a composite in one repository: its manifest, then its components."""
        kinds = {
            component: self._component_type(name, component, form.components.get(component, part.storage_class), place)
            for component, part in composite.parts.items()
        }
        manifest = self._piece(
            composite.manifest_for(place.repository),
            name,
            id_,
            place,
            {"formatter": COMPOSITE},
            same=("manifest", str(id_)),
        )
        return [
            manifest,
            *[
                self._piece(
                    part.obj, kinds[one].name, composite.ids[one], place, self._own_form(kinds[one]), same=(one,)
                )
                for one, part in composite.parts.items()
            ],
        ]

    def _keeps_provenance(self, name: str, place: Place) -> bool:
        """Tell whether the files of a dataset type have room for their provenance."""
        kind = self._dataset_type(name, place.repository)
        form = form_of(kind.name, kind.storage_class, place.layers)
        return form is not None and getattr(formatter_by_name(form.formatter), "keeps_provenance", False)

    def _provenance_piece(self, name: str, id_: UUID, place: Place) -> Piece:
        """Describe the dataset beside another one that says where that comes from (decision 0038)."""
        kind = self._component_type(name, PROVENANCE, "StructuredDataDict", place)
        own = self._piece(None, kind.name, uuid4(), place, {"formatter": "json"})

        def write(ticket: PutTicket, file: BinaryIO) -> None:
            provenance = of_dataset(place.provenance, msgspec.structs.replace(ticket.ref, id=id_), name)
            file.write(provenance.to_json().encode())

        return Piece(own.operation, write)

    def _component_type(self, name: str, component: str, storage_class: str, place: Place) -> DatasetType:
        """Return the dataset type of a component, registered if it is not yet."""
        full = f"{name}.{component}"
        try:
            return self._dataset_type(full, place.repository)
        except MissingDatasetTypeError:
            parent = self._dataset_type(name, place.repository)
        kind = DatasetType(name=full, dimensions=parent.dimensions, storage_class=storage_class)
        asked = RegisterDatasetType(repository=place.repository, dataset_type=kind)
        return self.connection.call(asked).dataset_type

    def _piece(
        self, obj: Any, name: str, id_: UUID, place: Place, form: Mapping[str, Any], same: tuple[str, ...] = ()
    ) -> Piece:
        operation = BeginPut(
            repository=place.repository, dataset_type=name, data_id=place.data_id, run=place.run, id=id_, **form
        )
        return Piece(
            operation,
            functools.partial(self._format, obj, place.layers, place.provenance),
            functools.partial(_same_file, place.layers, same) if place.provenance is None else None,
        )

    @staticmethod
    def _format(
        obj: Any, layers: Sequence[Formats], provenance: FileProvenance | None, ticket: PutTicket, file: BinaryIO
    ) -> None:
        """Write an object as its ticket and the formats say."""
        request = WriteRequest(
            formatter=ticket.formatter,
            given=_write_options(layers, ticket),
            provenance=None if provenance is None else of_dataset(provenance, ticket.ref),
        )
        formatter_by_name(ticket.formatter).write(obj, file, request)

    def _own_form(self, given: DatasetRef | DatasetType | str) -> dict[str, Any]:
        """Give formatter and suffix if this user's file decides them; the daemon knows what the repository says."""
        if self.own_formats == NO_FORMATS:
            return {}
        kind = given.dataset_type if isinstance(given, DatasetRef) else given
        form: Form | None = self.own_formats.of_type(type_name(kind))
        if (form is None or not form.formatter) and self.own_formats.storage_classes:
            if isinstance(kind, str):
                kind = self._dataset_type(kind)
            form = self.own_formats.storage_classes.get(kind.storage_class)
        if form is None or not form.formatter:
            return {}
        return {"formatter": form.formatter, "extension": form.extension or None}


def _write_options(layers: Sequence[Formats], ticket: PutTicket) -> Mapping[str, OptionValue]:
    kind = ticket.ref.dataset_type
    form = form_of(kind.name, kind.storage_class, layers)
    return form.write if form is not None and form.formatter == ticket.formatter else {}


def _same_file(layers: Sequence[Formats], what: tuple[str, ...], ticket: PutTicket) -> Hashable:
    """Return what decides the bytes that an object becomes."""
    return what, ticket.formatter, msgspec.json.encode(_write_options(layers, ticket), order="sorted")
