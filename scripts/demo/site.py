"""The demo's own little observatory: an S3 server, a daemon and a mount below one temporary directory."""

from __future__ import annotations

import os
import shutil
import sys
from contextlib import suppress
from pathlib import Path

import msgspec
from tests.servers.pantryd import PantryDaemon
from tests.servers.process import ServerError, ServerProcess
from tests.servers.seaweedfs import SeaweedServer

from pantry.errors import PantryError
from pantry.fusefs import mounting
from scripts.demo import record
from scripts.demo.failures import DemoError, tail

BUCKET = "pantry-demo"
REPOSITORY = "demo"
ROOT = f"s3://{BUCKET}/{REPOSITORY}"
_NEEDED_BYTES = 1_500_000_000
_MOUNT_S = 20.0
_END_S = {"SeaweedFS": 0.5, "pantryd": 25.0, "mount": 10.0}
"""How long each may take to end; the first would save what is removed next."""
_REFUSED = ("fusermount3: ", "Operation not permitted", "Permission denied")
"""What a log says of a machine that does not let us mount; it is no defect then."""


class Site:
    """Everything that runs for one demo.

    Attributes
    ----------
    directory : Path
        Everything lies below it, with a mode of 0700.
    server : SeaweedServer
        The S3 service.
    socket : str
        The daemon's.
    mount_point : Path
        Where the mount is, or would be.
    no_mount : str
        Why there is no mount; empty if there is.
    """

    def __init__(self) -> None:
        self.directory = record.new_directory()
        self.server = SeaweedServer()
        self.mount_point = self.directory / "mnt"
        self.no_mount = "it was not started"
        self._daemon = PantryDaemon(self.directory)
        self._mount: ServerProcess | None = None
        self._record = record.Record(boot=record.boot_id(), demo=record.identify("demo", os.getpid()))
        record.write(self.directory, self._record)
        clean_environment(self.directory)

    @property
    def socket(self) -> str:
        """Path of the daemon's socket."""
        return self._daemon.socket

    @property
    def daemon_pid(self) -> int:
        """Number of the daemon's process."""
        return self._daemon.pid

    @property
    def log_s3(self) -> Path:
        """The S3 server's log."""
        return self.directory / "s3" / "weed.log"

    @property
    def log_mount(self) -> Path:
        """The mount's log."""
        return self.directory / "mount.log"

    def start_server(self) -> None:
        """Start the S3 server and make the bucket."""
        free = shutil.disk_usage(self.directory).free
        if free < _NEEDED_BYTES:
            raise DemoError(
                f"{self.directory.parent} has {free / 1e9:.1f} GB free; the demo needs {_NEEDED_BYTES / 1e9:.1f} GB",
                hint="set TMPDIR to a directory with more room",
            )
        try:
            self.server.start(self.directory / "s3" / "data", self.directory / "s3")
        except ServerError as exc:
            # Its message ends with the whole tail of the log; ours is shorter.
            raise DemoError(f"the S3 server: {_head(exc)}", log=self.log_s3) from exc
        self._started("SeaweedFS", self.server.pid)
        self.server.bucket(BUCKET)

    def start_daemon(self) -> None:
        """Start ``pantryd`` for this user, with a configuration that reaches the bucket."""
        self._daemon.config = {
            "cache": {"quota_bytes": "1 GiB"},
            "storage": [
                {
                    "match": f"s3://{BUCKET}/",
                    "options": {
                        "endpoint_url": self.server.endpoint_url,
                        "region": self.server.region,
                        "access_key_id": self.server.access_key,
                        "secret_access_key": self.server.secret_key,
                    },
                }
            ],
        }
        try:
            self._daemon.start()
        except ServerError as exc:
            raise DemoError(f"the daemon: {_head(exc)}", log=self._daemon.log) from exc
        self._started("pantryd", self._daemon.pid)

    def start_mount(self) -> None:
        """Mount the daemon's repositories, or note in `no_mount` why that cannot be on this machine."""
        self.no_mount = _why_no_fuse()
        if self.no_mount:
            return
        self.mount_point.mkdir()
        self._record = msgspec.structs.replace(self._record, mount_point=str(self.mount_point))
        record.write(self.directory, self._record)
        argv = [sys.executable, "-m", "pantry.fusefs.main", "--socket", self.socket, str(self.mount_point)]
        self._mount = ServerProcess("the mount", argv, self.log_mount, cwd=self.directory)
        try:
            self._mount.wait_ready(lambda: "mounted at " in self.log_mount.read_text(), timeout_s=_MOUNT_S)
        except ServerError as exc:
            refused = [line for line in tail(self.log_mount) if any(text in line for text in _REFUSED)]
            if refused:
                self.no_mount = f"this machine does not let you mount: {refused[0]}"
                return
            raise DemoError(_head(exc), log=self.log_mount) from exc
        self._started("mount", self._mount.pid)

    def _started(self, name: str, pid: int) -> None:
        services = (*self._record.services, record.identify(name, pid))
        self._record = msgspec.structs.replace(self._record, services=services)
        record.write(self.directory, self._record)

    def keep(self) -> None:
        """Leave everything running; `stop` ends it later."""
        self._record = msgspec.structs.replace(self._record, kept=True)
        record.write(self.directory, self._record)

    def blame(self, exc: Exception) -> DemoError:
        """Say what failed, with the log of the service that is the likeliest to know."""
        logs = {"SeaweedFS": self.log_s3, "pantryd": self._daemon.log, "mount": self.log_mount}
        for service in self._record.services:
            if not record.is_alive(service):
                return DemoError(f"{service.name} has ended by itself: {_brief(exc)}", log=logs[service.name])
        if isinstance(exc, PantryError):
            return DemoError(exc.message, hint=exc.hint, log=self._daemon.log)
        if isinstance(exc, OSError) and str(exc.filename or "").startswith(str(self.mount_point)):
            return DemoError(f"the mount: {exc}", log=self.log_mount)
        if type(exc).__module__.startswith("botocore"):
            return DemoError(f"the S3 server: {exc}", log=self.log_s3)
        return DemoError(_brief(exc), hint="--verbose shows where", log=self._daemon.log)

    def close(self) -> None:
        """End everything and remove the directory; what cannot be done is passed over, the rest is done."""
        if self._mount is not None:
            self._mount.stop()
        _let_go(self.mount_point)
        self._daemon.stop()
        self.server.kill()  # asked to end it takes its time to save what is removed next
        record.end_children(self.directory)
        _remove(self.directory)


def stop(directory: Path) -> list[str]:
    """End a demo that was kept, or was killed; return the names of what was still running.

    Raises
    ------
    DemoError
        The directory is not that of a demo of ours, or its demo is still going on.
    """
    found = record.read(directory)
    if found is None:
        raise DemoError(
            f"{directory} is not the directory of a demo of yours", hint="--stop alone ends all that were kept"
        )
    same_boot = found.boot == record.boot_id()
    if same_boot and not found.kept and record.is_alive(found.demo):
        raise DemoError(f"the demo in {directory} is still going on", hint="press Ctrl-C there")
    ended = [one.name for one in reversed(found.services) if same_boot and record.end(one, timeout_s=_END_S[one.name])]
    if found.mount_point:
        _let_go(Path(found.mount_point))
    _remove(directory)
    return ended


def stoppable() -> list[Path]:
    """Return the directories of the demos that `stop` would end."""
    boot = record.boot_id()
    found = []
    for directory in record.directories():
        one = record.read(directory)
        if one is not None and (one.kept or one.boot != boot or not record.is_alive(one.demo)):
            found.append(directory)
    return found


def clean_environment(directory: Path) -> None:
    """Keep the user's own settings for S3, proxies and Pantry out of this process and those it starts.

    Parameters
    ----------
    directory : Path
        The demo's own.
    """
    for name in list(os.environ):
        if name.startswith("AWS_") or name == "PANTRY_SOCKET":
            del os.environ[name]
    os.environ["AWS_CONFIG_FILE"] = os.environ["AWS_SHARED_CREDENTIALS_FILE"] = os.devnull
    os.environ["AWS_EC2_METADATA_DISABLED"] = "true"
    if not os.access(os.path.expanduser("~"), os.W_OK):
        # Matplotlib would complain of a home that is not there, as that of a container's user.
        os.environ.setdefault("MPLCONFIGDIR", str(directory / "matplotlib"))
    for name in ("no_proxy", "NO_PROXY"):
        os.environ[name] = ",".join(filter(None, [os.environ.get(name, ""), "127.0.0.1"]))


def _why_no_fuse() -> str:
    try:
        os.close(os.open("/dev/fuse", os.O_RDWR | os.O_CLOEXEC))
    except OSError as exc:
        return f"/dev/fuse cannot be opened: {exc.strerror}"
    return "" if shutil.which("fusermount3") else "fusermount3 is not installed (Debian's package fuse3)"


def _let_go(mount_point: Path) -> None:
    """Unmount what a mount process that was killed has left."""
    if mounting.mounts_at(mounting.resolve(str(mount_point))):
        with suppress(PantryError, OSError):
            mounting.unmount(str(mount_point), lazy=True)


def _remove(directory: Path) -> None:
    if mounting.mounts_at(mounting.resolve(str(directory / "mnt"))):
        raise DemoError(f"{directory / 'mnt'} is still mounted", hint=f"fusermount3 -u -z {directory / 'mnt'}")
    shutil.rmtree(directory, ignore_errors=True)


def _brief(exc: Exception) -> str:
    return f"{type(exc).__name__}: {exc}"


def _head(exc: ServerError) -> str:
    return str(exc).partition("; the end of its log")[0]
