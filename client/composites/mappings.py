"""Mappings as composites: each value is a component."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pantry.client.composites.delegates import Look, Part
from pantry.client.formatters.conversions import type_names
from pantry.errors import ConfigError, FormatterError
from pantry.model.composites import check_component

_CLASSES = {
    "astropy.table.Table": "ArrowAstropy",
    "pandas.DataFrame": "DataFrame",
    "pyarrow.Table": "ArrowTable",
    "astropy.nddata.CCDData": "CCDData",
    "astropy.io.fits.HDUList": "FitsHDUList",
    "numpy.ndarray": "NumpyArray",
    "dict": "StructuredDataDict",
    "list": "StructuredDataList",
    "bytes": "Bytes",
}


class MappingDelegate:
    """A dict whose keys are the components' names."""

    def disassemble(self, obj: Any) -> tuple[dict[str, Part], dict[str, tuple[str, str]]]:
        """Return each value, in the storage class of what it is."""
        if not isinstance(obj, Mapping) or not obj:
            raise FormatterError(f"a {type(obj).__name__} is no mapping with components")
        return {_name(name): self.store(_name(name), value) for name, value in obj.items()}, {}

    def store(self, component: str, obj: Any) -> Part:
        """Return it in the storage class of what it is."""
        for kind in type_names(obj):
            if kind in _CLASSES:
                return Part(obj, _CLASSES[kind])
        raise FormatterError(
            f"the component {component!r} is a {type(obj).__name__}, which no storage class is known for",
            hint=f"components are {', '.join(_CLASSES)}",
        )

    def settled(self, name: str, given: Mapping[str, Any], look: Look) -> dict[str, Any]:
        """Return them as they are."""
        return dict(given)

    def parameters(self, component: str, given: Mapping[str, Any]) -> dict[str, Any]:
        """Refuse parameters: they mean something else for each component."""
        if given:
            raise FormatterError(
                f"unknown read parameters {', '.join(sorted(given))}",
                hint="a mapping takes components=[...]; read one component with parameters of its own",
            )
        return {}

    def restore(self, component: str, stored: Any, given: Mapping[str, Any]) -> Any:
        """Return what was read."""
        return stored

    def assemble(self, parts: Mapping[str, Any]) -> Any:
        """Return a dict."""
        return dict(parts)


def _name(name: Any) -> str:
    try:
        check_component(str(name), "this mapping")
    except ConfigError as exc:
        raise FormatterError(exc.message, hint=exc.hint) from None
    return str(name)
