"""docs/SEMANTICS.md: each promise names tests that exist, and the errors are those of the program."""

from __future__ import annotations

import ast
import errno
import re
from functools import cache

import pytest
from tests.docs.tables import DOCS, ROOT, Row, code, rows, section

from pantry.fusefs.errors import ERRNO

PAGE = (DOCS / "SEMANTICS.md").read_text()
SECTIONS = re.findall(r"^## .+$", PAGE, re.M)


def promises(heading: str) -> list[Row]:
    text = section(PAGE, heading)
    return rows(text, header="promise") + rows(text, header="not promised")


def named(cell: str) -> list[str]:
    """Tests that a cell names; nothing else may be in it."""
    found = re.findall(r"`([^`]+)`", cell)
    assert cell == " ".join(f"`{name}`" for name in found)
    return found


@cache
def functions_in(file: str) -> frozenset[str]:
    path = ROOT / "tests" / file
    if not path.is_file():
        return frozenset()
    return frozenset(
        node.name
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name.startswith("test_")
    )


@pytest.mark.parametrize("heading", SECTIONS)
def test_every_promise_names_tests_that_exist(heading: str) -> None:
    found = promises(heading)
    assert found
    for row in found:
        tests = named(row[-1])
        assert tests, f"no test shows {row[0]!r}"
        for test in tests:
            file, _, name = test.partition("::")
            assert name in functions_in(file), test


def test_the_errors_are_those_of_the_program() -> None:
    documented = {code(row[1]): row[0] for row in rows(section(PAGE, "## Errors"), header="errno")}
    assert documented == {kind.__name__: errno.errorcode[number] for kind, number in ERRNO.items()}
