"""The peer's virtual environment: ``lsst-daf-butler`` and what it needs, apart from ours."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from benchmarks.channel import REPOSITORY_ROOT

DIRECTORY = REPOSITORY_ROOT / ".venv-peer"
CONSTRAINTS = Path(__file__).with_name("peer-constraints.txt")
REQUIREMENT = "lsst-daf-butler"


def find_peer_python(given: str = "") -> str:
    """Return the Python that has the peer, making its environment if it is not there.

    Parameters
    ----------
    given : str
        A Python that has the peer already; nothing is installed then.
    """
    if given:
        if not can_import(given):
            raise RuntimeError(f"{given} cannot import lsst.daf.butler")
        return given
    python = DIRECTORY / "bin" / "python"
    if not can_import(str(python)):
        make()
    return str(python)


def make() -> None:
    """Make the virtual environment, in exactly the versions of the constraints file."""
    print(f"Installing the peer ({REQUIREMENT}) into {DIRECTORY}", flush=True)
    subprocess.run([sys.executable, "-m", "venv", str(DIRECTORY)], check=True)
    pip = [str(DIRECTORY / "bin" / "python"), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    subprocess.run([*pip, "--constraint", str(CONSTRAINTS), REQUIREMENT], check=True)


def can_import(python: str) -> bool:
    """Whether this Python has the peer."""
    try:
        done = subprocess.run([python, "-c", "import lsst.daf.butler"], check=False, capture_output=True)
    except OSError:
        return False
    return done.returncode == 0
