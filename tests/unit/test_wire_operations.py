"""Operations are imported when they are first asked for, and none is forgotten."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

from pantry.wire import operations
from pantry.wire.operations import base

SOURCE = Path(operations.__file__)


def defined(module: Path) -> list[str]:
    """The public names that a module defines, as type checkers see them."""
    found: list[str] = []
    for node in ast.parse(module.read_text()).body:
        if isinstance(node, ast.ClassDef | ast.FunctionDef):
            found.append(node.name)
        targets = node.targets if isinstance(node, ast.Assign) else []
        found += [one.id for target in targets for one in ast.walk(target) if isinstance(one, ast.Name)]
    return [name for name in found if not name.startswith("_")]


def test_every_name_that_types_see_is_found_where_it_is() -> None:
    starred = {
        (node.module or "").rpartition(".")[2]
        for node in ast.walk(ast.parse(SOURCE.read_text()))
        if isinstance(node, ast.ImportFrom) and [one.name for one in node.names] == ["*"]
    }
    assert starred == set(operations._HOMES)
    for home, names in operations._HOMES.items():
        assert sorted(names.split()) == sorted(defined(SOURCE.with_name(f"{home}.py"))), home
    assert len(operations.__all__) == len(set(operations.__all__))
    for name in operations.__all__:
        assert hasattr(operations, name)
    assert not hasattr(operations, "Nothing")


def test_every_module_of_operations_is_known() -> None:
    modules = {one.stem for one in SOURCE.parent.glob("*.py")} - {"__init__", "base"}
    assert modules == set(operations._HOMES)
    assert {type(one) for one in base.concrete_operations()} == {type(base.Operation)}


def test_the_client_starts_without_what_it_has_not_been_asked_for() -> None:
    code = "import sys, pantry.client; from pantry.client import Butler; print(*sys.modules)"
    loaded = set(
        subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout.split()
    )
    assert "pantry.wire.operations.data" in loaded
    rare = {"publishing", "provenance", "keeping", "integrity", "importing", "subsetting", "queries", "cache"}
    assert not loaded & {f"pantry.wire.operations.{name}" for name in rare}
