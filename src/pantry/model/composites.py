"""Composites: what their components are, and where each comes from (DMS-MWBT-REQ-0034, 0035, 0051; decision 0046)."""

from __future__ import annotations

from uuid import UUID

import msgspec

from pantry.errors import ConfigError, InvalidRequestError
from pantry.model.file_provenance import FileProvenance

COMPOSITE = "composite"
"""Formatter of the file that says what a composite consists of; stored with datasets, never changed."""

MAX_COMPONENTS = 60
MAX_MANIFEST_BYTES = 1 << 20
_KINDS = ("id", "dataset", "record", "metadata")


class Source(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True):
    """Where a component comes from: exactly one of ``id``, ``dataset``, ``record`` and ``metadata``.

    Attributes
    ----------
    id : uuid.UUID or None
        This dataset.
    dataset : str
        The dataset of this type for the composite's data id, in the collections that are searched.
    record : str
        The dimension record of this element for the composite's data id, as a dict.
    metadata : str
        The declared metadata of the dataset of this type for the composite's data id, as a dict.
    repository : str
        Where the dataset is; empty for the repository of the composite.
    component : str
        Of that dataset, only this component.
    entry : str
        Of the record or the metadata, only this field.
    data_id : dict of str to str
        For a dimension of what is sought, the dimension of the composite whose value it takes, as
        ``{"exposure": "visit"}``.
    """

    id: UUID | None = None
    dataset: str = ""
    record: str = ""
    metadata: str = ""
    repository: str = ""
    component: str = ""
    entry: str = ""
    data_id: dict[str, str] = {}

    def check(self, place: str) -> None:
        """Raise `ConfigError` if it names no source or several."""
        said = [name for name in _KINDS if getattr(self, name)]
        if len(said) != 1:
            raise ConfigError(f"{place}: a source has one of {', '.join(_KINDS)}, not {' and '.join(said) or 'none'}")
        if self.entry and said[0] in ("id", "dataset"):
            raise ConfigError(f"{place}: entry is of a record or of metadata; of a dataset name a component")
        if self.component and said[0] in ("record", "metadata"):
            raise ConfigError(f"{place}: component is of a dataset; of a record or of metadata name an entry")


class Manifest(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, tag_field="pantry", tag="composite"):
    """The file of a composite that is stored in parts.

    Attributes
    ----------
    version : int
        Of this form: 1.
    delegate : str
        What puts the components together.
    python_type : str
        Qualified name of what it then is.
    components : dict of str to Source
        Where each component comes from.
    base : Source or None
        A dataset that has all components but those.
    provenance : FileProvenance or None
        Where the composite comes from.
    """

    version: int = 1
    delegate: str
    python_type: str
    components: dict[str, Source]
    base: Source | None = None
    provenance: FileProvenance | None = None

    def check(self, name: str) -> None:
        """Raise `InvalidRequestError` if it makes no sense."""
        if self.version != 1:
            raise InvalidRequestError(
                f"{name} is a composite of version {self.version}", hint="this Pantry knows version 1: a newer reads it"
            )
        if len(self.components) > MAX_COMPONENTS:
            raise InvalidRequestError(f"{name} has {len(self.components)} components, more than {MAX_COMPONENTS}")
        try:
            for component, source in self.components.items():
                check_component(component, name)
                source.check(f"{name}: {component}")
            if self.base is not None:
                self.base.check(f"{name}: base")
        except ConfigError as exc:
            raise InvalidRequestError(exc.message) from None


def check_component(component: str, place: str) -> None:
    """Refuse a name that a component cannot have: it becomes a part of a dataset type's name."""
    if not component.isidentifier() or not component.isascii() or len(component) > 64:
        raise ConfigError(
            f"{place}: {component[:64]!r} cannot be the name of a component",
            hint="use letters, digits and underscores",
        )
