"""YAML to frozen values, with the file and line of whatever is wrong."""

from __future__ import annotations

import difflib
import os
import re
from collections import defaultdict
from collections.abc import Iterator
from typing import Any, TypeVar, get_args

import msgspec
import yaml

from pantry.errors import ConfigError

T = TypeVar("T", bound=msgspec.Struct)
C = TypeVar("C")

_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*([KMGT])iB\Z")
MAX_VALUES = 1_000_000
"""Most values of one file."""
_UNIT = {"K": 1024, "M": 1024**2, "G": 1024**3, "T": 1024**4}


def load_yaml_file(path: str, kind: type[T]) -> T:
    """Read a YAML file into a frozen struct; see `load_yaml`."""
    return load_yaml(_read(path), kind, source=path)


def load_yaml_entries(path: str, kind: Any) -> dict[str, Any]:
    """Read a YAML file that gives names values of one type, such as ``str``; errors as of `load_yaml`."""
    lines: dict[str, int] = {}
    quotes = "text that begins with '{' stands in quotes"
    try:
        plain = _parse(_read(path), path, lines)
    except ConfigError as exc:
        raise ConfigError(exc.message, hint=exc.hint or quotes) from None
    if not isinstance(plain, dict):
        raise ConfigError(f"{path}:1: must give each name something, as in 'name: text'")
    made = {}
    for name, value in plain.items():
        try:
            made[name] = msgspec.convert(value, kind)
        except msgspec.ValidationError as exc:
            raise ConfigError(f"{path}:{_line(lines, f'$.{name}')}: {name}: {exc}", hint=quotes) from None
    return made


def convert_plain(plain: Any, kind: type[T], *, source: str) -> T:
    """Do for plain values that were given in Python what `load_yaml` does for text; ``source`` is for messages."""
    lines: dict[str, int] = defaultdict(lambda: 1)
    try:
        _refuse_unknown(plain, kind, "$", lines, source)
        return _convert(plain, kind, lines, source)
    except ConfigError as exc:
        # There are no lines to name.
        raise ConfigError(exc.message.replace(f"{source}:1: ", f"{source}: ", 1), hint=exc.hint) from None


def _read(path: str) -> str:
    try:
        with open(path, encoding="utf-8") as file:
            return file.read()
    except (OSError, UnicodeDecodeError) as exc:
        reason = os.strerror(exc.errno) if isinstance(exc, OSError) and exc.errno else str(exc)
        raise ConfigError(f"{path}: cannot be read: {reason}") from None


def read_places(path: str) -> tuple[Any, dict[str, int]]:
    """Read a YAML file as plain values, with the line of each by its place, such as ``$.cache.quota_bytes``."""
    lines: dict[str, int] = {}
    return _parse(_read(path), path, lines), lines


def load_yaml(text: str, kind: type[T], *, source: str) -> T:
    """Turn YAML text into a struct of type ``kind``.

    Keys that ``kind`` does not have are refused, with the place they stand and the likeliest
    right name. Values of keys in ``_bytes`` may be written as ``20 GiB``.

    Raises
    ------
    ConfigError
        Always with ``source`` and, where there is one, the line.
    """
    lines: dict[str, int] = {}
    plain = _parse(text, source, lines)
    _refuse_unknown(plain, kind, "$", lines, source)
    return _convert(plain, kind, lines, source)


def _parse(text: str, source: str, lines: dict[str, int]) -> Any:
    try:
        root = yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.MarkedYAMLError as exc:
        line = exc.problem_mark.line + 1 if exc.problem_mark else 0
        raise ConfigError(f"{source}:{line}: not YAML: {exc.problem}") from None
    except yaml.YAMLError as exc:
        raise ConfigError(f"{source}: not YAML: {exc}") from None
    loader = yaml.SafeLoader("")
    try:
        return {} if root is None else _plain(root, loader, "$", lines, source, depth=0)
    finally:
        loader.dispose()


def _convert(plain: Any, kind: type[C], lines: dict[str, int], source: str) -> C:
    try:
        return msgspec.convert(plain, kind)
    except msgspec.ValidationError as exc:
        message, _, place = str(exc).partition(" - at `")
        place = place.rstrip("`")
        raise ConfigError(f"{source}:{_line(lines, place)}: {place.removeprefix('$.') or 'top'}: {message}") from None


def _line(lines: dict[str, int], place: str) -> int:
    while place not in lines and place != "$":
        place = place.rpartition(".")[0] if place.rfind(".") > place.rfind("[") else place[: place.rfind("[")]
        place = place or "$"
    return lines.get(place, 1)


def _plain(
    node: yaml.Node, loader: yaml.SafeLoader, place: str, lines: dict[str, int], source: str, *, depth: int
) -> Any:
    lines[place] = node.start_mark.line + 1
    if len(lines) > MAX_VALUES:  # also of aliases in aliases, which are few bytes
        raise ConfigError(f"{source}: more than {MAX_VALUES} values")
    if depth > 20:
        raise ConfigError(f"{source}:{lines[place]}: nested too deeply")
    if isinstance(node, yaml.MappingNode):
        made: dict[Any, Any] = {}
        for key_node, value_node in node.value:
            key = loader.construct_object(key_node)
            if not isinstance(key, str):
                raise ConfigError(f"{source}:{key_node.start_mark.line + 1}: keys are text, not {key!r}")
            if key in made:
                raise ConfigError(f"{source}:{key_node.start_mark.line + 1}: the key {key!r} stands twice")
            below = f"{place}.{key}"
            value = _plain(value_node, loader, below, lines, source, depth=depth + 1)
            lines[below] = key_node.start_mark.line + 1
            if key.endswith("_bytes") and isinstance(value, str) and (match := _SIZE.match(value)):
                value = int(float(match[1]) * _UNIT[match[2]])
            made[key] = value
        return made
    if isinstance(node, yaml.SequenceNode):
        return [
            _plain(child, loader, f"{place}[{number}]", lines, source, depth=depth + 1)
            for number, child in enumerate(node.value)
        ]
    return loader.construct_object(node)


def _structs_in(kind: Any) -> Iterator[tuple[str, type[msgspec.Struct]]]:
    """Give the struct types inside a field's type, with how they are reached: '', '[]', '{}', or '{}{}' and so on."""
    if isinstance(kind, type) and issubclass(kind, msgspec.Struct):
        yield "", kind
    origin = getattr(kind, "__origin__", None)
    for argument in get_args(kind):
        for how, inner in _structs_in(argument):
            yield ("{}" if origin is dict else "" if origin is None else "[]") + how, inner


def _refuse_unknown(value: Any, kind: type[msgspec.Struct], place: str, lines: dict[str, int], source: str) -> None:
    if not isinstance(value, dict):
        return
    types = {field.encode_name: field.type for field in msgspec.structs.fields(kind) if field.name != "source"}
    for key, inner in value.items():
        below = f"{place}.{key}"
        if key not in types:
            near = difflib.get_close_matches(key, types, n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"known: {', '.join(sorted(types))}"
            raise ConfigError(f"{source}:{lines[below]}: unknown key {below.removeprefix('$.')!r}", hint=hint)
        for how, struct in _structs_in(types[key]):
            for place_of_one, one in _reached(inner, how, below):
                _refuse_unknown(one, struct, place_of_one, lines, source)


def _reached(value: Any, how: str, place: str) -> Iterator[tuple[str, Any]]:
    """Give the values that `_structs_in` says are structs, with their places."""
    if not how:
        yield place, value
    elif how.startswith("[]") and isinstance(value, list):
        for number, item in enumerate(value):
            yield from _reached(item, how[2:], f"{place}[{number}]")
    elif how.startswith("{}") and isinstance(value, dict):
        for name, item in value.items():
            yield from _reached(item, how[2:], f"{place}.{name}")
