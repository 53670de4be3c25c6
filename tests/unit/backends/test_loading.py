"""Backends are found by scheme through entry points, and by nothing else."""

from __future__ import annotations

import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from pantry.backends.admission import Admission
from pantry.backends.loading import GROUP, backend_scheme, known_schemes, make_backend
from pantry.backends.memory import MemoryBackend
from pantry.backends.posix import PosixBackend
from pantry.errors import ConfigError

PYPROJECT = Path(__file__).parents[3] / "pyproject.toml"


def make_memory(root: str, options: object, admission: Admission) -> MemoryBackend:
    return MemoryBackend({"root": root.encode()})


def _install(directory: Path, name: str, entries: dict[str, str]) -> None:
    info = directory / f"{name}-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
    lines = [f"[{GROUP}]", *(f"{key} = {value}" for key, value in entries.items())]
    (info / "entry_points.txt").write_text("\n".join(lines) + "\n")


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Metadata as the wheel has it, whether or not Pantry is installed here, and a third party's."""
    project = tomllib.loads(PYPROJECT.read_text())["project"]
    _install(tmp_path, "butler_pantry", project["entry-points"][GROUP])
    _install(tmp_path, "somebodys_backend", {"mem": f"{__name__}:make_memory"})
    monkeypatch.setitem(sys.modules, __name__, sys.modules.get(__name__) or sys.modules[make_memory.__module__])
    monkeypatch.syspath_prepend(str(tmp_path))
    return tmp_path


@pytest.fixture
def admission() -> Admission:
    return Admission(user_limit=2, node_limit=4)


@pytest.mark.parametrize(
    ("root", "scheme"),
    [
        ("/a/path", "posix"),
        ("file:///a/path", "posix"),
        ("FILE:///a/path", "posix"),
        ("s3://bucket/prefix", "s3"),
        ("mem:x", "mem"),
    ],
)
def test_schemes(root: str, scheme: str) -> None:
    assert backend_scheme(root) == scheme


def test_backends_are_made_by_scheme(installed: Path, tmp_path: Path, admission: Admission) -> None:
    assert isinstance(make_backend(str(tmp_path), {}, admission), PosixBackend)
    assert isinstance(make_backend(f"file://{tmp_path}", {}, admission), PosixBackend)
    assert make_backend("s3://bucket/prefix/", {}, admission).location == "s3://bucket/prefix"
    assert isinstance(make_backend("mem:x", {}, admission), MemoryBackend)


def test_an_unknown_scheme_names_the_known_ones(installed: Path, admission: Admission) -> None:
    with pytest.raises(ConfigError, match="gopher") as caught:
        make_backend("gopher://host/x", {}, admission)
    assert {"file", "mem", "posix", "s3"} <= set(known_schemes())
    assert all(scheme in caught.value.hint for scheme in ("file", "mem", "posix", "s3"))
    with pytest.raises(ConfigError, match="neither"):
        make_backend("relative/path", {}, admission)


def test_two_packages_for_one_scheme_are_refused(installed: Path, admission: Admission) -> None:
    _install(installed, "another_backend", {"mem": "elsewhere:make"})
    with pytest.raises(ConfigError, match="several"):
        make_backend("mem:x", {}, admission)


def test_making_an_s3_backend_does_not_import_the_sdk() -> None:
    code = (
        "import sys; from pantry.backends.admission import Admission; from pantry.backends.s3 import S3BackendFactory;"
        "S3BackendFactory('s3://b/p', {}, Admission(user_limit=1, node_limit=1));"
        "assert not {'boto3', 'botocore', 'urllib3'} & sys.modules.keys()"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
