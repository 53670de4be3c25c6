"""The worker's other end."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

WORKER = Path(__file__).with_name("worker.py")
VARIABLE = "PANTRY_ORACLE_PYTHON"


class OracleError(Exception):
    """The Gen3 Butler refused a request."""


def oracle_python() -> str:
    """Find a Python that has the Gen3 Butler: this one, or the one that ``PANTRY_ORACLE_PYTHON`` names."""
    for python in filter(None, (os.environ.get(VARIABLE), sys.executable)):
        if subprocess.run([python, "-c", "import lsst.daf.butler"], capture_output=True, check=False).returncode == 0:
            return python
    raise AssertionError(
        f"no oracle: {sys.executable} cannot import lsst.daf.butler, and ${VARIABLE} names no Python that can; "
        "install the extra 'test' (lsst-daf-butler)"
    )


class GenThreeButler:
    """A running worker.

    Parameters
    ----------
    log : Path
        Where what it prints goes.
    """

    def __init__(self, log: Path) -> None:
        self._log = log
        with log.open("wb") as out:
            self._process = subprocess.Popen(
                [oracle_python(), str(WORKER)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=out,
                text=True,
                env={**os.environ, "OMP_NUM_THREADS": "1"},
            )

    def __call__(self, do: str, **arguments: Any) -> Any:
        """Ask, and return the result."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps({"do": do, **arguments}) + "\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        if not line:
            raise AssertionError(f"the oracle ended while asked to {do}: {self._log.read_text()[-2000:]}")
        answer = json.loads(line)
        if "error" in answer:
            raise OracleError(f"{do}: {answer['error']['type']}: {answer['error']['message']}")
        return answer["result"]

    def close(self) -> None:
        """End it."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        try:
            self._process.wait(timeout=30)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process.stdout.close()
