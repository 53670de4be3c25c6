"""``moto_server``: a mock of S3 for what a real server cannot be made to do.

It accepts any secret, so it is never the only S3 server of a test.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from tests.servers.process import ServerProcess, free_ports, http_answer

REGION = "us-east-1"


class MotoServer:
    """One mock S3 server; a context manager that stops it."""

    def __init__(self) -> None:
        self.access_key = "AKMOTO"
        self.secret_key = "moto-secret"
        self.region = REGION
        self._port = 0
        self._process: ServerProcess | None = None

    @property
    def port(self) -> int:
        return self._port

    @property
    def endpoint_url(self) -> str:
        return f"http://127.0.0.1:{self._port}"

    def start(self, run_dir: Path, *, timeout_s: float = 30.0) -> str:
        """Start the server, wait until it answers, and return `endpoint_url`."""
        run_dir.mkdir(parents=True, exist_ok=True)
        self._port = free_ports(1)
        argv = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(self._port)]
        # An environment of its own: the real credentials of whoever runs the tests are not its business.
        env = {name: os.environ[name] for name in ("PATH", "HOME", "TMPDIR") if name in os.environ}
        process = ServerProcess("moto_server", argv, run_dir / "moto.log", cwd=run_dir, env=env)
        process.wait_ready(lambda: http_answer(f"{self.endpoint_url}/moto-api/")[0] == 200, timeout_s=timeout_s)
        self._process = process
        return self.endpoint_url

    def stop(self) -> None:
        """Stop the server and wait until it is gone; no error if it is not running."""
        if self._process is not None:
            self._process.stop()
            self._process = None

    def client(self, **config: Any) -> Any:
        """Make an independent boto3 S3 client."""
        import boto3
        from botocore.config import Config

        return boto3.session.Session().client(
            "s3",
            endpoint_url=self.endpoint_url,
            aws_access_key_id=self.access_key,
            aws_secret_access_key=self.secret_key,
            region_name=REGION,
            config=Config(s3={"addressing_style": "path"}, **config),
        )

    def bucket(self, name: str) -> str:
        """Make the bucket ``name`` and return the name."""
        client = self.client()
        try:
            client.create_bucket(Bucket=name)
        finally:
            client.close()
        return name

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
