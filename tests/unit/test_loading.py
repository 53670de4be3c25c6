"""Unknown keys are refused wherever they stand, with their place."""

from __future__ import annotations

import msgspec
import pytest

from pantry.errors import ConfigError
from pantry.model.loading import load_yaml


class Inner(msgspec.Struct, frozen=True, kw_only=True):
    known: int = 0


class Outer(msgspec.Struct, frozen=True, kw_only=True):
    plain: Inner = Inner()
    optional: Inner | None = None
    either: str | Inner = ""
    several: tuple[Inner, ...] = ()
    named: dict[str, Inner] = {}
    nested: dict[str, dict[str, Inner]] = {}
    grouped: dict[str, tuple[Inner | None, ...]] = {}


@pytest.mark.parametrize(
    ("place", "text"),
    [
        ("plain", "plain: {KEY: 1}"),
        ("optional", "optional: {KEY: 1}"),
        ("either", "either: {KEY: 1}"),
        ("several[1]", "several: [{}, {KEY: 1}]"),
        ("named.a", "named: {a: {KEY: 1}}"),
        ("nested.a.b", "nested: {a: {b: {KEY: 1}}}"),
        ("grouped.a[1]", "grouped: {a: [null, {KEY: 1}]}"),
    ],
)
def test_unknown_keys(place: str, text: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load_yaml(text.replace("KEY", "knwon"), Outer, source="file")
    assert caught.value.message == f"file:1: unknown key '{place}.knwon'"
    assert caught.value.hint == "did you mean 'known'?"
    load_yaml(text.replace("KEY", "known"), Outer, source="file")
