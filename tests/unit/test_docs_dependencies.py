"""docs/decisions/0002-dependencies.md gives a reason for every dependency."""

from __future__ import annotations

import re
import tomllib

from tests.docs.tables import DOCS, ROOT, code, rows

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
PAGE = rows((DOCS / "decisions" / "0002-dependencies.md").read_text(), header="dependency")


def names_and_bounds(requirements: list[str]) -> dict[str, str]:
    found = {}
    for requirement in requirements:
        match = re.fullmatch(r"([\w.-]+)(?:\[[\w,]+\])?>=([\d.]+)", requirement)
        assert match, requirement
        found[match[1]] = match[2]
    return found


def test_every_runtime_dependency_has_a_reason() -> None:
    documented = {code(row[0]): row[1] for row in PAGE if len(row) == 5}
    assert documented == names_and_bounds(PROJECT["project"]["dependencies"])
    assert all(all(row) for row in PAGE)


def test_every_other_dependency_has_a_reason() -> None:
    documented = {code(row[0]): row[1] for row in PAGE if len(row) == 3}
    extras = [one for extra in PROJECT["project"]["optional-dependencies"].values() for one in extra]
    assert documented == names_and_bounds([*extras, *PROJECT["build-system"]["requires"]])
