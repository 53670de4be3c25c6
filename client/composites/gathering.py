"""Objects gathered on read from datasets, records and metadata, as a configuration says (MWBT-0035, 0050, 0051)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec

from pantry.client.butler.access import data_id_values, split_component, type_name
from pantry.client.composites.delegates import Delegate, Look, delegate_by_name, delegate_of, selected, with_replaced
from pantry.errors import DatasetNotFoundError, FormatterError, InvalidRequestError, MissingDatasetTypeError
from pantry.model.composites import Source
from pantry.model.data_id import DataIdValue
from pantry.model.datasets import DatasetRef, DatasetType
from pantry.model.formats import sources_of

if TYPE_CHECKING:
    from pantry.client.butler.butler import Butler
    from pantry.client.butler.reading import Asked


class Gathered(NamedTuple):
    """What was gathered; an object of its own, since the value may be None."""

    value: Any


def gathered(butler: Butler, asked: Asked, component: str | None, parameters: Mapping[str, Any]) -> Gathered | None:
    """Return what the configuration says how to gather, or None if it says nothing of this dataset type.

    A dataset type that is registered is read, and the named components of it are replaced; otherwise the object
    has these components only.
    """
    name = split_component(type_name(asked.dataset))[0]
    sources = sources_of(name, butler._formats)
    if not sources or (component is not None and component not in sources):
        return None
    gathering = _Gathering(butler, name, asked)
    delegate = delegate_by_name(gathering.delegate)
    given = dict(parameters)
    wanted = given.pop("components", None)
    given = delegate.settled(name, given, gathering.looking(sources))
    if component is not None:
        return Gathered(gathering.component(delegate, component, sources[component], given))
    if gathering.kind is None or wanted is not None:
        chosen = selected(sources, wanted, name)
        return Gathered(
            delegate.assemble({one: gathering.component(delegate, one, chosen[one], given) for one in chosen})
        )
    base = gathering.base(given)
    return Gathered(
        with_replaced(base, delegate, {one: gathering.component(delegate, one, sources[one], given) for one in sources})
    )


class _Gathering:
    """One object that is being gathered, for one data id."""

    def __init__(self, butler: Butler, name: str, asked: Asked) -> None:
        self._butler = butler
        self._others: dict[str, Butler] = {"": butler, butler.repository: butler}
        self._name = name
        self._asked = asked
        try:
            self.kind: DatasetType | None = butler._dataset_type(name)
        except MissingDatasetTypeError:
            self.kind = None
        forms = [form for form in (layer.of_type(name) for layer in butler._formats) if form is not None]
        python_type = next((form.python_type for form in forms if form.python_type), "dict")
        if self.kind is not None:
            python_type = butler._type_of(self.kind.storage_class)
        self.delegate = delegate_of(python_type, next((form.delegate for form in forms if form.delegate), ""))
        given = asked.dataset
        self.values: dict[str, DataIdValue] = data_id_values(
            given.data_id if isinstance(given, DatasetRef) else asked.data_id, asked.more
        )

    def base(self, parameters: Mapping[str, Any], component: str | None = None) -> Any:
        """Read the dataset itself, or a component of it."""
        dataset, data_id, more, collections, timespan = self._asked
        butler = self._butler
        partial = bool(parameters) or component is not None
        operation = butler._open_operation(dataset, data_id, more, collections, timespan, partial=partial)
        return butler._read_operation(operation, component, parameters)

    def looking(self, sources: Mapping[str, Source]) -> Look:
        """Return what looks into the datasets that the components come from."""

        def look(what: str, inside: str) -> Any:
            source = sources.get(what)
            if source is None:
                return None if self.kind is None else self.base({}, inside or what)
            if source.record or source.metadata:
                return None
            return self._stored(what, msgspec.structs.replace(source, component=inside or source.component), {})

        return look

    def component(self, delegate: Delegate, name: str, source: Source, parameters: Mapping[str, Any]) -> Any:
        """Read one component from where the configuration says."""
        if source.record:
            return _entry(self._record(source), source, f"{self._name}.{name}")
        if source.metadata:
            butler = self._of(source.repository)
            values = butler.get_metadata(self._found(butler, name, source.metadata, source))
            return _entry(values, source, f"{self._name}.{name}")
        stored = self._stored(name, source, delegate.parameters(name, parameters))
        return delegate.restore(name, stored, parameters)

    def _stored(self, name: str, source: Source, parameters: Mapping[str, Any]) -> Any:
        butler = self._of(source.repository)
        id_, holder = source.id, butler.repository
        if id_ is None:
            ref = self._found(butler, name, source.dataset, source)
            id_, holder = ref.id, butler._holder(ref)
        # Not by `get`: a source is read as it is stored, so that no configuration can go in a circle.
        return butler._read_by_id(holder, id_, source.component or None, parameters)

    def _of(self, repository: str) -> Butler:
        found = self._others.get(repository)
        if found is None:
            from pantry.client.butler.butler import Butler as OtherButler

            here = self._butler
            found = self._others[repository] = OtherButler(
                repository,
                collections=here._default_collections,
                formats=here.own_formats,
                missing=here.missing,
                connection=here.connection,
            )
        return found

    def _found(self, butler: Butler, name: str, dataset_type: str, source: Source) -> DatasetRef:
        values = self._projected(butler._dataset_type(dataset_type).dimensions, source)
        try:
            return butler._found(dataset_type, values, {}, self._asked.collections, self._asked.timespan)
        except DatasetNotFoundError as exc:
            raise DatasetNotFoundError(f"{self._name}: its component {name!r}: {exc.message}", hint=exc.hint) from None

    def _record(self, source: Source) -> dict[str, Any]:
        butler = self._of(source.repository)
        values = self._projected(butler.dimensions.element_group(source.record).names, source)
        found = butler.query_dimension_records(source.record, data_id=values, limit=2)
        if len(found) != 1:
            raise InvalidRequestError(
                f"{self._name}: {'several records' if found else 'no record'} of {source.record} for {values}",
                hint="say in the source's data_id which dimension it follows from, as {exposure: visit}",
            )
        times = {} if found[0].timespan is None else {"timespan": found[0].timespan}
        return {**found[0].values, **times}

    def _projected(self, dimensions: Iterable[str], source: Source) -> dict[str, DataIdValue]:
        """Return the values of the composite's data id that say something of other dimensions."""
        renamed = {there: self.values[here] for there, here in source.data_id.items() if here in self.values}
        values = {**self.values, **renamed}
        return {dimension: values[dimension] for dimension in dimensions if dimension in values}


def _entry(values: Mapping[str, Any], source: Source, name: str) -> Any:
    if not source.entry:
        return dict(values)
    if source.entry not in values:
        raise FormatterError(f"{name}: there is no {source.entry!r}", hint=f"there are {', '.join(values)}")
    return values[source.entry]
