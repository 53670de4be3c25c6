"""What takes a composite apart and puts it together again."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache
from typing import Any, NamedTuple, Protocol, cast

from pantry.client.plugins import made_by_name
from pantry.errors import FormatterError
from pantry.model.composites import Source

ENTRY_POINT_GROUP = "pantry.delegates"
"""Entry points by which other packages add delegates: name = "module:Class"."""

BUILTIN_DELEGATES: dict[str, str] = {
    "mapping": "mappings:MappingDelegate",
    "nddata": "nddata:NDDataDelegate",
}
"""Names as manifests store them, never renamed, and where each is."""

_OF_TYPES = {
    "dict": "mapping",
    "astropy.nddata.CCDData": "nddata",
    "astropy.nddata.NDData": "nddata",
}


Look = Callable[[str, str], Any]
"""Gives a component of the dataset that a component is, the dataset itself for ``""``; None if there is no such."""


class Part(NamedTuple):
    """A component as it is stored by itself.

    Attributes
    ----------
    obj : object
        What its formatter writes.
    storage_class : str
        In which form, if the configuration says nothing else.
    """

    obj: Any
    storage_class: str


class Delegate(Protocol):
    """Takes objects of one kind apart and puts them together; stateless."""

    def disassemble(self, obj: Any) -> tuple[dict[str, Part], dict[str, tuple[str, str]]]:
        """Return the components that are stored, and those that are components of one of these.

        Returns
        -------
        parts : dict of str to Part
            What is stored by itself. What the object has not is left out.
        derived : dict of str to (str, str)
            For further components the name of the part that has them, and of its component.
        """
        ...

    def store(self, component: str, obj: Any) -> Part:
        """Return one component, as users know it, as it is stored by itself."""
        ...

    def settled(self, name: str, given: Mapping[str, Any], look: Look) -> dict[str, Any]:
        """Return read parameters that mean the same for all components, as pixels in place of a part of the sky."""
        ...

    def parameters(self, component: str, given: Mapping[str, Any]) -> dict[str, Any]:
        """Return with which of the read parameters a component's file is read; refuse those that nobody knows."""
        ...

    def restore(self, component: str, stored: Any, given: Mapping[str, Any]) -> Any:
        """Return a component as users know it, from what its formatter read, cut to the read parameters."""
        ...

    def assemble(self, parts: Mapping[str, Any]) -> Any:
        """Put components, as users know them, together; what another of them has need not be there."""
        ...


@cache
def delegate_by_name(name: str) -> Delegate:
    """Return a delegate by the name that configurations and manifests use.

    Raises
    ------
    FormatterError
        There is none here.
    """
    package = __name__.rpartition(".")[0]
    made = made_by_name("delegate", name, builtin=BUILTIN_DELEGATES, package=package, group=ENTRY_POINT_GROUP)
    return cast(Delegate, made)


def delegate_of(python_type: str, given: str = "") -> str:
    """Return the name of the delegate of a Python type, or the given one.

    Raises
    ------
    FormatterError
        Its type has none.
    """
    name = given or _OF_TYPES.get(python_type, "")
    if not name:
        raise FormatterError(
            f"nothing takes a {python_type} apart",
            hint=f"types that are: {', '.join(sorted(_OF_TYPES))}; or name a delegate in the formats",
        )
    return name


def with_replaced(obj: Any, delegate: Delegate, replaced: Mapping[str, Any]) -> Any:
    """Return a composite with some of its components replaced by others."""
    parts, _ = delegate.disassemble(obj)
    return delegate.assemble(
        {**{name: delegate.restore(name, part.obj, {}) for name, part in parts.items()}, **replaced}
    )


def selected(sources: Mapping[str, Source], wanted: object, name: str) -> dict[str, Source]:
    """Return the components that the read parameter ``components`` names, all if it is None."""
    if wanted is None:
        return dict(sources)
    names = [wanted] if isinstance(wanted, str) else list(cast("Any", wanted))
    unknown = [one for one in names if one not in sources]
    if unknown:
        raise FormatterError(
            f"{name} has no components {', '.join(map(repr, unknown))}", hint=f"its components: {', '.join(sources)}"
        )
    return {one: sources[one] for one in names}
