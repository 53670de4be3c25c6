"""Lists of datasets to leave out, and counts: by the Butler and the command line, through a real daemon."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from uuid import uuid4

import pytest
from tests.integration.command_line import pantry
from tests.integration.observatory import INSTRUMENT, furnish
from tests.servers.pantryd import PantryDaemon

from pantry.client import Butler
from pantry.errors import InvalidRequestError


@pytest.fixture
def butler(make_daemon: Callable[..., PantryDaemon], tmp_path: Path) -> Iterator[Butler]:
    with Butler.create("d", str(tmp_path / "repo"), socket=make_daemon().socket) as made:
        furnish(made, 3)
        for run in ("one", "two"):
            for exposure in (1, 2, 3):
                made.put({"n": exposure}, "config", instrument=INSTRUMENT, exposure=exposure, run=run)
        yield made


@pytest.mark.req("DMS-MWBT-REQ-0090")
def test_a_file_of_datasets_to_leave_out(butler: Butler, tmp_path: Path) -> None:
    first = butler.find_dataset("config", instrument=INSTRUMENT, exposure=1, collections="one")
    assert first is not None
    bad = tmp_path / "bad.txt"
    bad.write_text(f"# bad\n\n{first.id}  # streaks\nconfig exposure=2\n'config' exposure=3 run=\"one\"\n")
    found = butler.query_datasets("config", ["one", "two"], exclude=bad)
    assert {(ref.data_id["exposure"], ref.run) for ref in found} == {(1, "two"), (3, "two")}
    assert list(butler.iter_datasets("config", ["one", "two"], exclude=[first, "config exposure=2"], limit=1))
    assert butler.count_datasets("config", ["one", "two"], exclude=str(bad)) == 2
    assert butler.count_datasets("config", ["one", "two"], find_first=False) == 6
    assert butler.count_datasets("config", "one", exposure=2) == 1
    assert butler.any_datasets("config", "one")
    assert not butler.any_datasets("config", "one", exclude=["config run=one"])
    words = ("query-datasets", "d", "config", "-c", "one,two", "--exclude-file", str(bad))
    assert pantry(butler, *words, "--count").stdout == "2\n"
    assert {row["run"] for row in json.loads(pantry(butler, *words, "--json").stdout)} == {"two"}


def test_a_hundred_thousand_lines(butler: Butler, tmp_path: Path) -> None:
    many = tmp_path / "many.txt"
    lines = [f"config instrument={INSTRUMENT} exposure={number} run=one" for number in range(2, 50_000)]
    many.write_text("\n".join([*(str(uuid4()) for _ in range(50_000)), *lines]))
    found = butler.query_datasets("config", ["one", "two"], exclude=many)
    assert {(ref.data_id["exposure"], ref.run) for ref in found} == {(1, "one"), (2, "two"), (3, "two")}


@pytest.mark.parametrize(
    "line",
    ["nonsense", "config", "config exposure", "config exposure=x", "config patch=1", "other exposure=1", "config '"],
)
def test_mistakes_are_told_with_file_and_line(butler: Butler, tmp_path: Path, line: str) -> None:
    path = tmp_path / "bad.txt"
    path.write_text(f"# one\nconfig exposure=1\n{line}\n")
    with pytest.raises(InvalidRequestError, match=r"bad\.txt, line 3: "):
        butler.query_datasets("config", "one", exclude=path)
    answer = pantry(butler, "query-datasets", "d", "config", "-c", "one", "--exclude-file", str(path))
    assert answer.returncode != 0
    assert "bad.txt, line 3" in answer.stderr
    assert "Traceback" not in answer.stderr


def test_a_list_that_is_not_there(butler: Butler, tmp_path: Path) -> None:
    with pytest.raises(InvalidRequestError, match="cannot be read"):
        butler.query_datasets("config", "one", exclude=tmp_path / "none")
    with pytest.raises(InvalidRequestError, match="item 1"):
        butler.query_datasets("config", "one", exclude=[3])  # type: ignore[list-item]
