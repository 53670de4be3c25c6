"""The program as people run it, in a process of its own."""

from __future__ import annotations

import subprocess
import sys

from pantry.client import Butler


def pantry(butler: Butler, *words: str) -> subprocess.CompletedProcess[str]:
    """Run a command with the daemon of a Butler."""
    command = [sys.executable, "-m", "pantry.client.cli.main", "--socket", butler.connection.socket_path, *words]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
