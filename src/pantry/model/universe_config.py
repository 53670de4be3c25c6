"""A universe's configuration, checked: what Gen3's ``dimensions.yaml`` says, in all its published versions.

Unknown keys are refused with the place where they stand. What older versions said by ``storage`` classes is
read as what newer ones say by ``implied_union_target`` and ``is_cached``; ``packers`` are known and not used.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any, Literal, NamedTuple

import msgspec

from pantry.errors import ConfigError

ColumnType = Literal["string", "int", "float", "bool", "hash"]
_KEY_TYPES = ("string", "int", "hash")

_STORAGE = "lsst.daf.butler.registry.dimensions."
_GOVERNOR = _STORAGE + "governor.BasicGovernorDimensionRecordStorage"
_TABLE = _STORAGE + "table.TableDimensionRecordStorage"
_UNION = _STORAGE + "query.QueryDimensionRecordStorage"
_CACHING = _STORAGE + "caching.CachingDimensionRecordStorage"
_PIXELIZATIONS: dict[str, str] = {
    "lsst.sphgeom.HtmPixelization": "htm",
    "lsst.sphgeom.HealpixPixelization": "healpix",
}
_MOST_LEVELS: dict[str, int] = {"htm": 24, "healpix": 29}


class Column(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A key or metadata column of a dimension element.

    Attributes
    ----------
    name : str
        Unique in its element.
    type : str
        ``string``, ``int``, ``float``, ``bool`` or ``hash``.
    length : int or None
        Most characters of a string.
    nbytes : int or None
        Most bytes of a hash.
    nullable : bool
        Whether the value may be absent.
    doc : str
        For people, with the unit.
    """

    name: str
    type: ColumnType
    length: int | None = None
    nbytes: int | None = None
    nullable: bool = True
    doc: str = ""


class DimensionElement(msgspec.Struct, frozen=True, kw_only=True):
    """A dimension, or a join of dimensions that has records of its own.

    Attributes
    ----------
    name : str
        Unique in the universe.
    keys : tuple of Column
        The first is the primary key, whose values appear in data ids; empty for a join element.
    requires, implies : tuple of str
        Direct dependencies as configured.
    metadata : tuple of Column
        Further columns of its records.
    spatial, temporal : bool
        Whether records have a ``region`` or a ``timespan``.
    governor : bool
        Whether the dimension stands above all others of its kind (instrument, skymap).
    always_join : bool
        Whether queries over its dimensions always go through it.
    populated_by : str or None
        The dimension together with whose records its own come and go.
    implied_union_target : str or None
        The dimension whose records give its values, so that it needs none of its own.
    is_cached : bool
        Whether its records are few and seldom change.
    doc : str
        For people.
    """

    name: str
    keys: tuple[Column, ...] = ()
    requires: tuple[str, ...] = ()
    implies: tuple[str, ...] = ()
    metadata: tuple[Column, ...] = ()
    spatial: bool = False
    temporal: bool = False
    governor: bool = False
    always_join: bool = False
    populated_by: str | None = None
    implied_union_target: str | None = None
    is_cached: bool = False
    doc: str = ""

    @property
    def is_dimension(self) -> bool:
        """Whether the element can be part of a data id."""
        return bool(self.keys)


class SkyPixSystem(msgspec.Struct, frozen=True, kw_only=True):
    """A pixelisation of the sky, with one dimension for each level.

    Attributes
    ----------
    name : str
        Which, with the level behind it, is the dimension's name.
    scheme : str
        ``htm`` or ``healpix``: how pixels are numbered.
    min_level, max_level : int
        The coarsest and the finest.
    """

    name: str
    scheme: Literal["htm", "healpix"]
    min_level: int
    max_level: int

    @property
    def levels(self) -> range:
        """All levels."""
        return range(self.min_level, self.max_level + 1)


class ParsedUniverse(NamedTuple):
    """What a configuration says; elements without topology, families of topology by name."""

    version: int
    namespace: str
    elements: dict[str, DimensionElement]
    skypix: dict[str, SkyPixSystem]
    common_skypix: str
    spatial: dict[str, tuple[str, ...]]
    temporal: dict[str, tuple[str, ...]]


def parse_universe(config: Mapping[str, Any], source: str) -> ParsedUniverse:
    """Check a configuration.

    Parameters
    ----------
    config : Mapping
        Parsed YAML or JSON.
    source : str
        Where it came from, for messages.

    Raises
    ------
    ConfigError
        For anything unknown or contradictory, with its place.
    """
    _mapping(config, source)
    known = ("version", "namespace", "skypix", "elements", "topology", "packers")
    _only(config, known, source)
    version, namespace = config.get("version", 0), config.get("namespace", "daf_butler")
    if type(version) is not int or not isinstance(namespace, str):
        raise ConfigError(f"{source}: version is an integer and namespace is text")
    bodies = _mapping(config.get("elements") or {}, f"{source}: elements")
    elements = {name: _element(str(name), body, f"{source}: elements.{name}") for name, body in bodies.items()}
    skypix, common = _skypix(_mapping(config.get("skypix") or {}, f"{source}: skypix"), f"{source}: skypix")
    for name, element in elements.items():
        target = element.implied_union_target
        if target is not None and (target not in elements or name not in elements[target].implies):
            raise ConfigError(
                f"{source}: elements.{name}: its implied_union_target {target!r} does not imply it",
                hint=f"only a dimension with {name} in its 'implies' gives its values",
            )
        if element.populated_by is not None and element.populated_by not in element.requires:
            raise ConfigError(f"{source}: elements.{name}: populated_by {element.populated_by!r}, which it lacks")
    topology = _mapping(config.get("topology") or {}, f"{source}: topology")
    _only(topology, ("spatial", "temporal"), f"{source}: topology")
    spatial, temporal = (_families(topology, kind, elements, f"{source}: topology") for kind in ("spatial", "temporal"))
    return ParsedUniverse(version, namespace, elements, skypix, common, spatial, temporal)


def _mapping(body: object, where: str) -> Mapping[str, Any]:
    if not isinstance(body, Mapping):
        raise ConfigError(f"{where} is not a mapping but {type(body).__name__}")
    return body


def _only(body: Mapping[str, Any], known: Collection[str], where: str) -> None:
    unknown = [str(key) for key in body if key not in known]
    if unknown:
        raise ConfigError(f"{where}: unknown key {', '.join(unknown)}", hint=f"known: {', '.join(known)}")


def _column(body: object, where: str, types: Collection[str]) -> Column:
    try:
        column = msgspec.convert(dict(_mapping(body, where)), Column)
    except msgspec.ValidationError as exc:
        raise ConfigError(f"{where}: bad column {body!r}: {exc}") from None
    if column.type not in types:
        raise ConfigError(f"{where}: the column {column.name!r} cannot be of type {column.type}")
    return column


def _names(body: Mapping[str, Any], key: str, where: str) -> tuple[str, ...]:
    found = body.get(key) or ()
    if isinstance(found, str) or not isinstance(found, Sequence) or not all(isinstance(name, str) for name in found):
        raise ConfigError(f"{where}.{key} is not a list of names: {found!r}")
    return tuple(dict.fromkeys(found))


def _flag(body: Mapping[str, Any], key: str, where: str) -> bool:
    found = body.get(key, False)
    if type(found) is not bool:
        raise ConfigError(f"{where}.{key} is true or false, not {found!r}")
    return found


_ELEMENT_KEYS = (
    "doc",
    "keys",
    "requires",
    "implies",
    "metadata",
    "governor",
    "always_join",
    "populated_by",
    "implied_union_target",
    "has_own_table",
    "is_cached",
    "storage",
)


def _element(name: str, given: object, where: str) -> DimensionElement:
    body = _mapping(given, where)
    _only(body, _ELEMENT_KEYS, where)
    keys = tuple(_column(key, f"{where}.keys", _KEY_TYPES) for key in body.get("keys") or ())
    if keys and keys[0].type == "hash":
        raise ConfigError(f"{where}.keys: the primary key is a string or an int", hint="it appears in data ids")
    kinds = ("string", "int", "float", "bool", "hash")
    cached, target = _flag(body, "is_cached", where), body.get("implied_union_target")
    if body.get("storage") is not None:
        cached, target = _storage(body["storage"], f"{where}.storage")
    governor, always_join, populated_by = _flag(body, "governor", where), _flag(body, "always_join", where), None
    populated_by = body.get("populated_by")
    made = DimensionElement(
        name=name,
        keys=keys,
        requires=_names(body, "requires", where),
        implies=_names(body, "implies", where),
        metadata=tuple(_column(column, f"{where}.metadata", kinds) for column in body.get("metadata") or ()),
        governor=governor,
        always_join=always_join,
        populated_by=populated_by,
        implied_union_target=target,
        is_cached=cached or governor,
        doc=" ".join(str(body.get("doc", "")).split()),
    )
    if body.get("has_own_table", target is None) is not (target is None):
        raise ConfigError(f"{where}: has_own_table contradicts implied_union_target {target!r}")
    _check_element(made, where)
    return made


def _check_element(element: DimensionElement, where: str) -> None:
    if element.keys and (element.always_join or element.populated_by):
        raise ConfigError(f"{where}: what has keys cannot have always_join or populated_by")
    if not element.keys and not element.requires:
        raise ConfigError(f"{where}: what has no keys needs something in 'requires'")
    if element.governor and (element.requires or element.implies or not element.keys):
        raise ConfigError(f"{where}: a governor has keys, and neither requires nor implies anything")
    if element.implied_union_target is not None and (
        element.requires or element.implies or element.metadata or len(element.keys) != 1
    ):
        raise ConfigError(f"{where}: what has an implied_union_target has one key and nothing else")


def _storage(given: object, where: str) -> tuple[bool, str | None]:
    """Read a storage class of an older universe: whether records are cached, and whose values it takes."""
    body = _mapping(given, where)
    kind = body.get("cls")
    if kind in (_GOVERNOR, _TABLE):
        _only(body, ("cls",), where)
        return kind == _GOVERNOR, None
    if kind == _UNION:
        _only(body, ("cls", "view_of"), where)
        return False, body.get("view_of")
    if kind == _CACHING:
        _only(body, ("cls", "nested"), where)
        return True, _storage(body.get("nested"), f"{where}.nested")[1]
    raise ConfigError(
        f"{where}.cls: unknown class {kind!r}", hint=f"known: {_GOVERNOR}, {_TABLE}, {_UNION}, {_CACHING}"
    )


def _skypix(config: Mapping[str, Any], where: str) -> tuple[dict[str, SkyPixSystem], str]:
    found: dict[str, SkyPixSystem] = {}
    for name, given in config.items():
        if name == "common":
            continue
        body = _mapping(given, f"{where}.{name}")
        _only(body, ("class", "min_level", "max_level"), f"{where}.{name}")
        scheme = _PIXELIZATIONS.get(body["class"]) if "class" in body else name
        if scheme not in _MOST_LEVELS:
            raise ConfigError(
                f"{where}.{name}: unknown pixelisation {body.get('class', name)!r}",
                hint=f"known: {', '.join(_PIXELIZATIONS)}",
            )
        least, most = body.get("min_level", 1), body.get("max_level")
        if type(least) is not int or type(most) is not int or not 0 <= least <= most <= _MOST_LEVELS[scheme]:
            raise ConfigError(
                f"{where}.{name} needs an integer max_level",
                hint=f"from its min_level, {least}, to {_MOST_LEVELS[scheme]}",
            )
        found[name] = SkyPixSystem(name=name, scheme=scheme, min_level=least, max_level=most)  # type: ignore[arg-type]
    common = config.get("common", "")
    levels = {f"{system.name}{level}" for system in found.values() for level in system.levels}
    if found and common not in levels:
        raise ConfigError(f"{where}.common: {common!r} is no system with a level", hint="for example htm7")
    return found, common


def _families(
    topology: Mapping[str, Any], kind: str, elements: Mapping[str, DimensionElement], where: str
) -> dict[str, tuple[str, ...]]:
    given = _mapping(topology.get(kind) or {}, f"{where}.{kind}")
    seen: dict[str, str] = {}
    found: dict[str, tuple[str, ...]] = {}
    for family in given:
        found[family] = _names(given, family, f"{where}.{kind}")
        for name in found[family]:
            if name not in elements:
                raise ConfigError(f"{where}.{kind}.{family}: unknown element {name!r}")
            if seen.setdefault(name, family) != family:
                raise ConfigError(f"{where}.{kind}: {name} is in two families, {seen[name]} and {family}")
    return found
