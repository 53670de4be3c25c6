"""Reading a composite that is stored in parts: the manifest, then the components that are wanted."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, cast

import msgspec

from pantry.client.butler.opened import OpenedFile
from pantry.client.composites.delegates import Delegate, delegate_by_name, selected, with_replaced
from pantry.client.formatters import ReadSource, formatter_by_name
from pantry.errors import DatasetNotFoundError, FormatterError, RepositoryNotFoundError
from pantry.model.composites import COMPOSITE, Manifest, Source

if TYPE_CHECKING:
    from pantry.client.butler.reading import Reading

MAX_DEPTH = 8
"""Composites of composites of composites: a manifest that someone made on purpose could name itself."""


def read_manifest(source: OpenedFile) -> Manifest:
    """Read the manifest of an opened composite."""
    path = source.path
    described = ReadSource(
        name=str(source.ref),
        size_bytes=source.file.size_bytes,
        path=path,
        opener=None if path else cast("Any", source.reader),
    )
    return cast(Manifest, formatter_by_name(COMPOSITE).read(described, component=None, parameters={}))


def assembled(
    butler: Reading, opened: OpenedFile, component: str | None, parameters: Mapping[str, Any], depth: int
) -> Any:
    """Return a composite, the components of it that ``parameters`` select, or one component.

    Raises
    ------
    DatasetNotFoundError
        A dataset that it names is not there, or not for this user.
    """
    name = str(opened.ref)
    if depth >= MAX_DEPTH:
        raise FormatterError(f"{name} is a composite of composites, more than {MAX_DEPTH} deep")
    manifest = read_manifest(opened)
    delegate = delegate_by_name(manifest.delegate)
    given = dict(parameters)
    wanted = given.pop("components", None)
    home = opened.ref.repository or butler.repository

    def read(what: str, source: Source, read_parameters: Mapping[str, Any]) -> Any:
        return _read_source(butler, name, what, source, home, read_parameters, depth)

    def look(what: str, inside: str) -> Any:
        found = manifest.components.get(what)
        if found is None and manifest.base is not None:
            found = msgspec.structs.replace(manifest.base, component=what)
        if found is None:
            return None
        return read(what, msgspec.structs.replace(found, component=inside or found.component), {})

    given = delegate.settled(name, given, look)
    if component is not None:
        source = manifest.components.get(component)
        if source is not None:
            stored = read(component, source, delegate.parameters(component, given))
            return delegate.restore(component, stored, given)
        if manifest.base is not None:
            inside = Source(id=manifest.base.id, repository=manifest.base.repository, component=component)
            return read(component, inside, given)
        raise FormatterError(
            f"{name} has no component {component!r}", hint=f"its components: {', '.join(manifest.components)}"
        )
    if manifest.base is not None and wanted is None:
        base = read("its base", manifest.base, given)
        return with_replaced(base, delegate, _parts(read, delegate, manifest.components, given))
    chosen = selected(manifest.components, wanted, name)
    return delegate.assemble(_parts(read, delegate, _without_repeats(chosen), given))


def _parts(read: Any, delegate: Delegate, sources: Mapping[str, Source], given: Mapping[str, Any]) -> dict[str, Any]:
    return {
        name: delegate.restore(name, read(name, source, delegate.parameters(name, given)), given)
        for name, source in sources.items()
    }


def _without_repeats(sources: Mapping[str, Source]) -> dict[str, Source]:
    """Leave out components of a dataset that is a component as a whole: who puts them together finds them in it."""
    whole = {(source.id, source.repository) for source in sources.values() if not source.component}
    return {
        name: source
        for name, source in sources.items()
        if not source.component or (source.id, source.repository) not in whole
    }


def _read_source(
    butler: Reading, name: str, what: str, source: Source, home: str, parameters: Mapping[str, Any], depth: int
) -> Any:
    if source.id is None:
        raise FormatterError(f"{name}: {what} is not a dataset by its id")
    named = source.repository or home
    if named != home:
        try:
            # A subset of the composite's repository has what it takes from others, by the same id.
            return butler._read_by_id(home, source.id, source.component or None, parameters, depth + 1)
        except DatasetNotFoundError:
            pass
    try:
        return butler._read_by_id(named, source.id, source.component or None, parameters, depth + 1)
    except (DatasetNotFoundError, RepositoryNotFoundError) as exc:
        raise DatasetNotFoundError(
            f"{name}: {what} is the dataset {source.id} of {named!r}: {exc.message}",
            hint="read the other components by their names, or make a composite with another one in its place",
        ) from None
