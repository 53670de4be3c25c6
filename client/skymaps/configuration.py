"""Sky maps as text: which kind, by which parameters (DMS-MWBT-REQ-0020)."""

from __future__ import annotations

from typing import Any, cast

import msgspec
import yaml

from pantry.client.skymaps.discrete import DiscreteSkyMap
from pantry.client.skymaps.healpix import HealpixSkyMap
from pantry.client.skymaps.rings import RingsSkyMap
from pantry.client.skymaps.skymap import SkyMap
from pantry.errors import ConfigError
from pantry.model.loading import load_yaml

ENTRY_POINT_GROUP = "pantry.skymaps"
"""Entry points by which other packages add kinds: name of the kind = "module:function", which makes a sky map
of a mapping of parameters."""

KINDS: dict[str, type[SkyMap]] = {"rings": RingsSkyMap, "healpix": HealpixSkyMap, "discrete": DiscreteSkyMap}
MAX_BYTES = 16 * 1024 * 1024


class NamedSkyMap(msgspec.Struct, frozen=True):
    """A sky map and what it is called; ``name`` is empty if its configuration gives none."""

    name: str
    skymap: Any


def load_skymap(text: str, *, source: str) -> NamedSkyMap:
    """Make the sky map that a configuration describes.

    Parameters
    ----------
    text : str
        YAML: ``kind``, perhaps ``name``, and the kind's parameters.
    source : str
        What messages call it.

    Raises
    ------
    ConfigError
        With the line where it is wrong.
    """
    if len(text) > MAX_BYTES:
        raise ConfigError(f"{source}: longer than {MAX_BYTES} characters")
    try:
        found = yaml.safe_load(text)
    except (yaml.YAMLError, RecursionError, ValueError) as exc:
        raise ConfigError(f"{source}: not YAML: {str(exc).splitlines()[0]}") from None
    if not isinstance(found, dict) or not isinstance(found.get("kind"), str):
        raise ConfigError(f"{source}: there is no 'kind'", hint=f"one of {', '.join(sorted(KINDS))}")
    kind = KINDS.get(found["kind"])
    if kind is None:
        name = found.pop("name", "")
        return NamedSkyMap(str(name), _of_plugin(found.pop("kind"), found, source))
    try:
        loaded = load_yaml(text, _with_name(kind), source=source)
    except ConfigError as exc:
        if exc.message.startswith(source):
            raise
        raise ConfigError(f"{source}: {exc.message}", hint=exc.hint) from None
    fields = {field.name: getattr(loaded, field.name) for field in msgspec.structs.fields(kind)}
    return NamedSkyMap(loaded.name, kind(**fields))  # type: ignore[attr-defined]


def dump_skymap(named: NamedSkyMap) -> str:
    """Write a sky map of one of Pantry's own kinds as `load_skymap` reads it."""
    kind = next((name for name, known in KINDS.items() if type(named.skymap) is known), None)
    if kind is None:
        raise ConfigError(f"a {type(named.skymap).__qualname__} has no configuration", hint="only its records are kept")
    content = {"kind": kind, **({"name": named.name} if named.name else {}), **msgspec.to_builtins(named.skymap)}
    return yaml.safe_dump(content, sort_keys=False)


def _with_name(kind: type[SkyMap]) -> type[SkyMap]:
    """Return the kind with the keys that are no parameters."""
    made = msgspec.defstruct(
        kind.__name__, [("kind", str), ("name", str, "")], bases=(kind,), kw_only=True, frozen=True, rename="camel"
    )
    return cast("type[SkyMap]", made)


def _of_plugin(kind: str, parameters: dict[str, Any], source: str) -> Any:
    from importlib.metadata import entry_points

    found = entry_points(group=ENTRY_POINT_GROUP)
    if kind not in found.names:
        known = ", ".join(sorted({*KINDS, *found.names}))
        raise ConfigError(f"{source}: unknown kind of sky map {kind!r}", hint=f"known: {known}")
    try:
        return found[kind].load()(parameters)
    except Exception as exc:
        raise ConfigError(f"{source}: {found[kind].value} cannot make a sky map of this: {exc}") from exc
