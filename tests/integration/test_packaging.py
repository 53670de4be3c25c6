"""What is installed is all of it: wheel, sdist, entry points."""

from __future__ import annotations

import os
import subprocess
import sys
import tarfile
import zipfile
from importlib.metadata import entry_points
from pathlib import Path

import pytest

PROJECT = Path(__file__).parents[2]
ROOMS = ("backends", "client", "daemon", "fusefs", "tasks")


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Sdist, and the wheel built from the sdist."""
    out = tmp_path_factory.mktemp("dist")
    argv = [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(out), str(PROJECT)]
    done = subprocess.run(argv, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    return out


def sources() -> set[str]:
    """Every file that belongs to the package, by its place in the wheel."""
    found = set()
    for top in (PROJECT / "src" / "pantry", *(PROJECT / room for room in ROOMS)):
        prefix = "pantry" if top.name == "pantry" else f"pantry/{top.name}"
        for path in top.rglob("*"):
            if path.is_file() and path.suffix in (".py", ".yaml", ".lark", ".typed") and not path.is_symlink():
                found.add(f"{prefix}/{path.relative_to(top).as_posix()}")
    return {name for name in found if "__pycache__" not in name}


def test_the_wheel_holds_every_package_and_nothing_else(built: Path) -> None:
    (wheel,) = built.glob("*.whl")
    names = [name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name]
    assert set(names) == sources()
    assert len(names) == len(set(names)), "a file is in the wheel twice"


def test_the_sdist_holds_what_the_wheel_is_built_from(built: Path) -> None:
    (sdist,) = built.glob("*.tar.gz")
    with tarfile.open(sdist) as archive:
        names = {name.split("/", 1)[1] for name in archive.getnames()}
    assert {f"{room}/__init__.py" for room in ROOMS} <= names
    assert {"README.md", "LICENSE", "constraints.txt", "Makefile", "scripts/make-venv"} <= names


def test_the_wheel_works_when_it_is_installed(built: Path, tmp_path: Path) -> None:
    (wheel,) = built.glob("*.whl")
    argv = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index", "--target", str(tmp_path)]
    subprocess.run([*argv, str(wheel)], check=True, capture_output=True, timeout=120)
    code = (
        "import pantry, pantry.client, pantry.daemon.handlers, pantry.backends.s3, pantry.fusefs.main\n"
        "from pantry.daemon.registry import default_universe\n"
        "assert 'exposure' in default_universe()['elements']\n"
        "print(pantry.__file__)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], env={**os.environ, "PYTHONPATH": str(tmp_path)}, cwd=tmp_path,
        capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    assert done.stdout.strip() == str(tmp_path / "pantry" / "__init__.py"), done.stderr


def test_the_entry_points_are_there() -> None:
    storages = {"http", "https", "posix", "s3", "sql+postgresql", "sql+sqlite", "vos"}
    assert {one.name for one in entry_points(group="pantry.backends")} == storages
    assert {"pantry", "pantryd"} <= {one.name for one in entry_points(group="console_scripts")}
    for program in ("pantry", "pantryd"):
        command = Path(sys.executable).with_name(program)
        done = subprocess.run([command, "--help"], capture_output=True, text=True, check=False, timeout=60)
        assert done.returncode == 0
        assert "usage" in done.stdout.lower()


def test_the_client_is_light() -> None:
    heavy = "trio boto3 botocore sqlalchemy astropy numpy pyarrow h5py pandas yaml click rich lark asyncio"
    code = f"import sys, pantry.client; print(sorted(set({heavy.split()!r}) & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.strip() == "[]"
