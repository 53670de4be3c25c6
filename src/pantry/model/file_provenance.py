"""Provenance that a file itself carries (DMS-MWBT-REQ-0093, 0096; decision 0038)."""

from __future__ import annotations

from uuid import UUID

import msgspec

from pantry.errors import FormatterError
from pantry.model.data_id import DataIdValue
from pantry.model.datasets import DatasetRef

PROVENANCE = "provenance"
"""The component of every dataset that says where it comes from."""

KEY = "pantry_provenance"
"""Under which name formats keep it."""

MAX_BYTES = 256 << 20


class Contributor(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A dataset, as a file names it.

    Attributes
    ----------
    id : uuid.UUID
        Its id.
    dataset_type, run : str
        What it is, and where; empty if that is not known.
    data_id : dict
        Its required dimensions.
    """

    id: UUID
    dataset_type: str = ""
    run: str = ""
    data_id: dict[str, DataIdValue] = {}

    @classmethod
    def of(cls, ref: DatasetRef) -> Contributor:
        """Describe a dataset."""
        return cls(id=ref.id, dataset_type=ref.dataset_type.name, run=ref.run, data_id=ref.data_id.required)


class FileProvenance(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What a file says of where it comes from.

    Attributes
    ----------
    dataset : Contributor or None
        The dataset that it is the file of.
    quantum : uuid.UUID or None
        What made it.
    inputs : tuple of Contributor
        Its immediate parents.
    raws : tuple of Contributor
        The raw data that contributed to it, over any number of steps.
    """

    dataset: Contributor | None = None
    quantum: UUID | None = None
    inputs: tuple[Contributor, ...] = ()
    raws: tuple[Contributor, ...] = ()

    def to_json(self) -> str:
        """Return it as text."""
        return msgspec.json.encode(self).decode()


def of_dataset(provenance: FileProvenance | None, ref: DatasetRef, dataset_type: str = "") -> FileProvenance:
    """Return a provenance with the dataset that it is of, whose type may be another than the reference's."""
    own = Contributor.of(ref)
    if dataset_type:
        own = msgspec.structs.replace(own, dataset_type=dataset_type)
    return msgspec.structs.replace(provenance or FileProvenance(), dataset=own)


def from_json(text: str | bytes, name: str) -> FileProvenance:
    """Read what `FileProvenance.to_json` wrote; ``name`` is that of the file, for messages."""
    if len(text) > MAX_BYTES:
        raise FormatterError(f"{name}: {len(text)} bytes of provenance are too many")
    try:
        return msgspec.json.decode(text, type=FileProvenance)
    except msgspec.MsgspecError as exc:
        raise FormatterError(f"{name}: its provenance cannot be read: {exc}") from None
