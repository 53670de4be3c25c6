"""Taking an object apart for storage: its components with their ids, and the manifest that names them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple
from uuid import UUID, uuid4

import msgspec

from pantry.client.composites.delegates import Part, delegate_by_name
from pantry.model.composites import Manifest, Source


class TakenApart(NamedTuple):
    """An object in parts.

    Attributes
    ----------
    parts : dict of str to Part
        What is stored by itself.
    ids : dict of str to uuid.UUID
        Which dataset each of them becomes.
    manifest : Manifest
        What puts them together again.
    """

    parts: dict[str, Part]
    ids: dict[str, UUID]
    manifest: Manifest

    def manifest_for(self, repository: str) -> Manifest:
        """Return the manifest as it is stored in a repository: what is there needs no name of a repository."""

        def seen(source: Source) -> Source:
            return msgspec.structs.replace(source, repository="") if source.repository == repository else source

        manifest = self.manifest
        return msgspec.structs.replace(
            manifest,
            components={name: seen(source) for name, source in manifest.components.items()},
            base=seen(manifest.base) if manifest.base is not None else None,
        )


def take_apart(obj: Any, delegate: str, python_type: str) -> TakenApart:
    """Take an object apart as its delegate does."""
    parts, derived = delegate_by_name(delegate).disassemble(obj)
    ids = {name: uuid4() for name in parts}
    components = {name: Source(id=ids[name]) for name in parts}
    components |= {name: Source(id=ids[part], component=inner) for name, (part, inner) in derived.items()}
    return TakenApart(parts, ids, Manifest(delegate=delegate, python_type=python_type, components=components))


def compose(
    delegate: str, python_type: str, parts: Mapping[str, Part], sources: Mapping[str, Source], base: Source | None
) -> TakenApart:
    """Make a composite of parts that are stored with it, and of others that are stored already."""
    ids = {name: uuid4() for name in parts}
    components = {**sources, **{name: Source(id=id_) for name, id_ in ids.items()}}
    manifest = Manifest(delegate=delegate, python_type=python_type, components=components, base=base)
    return TakenApart(dict(parts), ids, manifest)
