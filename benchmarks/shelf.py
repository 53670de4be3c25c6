"""Many small files in S3: the scene of the measurements of names and opens."""

from __future__ import annotations

from pathlib import Path

from benchmarks import scene
from benchmarks.channel import Worker
from benchmarks.processes import Daemon
from benchmarks.scene import Key

REPOSITORY = "shelf"
RUN = "small"


class Shelf:
    """Small objects in a bucket, and a repository ``shelf`` that has some of them, cached, with its daemon.

    Attributes
    ----------
    daemon : Daemon
        That serves only this repository.
    keys : list of Key
        Of the datasets.
    objects : int
        How many there are in the bucket; the datasets' are the first of them.
    """

    def __init__(
        self,
        daemon: Daemon,
        worker: Worker,
        boto3: Worker,
        *,
        bucket: str,
        objects: int,
        datasets: int,
        directory: Path,
    ) -> None:
        self.daemon = daemon
        self.objects = objects
        self.keys = scene.keys(min(datasets, objects))
        self._worker = worker
        root = f"s3://{bucket}/{REPOSITORY}"
        exposures = 1 + self.keys[-1][0]
        worker.ask("make_repository", name=REPOSITORY, root=root, exposures=exposures)
        local = directory / "shelf-objects"
        for _ in scene.write_files(local, scene.keys(objects)):
            pass
        uploaded = boto3.ask("upload_tree", bucket=bucket, prefix=f"{REPOSITORY}/{RUN}", directory=str(local))
        assert uploaded == objects, uploaded
        worker.ask("ingest", run=RUN, files=[(f"{RUN}/{self.place_of(key)}", key) for key in self.keys])
        worker.ask("prefetch", run=RUN, expected=len(self.keys))

    @staticmethod
    def place_of(key: Key) -> str:
        """Path of a key's file below its run, in the bucket as in our mount."""
        return f"{scene.DATASET_TYPE}/{scene.INSTRUMENT}/{key[0]}/{scene.file_name(key)}"

    def cached(self) -> list[Path]:
        """Return the files of the cache that hold the datasets."""
        return [Path(self._worker.ask("read", run=RUN, key=key)["path"]) for key in self.keys]
