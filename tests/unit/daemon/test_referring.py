"""Files of one storage that another one refers to."""

from __future__ import annotations

from pathlib import Path

import pytest

from pantry.daemon.repositories.referring import keys_below
from pantry.daemon.repositories.roots import absolute_root, local_directory
from pantry.errors import BackendError


def location(directory: Path) -> str:
    return directory.as_uri()


@pytest.mark.parametrize("name", ["root", "with blanks", "date=20250415", "50%", "é"])
def test_in_place_from_a_root_above(tmp_path: Path, name: str) -> None:
    paths = [f"{name}/run/a.bin", f"{name}", "elsewhere/b", f"{name}-other/c", ""]
    assert keys_below(location(tmp_path / name), location(tmp_path), paths) == ["run/a.bin"]


@pytest.mark.parametrize("name", ["root", "with blanks", "50%"])
def test_every_link_of_a_chain_counts(tmp_path: Path, name: str) -> None:
    """What is removed in the middle breaks the chain as much as what is removed at its end."""
    root, other, away = tmp_path / name, tmp_path / "other", tmp_path / "away"
    for one in (root / "run", other / "run", away):
        one.mkdir(parents=True)
    (away / "file").write_bytes(b"x")
    (root / "run" / "first").symlink_to(away / "file")
    (root / "run" / "second").symlink_to("first")
    (other / "run" / "link").symlink_to(root / "run" / "second")
    (other / "run" / "back").symlink_to(f"../../{name}/run/first")
    (other / "run" / "own").write_bytes(b"x")
    found = keys_below(location(root), location(other), ["run/link", "run/own", "run/none"])
    assert sorted(found) == ["run/first", "run/second"]
    assert keys_below(location(root), location(other), ["run/back"]) == ["run/first"]


def test_directories_that_are_links(tmp_path: Path) -> None:
    real, called, other = tmp_path / "real", tmp_path / "called", tmp_path / "other"
    for one in (real / "new" / "run", other):
        one.mkdir(parents=True)
    called.symlink_to(real)
    (real / "old").symlink_to("new")
    (real / "new" / "run" / "file").write_bytes(b"x")
    (other / "link").symlink_to(called / "old" / "run" / "file")
    (other / "run").symlink_to(real / "new" / "run")
    for root in (real, called):
        assert "old/run/file" in keys_below(location(root), location(other), ["link"])
        assert "new/run/file" in keys_below(location(root), location(other), ["link"])
        assert "new/run/file" in keys_below(location(root), location(other), ["run/file"])


def test_a_link_to_itself_ends(tmp_path: Path) -> None:
    (tmp_path / "root").mkdir()
    (tmp_path / "loop").symlink_to("loop")
    assert keys_below(location(tmp_path / "root"), location(tmp_path), ["loop", "root/a"]) == ["a"]


def test_what_cannot_be_seen_is_not_taken_as_nothing(tmp_path: Path) -> None:
    with pytest.raises(BackendError, match="cannot be seen where"):
        keys_below(location(tmp_path), location(tmp_path), ["too long for a name" * 100])


def test_other_storages_go_by_their_names() -> None:
    assert keys_below("s3://bucket/above/50%25", "s3://bucket/above", ["50%25/a", "50%/b"]) == ["a"]
    assert keys_below("vos://who!vo/above/a%20b", "vos://who!vo/above", ["a b/c", "a%20b/d"]) == ["c"]
    assert keys_below("s3://bucket/root", "file:///root", ["a"]) == []


def test_roots_that_are_uris_are_decoded() -> None:
    assert local_directory("file:///data/with%20blanks") == "/data/with blanks"
    assert local_directory("/data/50%25") == "/data/50%25"
    assert absolute_root("file:///data/with%20blanks/") == "/data/with blanks"
