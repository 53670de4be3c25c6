"""Large images in S3: the scene of the measurements of bytes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from benchmarks.channel import Worker
from benchmarks.processes import Daemon
from benchmarks.scene import Key

REPOSITORY = "sky"
RUN = "images"
PLAIN: Key = (0, 0)
COMPRESSED: Key = (0, 1)


class Sky:
    """A repository ``sky`` in S3 with one plain and one tile-compressed image, and its daemon.

    Attributes
    ----------
    daemon : Daemon
        That serves only this repository.
    worker : Worker
        One of our workers, connected to it.
    size_bytes : dict
        Of each image's file.
    """

    def __init__(
        self, daemon: Daemon, worker: Worker, boto3: Worker, *, bucket: str, image_px: int, directory: Path
    ) -> None:
        self.daemon = daemon
        self.worker = worker
        self.image_px = image_px
        self.object_keys = {PLAIN: f"{REPOSITORY}/plain.fits", COMPRESSED: f"{REPOSITORY}/compressed.fits"}
        self.size_bytes: dict[Key, int] = {}
        worker.ask(
            "make_repository",
            name=REPOSITORY,
            root=f"s3://{bucket}/{REPOSITORY}",
            exposures=1,
            storage_class="CCDData",
        )
        made = {PLAIN: directory / "plain.fits", COMPRESSED: directory / "compressed.fits"}
        write_images(made[PLAIN], made[COMPRESSED], image_px)
        for key, path in made.items():
            self.size_bytes[key] = path.stat().st_size
            boto3.ask("upload", bucket=bucket, key=self.object_keys[key], path=str(path))
            path.unlink()
        files = [(path.name, key) for key, path in made.items()]
        worker.ask("ingest", run=RUN, files=files)

    def read(self, key: Key = PLAIN) -> dict[str, Any]:
        """Open an image through the Butler and read its file once through."""
        answer: dict[str, Any] = self.worker.ask("read", run=RUN, key=key)
        assert answer["bytes"] == self.size_bytes[key]
        return answer

    def evict(self) -> None:
        """Empty the cache."""
        self.worker.ask("evict")
        status = self.status()
        assert status["used_bytes"] == 0, status

    def status(self) -> dict[str, int]:
        """Return the cache's counters."""
        answer: dict[str, int] = self.worker.ask("cache_status")
        return answer


def write_images(plain: Path, compressed: Path, image_px: int) -> None:
    """Write noise on a level as 32-bit floats, and the same as integers in Rice-compressed tiles."""
    import numpy as np
    from astropy.io import fits

    random = np.random.default_rng(1)
    pixels = random.standard_normal((image_px, image_px), dtype=np.float32)
    pixels *= 12
    pixels += 400
    header = fits.Header([("BUNIT", "adu")])
    fits.PrimaryHDU(pixels, header).writeto(plain)
    tile = min(256, image_px)
    image = fits.CompImageHDU(pixels.astype(np.int16), header, compression_type="RICE_1", tile_shape=(tile, tile))
    image.writeto(compressed)
