"""Objects by the names that repositories store: Pantry's own, and those of other packages by their entry points."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from typing import Any

from pantry.errors import FormatterError


def made_by_name(what: str, name: str, *, builtin: Mapping[str, str], package: str, group: str) -> Any:
    """Make the object of a name.

    Parameters
    ----------
    what : str
        For messages.
    name : str
        A key of ``builtin``, or the name of an entry point.
    builtin : Mapping
        For each name module and class below ``package``, as "module:Class".
    package : str
        Where these modules are.
    group : str
        Of the entry points.

    Raises
    ------
    FormatterError
        If there is none, or its package fails to import.
    """
    where = builtin.get(name)
    if where is not None:
        module, _, attribute = where.partition(":")
        return getattr(import_module(f"{package}.{module}"), attribute)()
    from importlib.metadata import entry_points

    found = entry_points(group=group)
    if name not in found.names:
        raise FormatterError(
            f"unknown {what} {name[:80]!r}",
            hint=f"known: {', '.join(sorted({*builtin, *found.names}))}; others come with packages that offer "
            f"{group!r} entry points",
        )
    try:
        return found[name].load()()
    except Exception as exc:
        raise FormatterError(f"{what} {name!r} from {found[name].value} fails to load: {exc}") from exc
