"""The manifest of a composite: which dataset, or part of one, each of its components is (decision 0046)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import BinaryIO, ClassVar

import msgspec

from pantry.client.formatters.contract import (
    AS_USUAL,
    ReadSource,
    WriteRequest,
    check_request,
    reading,
    refuse_type,
    writing,
)
from pantry.errors import FormatterError
from pantry.model.builtin_formats import WriteOptions
from pantry.model.composites import MAX_MANIFEST_BYTES, Manifest
from pantry.model.file_provenance import PROVENANCE, FileProvenance


class CompositeFormatter:
    """JSON text of a `Manifest`; `Butler.get` follows it to the components."""

    extension: ClassVar[str] = ".json"
    keeps_provenance: ClassVar[bool] = True

    def read(self, source: ReadSource, *, component: str | None, parameters: Mapping[str, object]) -> object:
        """Return the manifest."""
        check_request(source, component, parameters, components=(PROVENANCE,))
        if source.size_bytes > MAX_MANIFEST_BYTES:
            raise FormatterError(f"{source.name}: {source.size_bytes} bytes are too many for a composite's manifest")
        with reading(source, "the manifest of a composite"), source.open() as file:
            manifest = msgspec.json.decode(file.read(), type=Manifest)
            manifest.check(source.name)
        return (manifest.provenance or FileProvenance()) if component == PROVENANCE else manifest

    def write(self, obj: object, file: BinaryIO, request: WriteRequest = AS_USUAL) -> None:
        """Write a manifest."""
        request.options(WriteOptions)
        if not isinstance(obj, Manifest):
            raise refuse_type(obj, "the manifest of a composite", "pantry.model.composites.Manifest")
        with writing(obj, "the manifest of a composite"):
            obj.check("this composite")
            obj = msgspec.structs.replace(obj, provenance=request.provenance)
            file.write(msgspec.json.format(msgspec.json.encode(obj), indent=2) + b"\n")
