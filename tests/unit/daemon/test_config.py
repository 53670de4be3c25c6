"""The configuration says what is wrong, and where."""

from __future__ import annotations

from pathlib import Path

import pytest

from pantry.daemon.config import DaemonConfig, load_config
from pantry.errors import ConfigError
from pantry.model.loading import load_yaml


def load(text: str) -> DaemonConfig:
    return load_yaml(text, DaemonConfig, source="pantryd.yaml")


def test_sizes_are_written_as_people_do() -> None:
    assert load("cache:\n  quota_bytes: 1.5 GiB\n").cache.quota_bytes == 1536 * 1024 * 1024


def test_an_unknown_key_is_refused_with_its_line_and_the_likeliest_name() -> None:
    with pytest.raises(ConfigError) as caught:
        load("mode: user\ncache:\n  directory: /x\n  quota_byte: 5\n")
    assert caught.value.message == "pantryd.yaml:4: unknown key 'cache.quota_byte'"
    assert caught.value.hint == "did you mean 'quota_bytes'?"


def test_unknown_keys_are_found_in_lists_and_mappings_too() -> None:
    with pytest.raises(ConfigError, match=r"pantryd.yaml:3: unknown key 'storage\[0\].optoins'"):
        load("storage:\n- match: s3://b/\n  optoins: {}\n")
    with pytest.raises(ConfigError, match=r"pantryd.yaml:4: unknown key 'repositories.dp1.rot'"):
        load("repositories:\n  dp1:\n    root: /d\n    rot: /d\n")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("mode: [", "pantryd.yaml:1: not YAML"),
        ("limits:\n  transfers: many\n", "pantryd.yaml:2: limits.transfers"),
        ("mode: user\nmode: system\n", "pantryd.yaml:2: the key 'mode' stands twice"),
        ("storage:\n- options: {}\n", "pantryd.yaml:2: storage"),
        ("- a\n", "pantryd.yaml:1: top"),
        ("a: &x [*x]\n", "pantryd.yaml:"),
    ],
)
def test_what_is_wrong_is_said_with_the_line(text: str, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load(text)
    assert caught.value.message.startswith(message)


@pytest.mark.parametrize(
    "text",
    [
        "mode: both",
        "log_level: loud",
        "cache: {quota_bytes: 5}",
        "cache: {chunk_bytes: 100000}",
        "limits: {queries: 0}",
    ],
)
def test_impossible_values_are_refused(tmp_path: Path, text: str) -> None:
    file = tmp_path / "pantryd.yaml"
    file.write_text(text)
    with pytest.raises(ConfigError, match="pantryd.yaml"):
        load_config(str(file))


def test_a_missing_file_that_was_named_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be read"):
        load_config(str(tmp_path / "none.yaml"))


def test_arguments_win_over_the_file(tmp_path: Path) -> None:
    file = tmp_path / "pantryd.yaml"
    file.write_text("socket: /a/b\nidle_exit_s: 5\n")
    config = load_config(str(file), socket="/c/d", on_demand=True)
    assert config.socket == "/c/d"
    assert config.idle_exit_s == 5
    assert config.source == str(file)
    assert load_config(str(file)).idle_exit_s == 0, "only a daemon started on demand leaves by itself"


def test_aliases_in_aliases_are_refused_before_they_grow() -> None:
    lines = ["a: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 12)]
    with pytest.raises(ConfigError, match="more than 1000000 values"):
        load_yaml("\n".join(lines), DaemonConfig, source="bomb.yaml")
