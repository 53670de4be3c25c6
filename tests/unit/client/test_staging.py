"""Files in a stage directory: the tree's names, complete or not at all, nothing outside."""

from __future__ import annotations

import os
from pathlib import Path

import msgspec
import pytest
from tests.unit.client.conftest import open_descriptors, wait_for
from tests.unit.client.fake_repository import FakeRepository

from pantry.client import Butler, DatasetRef
from pantry.client.staging import copy_content, replaced_atomically
from pantry.errors import ConflictError, InvalidRequestError


@pytest.fixture
def refs(butler: Butler) -> list[DatasetRef]:
    return [butler.put(os.urandom(3_000_000), "blob", instrument="Cam", detector=n) for n in range(3)]


def test_stage(butler: Butler, refs: list[DatasetRef], tmp_path: Path) -> None:
    before = open_descriptors()
    paths = butler.stage(refs, tmp_path / "out" / "deep").paths
    assert [str(path.relative_to(tmp_path / "out" / "deep")) for path in paths] == [
        f"u/run/blob/Cam/blob_Cam_{n}.x" for n in range(3)
    ]
    for ref, path in zip(refs, paths, strict=True):
        assert path.read_bytes() == butler.get(ref)
    assert sorted(path.name for path in paths[0].parent.iterdir()) == [path.name for path in paths]
    wait_for(lambda: open_descriptors() <= before)


def test_stage_again(butler: Butler, refs: list[DatasetRef], tmp_path: Path) -> None:
    first = butler.stage(refs[:2], tmp_path / "out").paths
    status = first[0].stat()
    assert butler.stage(refs, tmp_path / "out").paths[:2] == first
    assert first[0].stat().st_mtime_ns == status.st_mtime_ns


@pytest.mark.parametrize("kind", ["content", "length", "directory", "link", "fifo"])
def test_what_is_there_is_never_replaced(butler: Butler, refs: list[DatasetRef], tmp_path: Path, kind: str) -> None:
    [path] = butler.stage(refs[:1], tmp_path / "out").paths
    content = path.read_bytes()
    path.unlink()
    if kind == "content":
        path.write_bytes(bytes([content[0] ^ 1]) + content[1:])
    elif kind == "length":
        path.write_bytes(content[:-1])
    elif kind == "directory":
        path.mkdir()
    elif kind == "fifo":
        os.mkfifo(path)
    else:
        (tmp_path / "elsewhere").write_bytes(content)
        path.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(ConflictError):
        butler.stage(refs[:1], tmp_path / "out")


def test_nothing_is_written_outside(
    butler: Butler, refs: list[DatasetRef], repository: FakeRepository, tmp_path: Path
) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "out" / "u").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(ConflictError, match="leads out"):
        butler.stage(refs[:1], tmp_path / "out")
    (tmp_path / "out" / "u").unlink()
    ref, file = repository.datasets[refs[0].id]
    for bad in ("../x", "/etc/x", "a/../../x", "a//b", "", ".", "a/\0"):
        repository.datasets[refs[0].id] = (ref, msgspec.structs.replace(file, path=bad))
        with pytest.raises(InvalidRequestError, match="no name of a file"):
            butler.stage(refs[:1], tmp_path / "out")
    assert [path for path in (tmp_path / "elsewhere").rglob("*") if path.is_file()] == []


def test_a_failed_copy_leaves_nothing(tmp_path: Path) -> None:
    copying = replaced_atomically(str(tmp_path / "x"))
    os.write(copying.__enter__(), b"half")
    assert not copying.__exit__(KeyboardInterrupt, KeyboardInterrupt(), None)  # raised on
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("errno_name", ["EXDEV", "none"])
def test_copy_without_the_kernels_help(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, errno_name: str) -> None:
    import errno

    def refuse(*_: object) -> int:
        if errno_name == "none":
            return 0
        raise OSError(getattr(errno, errno_name), "no")

    monkeypatch.setattr(os, "copy_file_range", refuse)
    content = os.urandom(100_000)
    (tmp_path / "a").write_bytes(content)
    with open(tmp_path / "a", "rb") as source, open(tmp_path / "b", "wb") as target:
        copy_content(source.fileno(), target.fileno())
    assert (tmp_path / "b").read_bytes() == content


def test_staging_where_files_without_names_cannot_be_had(
    butler: Butler, refs: list[DatasetRef], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import errno

    real = os.open

    def without_tmpfile(path: str, flags: int, *more: int, **options: int) -> int:
        if flags & os.O_TMPFILE == os.O_TMPFILE:
            raise OSError(errno.EOPNOTSUPP, "no")
        return real(path, flags, *more, **options)

    monkeypatch.setattr(os, "open", without_tmpfile)
    [path] = butler.stage(refs[:1], tmp_path / "out").paths
    assert path.read_bytes() == butler.get(refs[0])
    path.write_bytes(b"other")
    assert butler.stage(refs[:1], tmp_path / "out", overwrite=True).copies == 1
    assert list(path.parent.iterdir()) == [path]
