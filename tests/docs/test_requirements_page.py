"""docs/requirements.md says what the marks in the tests say."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.docs import requirements_page


def test_the_page_is_up_to_date() -> None:
    expected = requirements_page.page(requirements_page.collect(requirements_page.ROOT / "tests"))
    assert requirements_page.PAGE.read_text(encoding="utf-8") == expected, (
        "out of date: run `python -m tests.docs.requirements_page --write`"
    )


def test_all_numbers_have_a_title() -> None:
    assert list(requirements_page.MWBT) == list(range(1, 97))
    assert list(requirements_page.MWST) == list(range(1, 32))


def test_marks_are_found_wherever_pytest_finds_them() -> None:
    source = """
import pytest
pytestmark = pytest.mark.req("A")

@pytest.mark.req("B", "C")
def test_one(): ...

@pytest.mark.req("D")
class TestMany:
    pytestmark = [pytest.mark.root, pytest.mark.req("E")]

    @pytest.mark.parametrize("x", [pytest.param(1, marks=pytest.mark.req("F"))])
    async def test_two(self, x): ...

def helper(): ...
"""
    assert dict(requirements_page.marked_tests(source)) == {
        "test_one": {"A", "B", "C"},
        "TestMany::test_two": {"A", "D", "E", "F"},
    }


def test_numbers_that_do_not_exist_are_refused(tmp_path: Path) -> None:
    (tmp_path / "tests").mkdir()
    (tmp_path / "tests" / "test_x.py").write_text('@pytest.mark.req("DMS-MWBT-REQ-0097")\ndef test_x(): ...\n')
    with pytest.raises(ValueError, match=r"tests/test_x.py::test_x is marked with 'DMS-MWBT-REQ-0097'"):
        requirements_page.collect(tmp_path / "tests")


def test_the_page_says_which_have_none() -> None:
    text = requirements_page.page({"DMS-MWBT-REQ-0074": ["tests/test_x.py::test_x"]})
    assert "1 of 127 requirements have tests; 126 have none yet." in text
    assert "| DMS-MWBT-REQ-0074 | Nothing that exists is overwritten | `tests/test_x.py::test_x` |" in text
    assert "| DMS-MWST-REQ-0031 | Results are reused where nothing changed | none yet |" in text
