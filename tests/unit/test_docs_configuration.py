"""docs/reference/configuration.md names every key, with its default, and no other."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from types import UnionType
from typing import Any, get_args, get_origin

import msgspec
import pytest
from tests.docs.tables import DOCS, ROOT, code, rows, section

from pantry.backends.http.options import HttpOptions
from pantry.backends.s3.options import S3Options
from pantry.backends.sql.options import SqlStorageOptions
from pantry.backends.tap.options import TapOptions
from pantry.backends.vospace.options import VOSpaceOptions
from pantry.daemon.config import DaemonConfig, load_config
from pantry.daemon.config.secrets import SecretSource
from pantry.daemon.repositories.description import RepositoryDescription
from pantry.model.loading import load_yaml

PAGE = (DOCS / "reference" / "configuration.md").read_text()
EXAMPLE = ROOT / "systemd" / "pantryd.yaml"
_UNITS = {"KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30, "TiB": 1 << 40}
_NO_DEFAULT = object()


def keys_of(kind: type[msgspec.Struct], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Every key that a configuration file may have, with its default."""
    for field in msgspec.structs.fields(kind):
        name = prefix + field.name
        if name == "source":
            continue
        inner = next((one for one in (field.type, *get_args(field.type)) if _is_struct(one)), None)
        if inner is None:
            if field.default_factory is not msgspec.NODEFAULT:
                yield name, field.default_factory()
            else:
                yield name, _NO_DEFAULT if field.default is msgspec.NODEFAULT else field.default
        elif inner is field.type or get_origin(field.type) is UnionType:
            yield from keys_of(inner, f"{name}.")
        else:
            yield from keys_of(inner, f"{name}.NAME." if get_origin(field.type) is dict else f"{name}[].")


def _is_struct(kind: object) -> bool:
    # Where a secret is kept stands in place of a value.
    return isinstance(kind, type) and issubclass(kind, msgspec.Struct) and kind is not SecretSource


def documented(heading: str, header: str) -> dict[str, str]:
    """Keys and defaults of the first table below a heading."""
    return {code(row[0]): row[2] for row in rows(section(PAGE, heading), header=header)}


def as_written(text: str) -> object:
    """The value that a cell of the column "default" means."""
    if text == "required":
        return _NO_DEFAULT
    if not text:
        return ""
    value = code(text)
    if match := re.fullmatch(r"([\d.]+) ([KMGT]iB)", value):
        return int(match[1]) * _UNITS[match[2]]
    return {"[]": (), "{}": {}, "true": True, "false": False}.get(value, value)


def same(documented_value: object, default: object) -> bool:
    if documented_value is _NO_DEFAULT or default is _NO_DEFAULT:
        return documented_value is default
    if default is None:
        return documented_value == ""
    if isinstance(default, bool) or not isinstance(default, int | float):
        return documented_value == default
    return isinstance(documented_value, str | int) and float(documented_value) == default


@pytest.mark.parametrize(
    ("heading", "header", "kind"),
    [
        ("## The daemon's file", "key", DaemonConfig),
        ("### `s3`", "option", S3Options),
        ("### `tap`", "option", TapOptions),
        ("### `http` and `https`", "option", HttpOptions),
        ("### `sql+postgresql` and `sql+sqlite`", "option", SqlStorageOptions),
        ("### `vos`", "option", VOSpaceOptions),
        ("## A repository's file", "key", RepositoryDescription),
    ],
)
def test_every_key_is_documented_with_its_default(heading: str, header: str, kind: type[msgspec.Struct]) -> None:
    defaults = dict(keys_of(kind))
    page = documented(heading, header)
    assert page.keys() == defaults.keys()
    wrong = {key: (page[key], default) for key, default in defaults.items() if not same(as_written(page[key]), default)}
    assert not wrong


def test_the_posix_options_are_documented() -> None:
    from pantry.backends.posix.backend import _OPTIONS

    assert documented("### `posix`", "option").keys() == _OPTIONS


def test_environment_variables_are_documented() -> None:
    named = {match for row in rows(PAGE, header="variable") for match in re.findall(r"`([A-Z_]+)`", row[0])}
    used = set()
    for room in ("src", "client", "daemon", "fusefs", "backends"):
        for file in (ROOT / room).rglob("*.py"):
            text = file.read_text()
            used |= set(re.findall(r"environ(?:\.get\(|\[)\"([A-Z_]+)\"", text))
            used |= set(re.findall(r"_xdg\(\"([A-Z_]+)\"", text))
            used |= set(re.findall(r"\"(PANTRY_[A-Z_]+)\"", text))
    # The last two are between bash's completion script and us.
    assert used - {"PYTHONPATH", "TMPDIR", "HOME", "PATH", "COMP_LINE", "COMP_WORD"} <= named


def uncommented(text: str) -> str:
    """The example with every key in use: settings stand behind '#' without one single space."""
    return "\n".join(re.sub(r"^#(?! \S)(?=.)", "", line) for line in text.splitlines())


def test_the_example_is_in_order() -> None:
    config = load_config(str(EXAMPLE))
    assert config.mode == "system"
    assert config.cache.directory == "/var/cache/pantry"


def test_the_example_has_every_key() -> None:
    text = uncommented(EXAMPLE.read_text())
    config = load_yaml(text, DaemonConfig, source="the example")
    assert config.storage
    assert config.repositories
    missing = [
        key for key in dict(keys_of(DaemonConfig)) if not re.search(rf"^[ -]*{key.rpartition('.')[2]}:", text, re.M)
    ]
    assert not missing


def test_the_example_shows_the_defaults(tmp_path: Path) -> None:
    file = tmp_path / "all.yaml"
    file.write_text(uncommented(EXAMPLE.read_text()))
    shown = load_config(str(file))
    (tmp_path / "none.yaml").write_text("mode: system\n")
    defaults = load_config(str(tmp_path / "none.yaml"))
    for name in ("mode", "socket", "state_directory", "shutdown_s", "log_level", "cache", "limits"):
        assert getattr(shown, name) == getattr(defaults, name), name
