"""A night of raw exposures, simulated and taken into the repository."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from pantry.client import Butler, DatasetRef
from pantry.client.instruments import RawObservation, translate
from pantry.client.simulation import simulate_exposure, simulate_observing_night

N_EXPOSURES = 40
DETECTOR = 94
DAY_OBS = 20260315
SMALL_AMPLIFIER = (144, 512)
"""Width and height in pixels: files of 4.8 MB."""
FULL_SEQ_NUM = N_EXPOSURES + 1
"""The one exposure with all its pixels, of 75 MB."""
RAW_RUN = "LSSTCam/raw/all"
DIMENSIONS = ("instrument", "exposure", "detector")
_BATCH = 4

Progress = Callable[[int], None]


def simulate(directory: Path, progress: Progress) -> list[Path]:
    """Write the raw files of a night, the last one in full size."""
    directory.mkdir()
    files = []
    night = simulate_observing_night(
        directory, N_EXPOSURES, [DETECTOR], day_obs=DAY_OBS, amplifier_shape=SMALL_AMPLIFIER
    )
    for path in night:
        files.append(path)
        progress(len(files))
    full = directory / f"MC_S_{DAY_OBS}_{FULL_SEQ_NUM:06d}_R22_S11.fits"
    simulate_exposure(full, seq_num=FULL_SEQ_NUM, day_obs=DAY_OBS, detector=DETECTOR, n_stars=4000)
    files.append(full)
    progress(len(files))
    return files


def ingest(butler: Butler, files: Sequence[Path], progress: Progress) -> None:
    """Take raw files in as what their headers say they are, and remove them here."""
    observations = [translate(path) for path in files]
    for element, records in _records(observations).items():
        butler.insert_dimension_records(element, *records, skip_existing=True)
    butler.register_dataset_type("raw", DIMENSIONS, "FitsHDUList")
    for begin in range(0, len(files), _BATCH):
        some = files[begin : begin + _BATCH]
        data_ids = [one.data_id for one in observations[begin : begin + _BATCH]]
        butler.ingest("raw", list(zip(some, data_ids, strict=True)), run=RAW_RUN)
        for path in some:
            path.unlink()
        progress(begin + len(some))


def _records(observations: Sequence[RawObservation]) -> dict[str, list[dict[str, object]]]:
    """Gather the dimension records of all files, each once, in an order in which they can be inserted."""
    found: dict[str, dict[tuple[object, ...], dict[str, object]]] = {}
    for one in observations:
        for element, values in one.records.items():
            key = tuple(values.get(name) for name in ("instrument", "id", "name"))
            found.setdefault(element, {}).setdefault(key, dict(values))
    return {element: list(records.values()) for element, records in found.items()}


def full_size(butler: Butler) -> DatasetRef:
    """Return the exposure with all its pixels."""
    (found,) = butler.query_datasets("raw", where=f"exposure.seq_num = {FULL_SEQ_NUM}")
    return found
