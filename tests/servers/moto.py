"""``moto_server``: a mock of S3 for what a real server cannot be made to do.

It accepts any secret, so it is never the only S3 server of a test.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from tests.servers.process import ServerProcess, free_ports, http_answer
from tests.servers.s3 import S3Server


class MotoServer(S3Server):
    """One mock S3 server; a context manager that stops it."""

    def __init__(self) -> None:
        self.access_key = "AKMOTO"
        self.secret_key = "moto-secret"

    def start(self, run_dir: Path, *, timeout_s: float = 30.0) -> str:
        """Start the server, wait until it answers, and return `endpoint_url`."""
        run_dir.mkdir(parents=True, exist_ok=True)
        self._base = free_ports(1)
        argv = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(self._base)]
        # An environment of its own: the real credentials of whoever runs the tests are not its business.
        env = {name: os.environ[name] for name in ("PATH", "HOME", "TMPDIR") if name in os.environ}
        process = ServerProcess("moto_server", argv, run_dir / "moto.log", cwd=run_dir, env=env)
        process.wait_ready(lambda: http_answer(f"{self.endpoint_url}/moto-api/")[0] == 200, timeout_s=timeout_s)
        self._process = process
        return self.endpoint_url
