"""Sky maps, as the text that describes them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import BinaryIO, ClassVar

from pantry.client.formatters.contract import AS_USUAL, ReadSource, WriteRequest, check_request, reading, refuse_type
from pantry.client.skymaps import KINDS, NamedSkyMap, SkyMap, dump_skymap, load_skymap
from pantry.errors import ConfigError, FormatterError
from pantry.model.builtin_formats import WriteOptions


class SkyMapFormatter:
    """One `~pantry.client.skymaps.SkyMap` as YAML."""

    extension: ClassVar[str] = ".yaml"

    def read(self, source: ReadSource, *, component: str | None, parameters: Mapping[str, object]) -> object:
        """Return the sky map."""
        check_request(source, component, parameters)
        with reading(source, "a sky map"), source.open() as file:
            text = file.read().decode()
        try:
            return load_skymap(text, source=source.name).skymap
        except ConfigError as exc:
            raise FormatterError(exc.message, hint=exc.hint) from None

    def write(self, obj: object, file: BinaryIO, request: WriteRequest = AS_USUAL) -> None:
        """Write the sky map's configuration."""
        request.options(WriteOptions)
        if not isinstance(obj, SkyMap):
            raise refuse_type(
                obj, "the configuration of a sky map", f"pantry.client.skymaps: {', '.join(sorted(KINDS))}"
            )
        file.write(dump_skymap(NamedSkyMap("", obj)).encode())
