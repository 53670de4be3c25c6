"""A survey of any size: one camera of 189 detectors, raws in one run, processed images in a chain of 50 runs."""

from __future__ import annotations

from dataclasses import dataclass
from uuid import uuid4

from tests.unit.registry.world import CALEXP, CAMERA, DAY, HASH, RAW, record

from pantry.daemon.registry import NewDataset, Registry
from pantry.model.collections import CollectionType
from pantry.model.datasets import StoredFile
from pantry.model.timespan import Timespan

N_DETECTORS = 189
N_RUNS = 50
RAWS = "raw/all"
CHAIN = "processed"
_DATASETS_A_CALL = 5_000 // N_DETECTORS * N_DETECTORS


@dataclass(frozen=True)
class Survey:
    """How large it is.

    Attributes
    ----------
    raw_visits : int
        Visits with raws; each is of one exposure.
    visits : int
        Visits with processed images.
    visits_per_run : int
        In each run of the chain; together more than ``visits``, so that later runs hide what earlier ones have.
    """

    raw_visits: int
    visits: int
    visits_per_run: int

    @property
    def n_datasets(self) -> int:
        """How many datasets it has."""
        return N_DETECTORS * (self.raw_visits + N_RUNS * self.visits_per_run)

    def visits_of(self, run: int) -> list[int]:
        """Visits that are processed in a run of the chain."""
        first = run * self.visits_per_run
        return [1 + (first + number) % self.visits for number in range(self.visits_per_run)]


TEN_THOUSAND = Survey(raw_visits=3, visits=25, visits_per_run=1)
MILLION = Survey(raw_visits=2_000, visits=2_000, visits_per_run=66)


def run_name(number: int) -> str:
    return f"processed/{number:02}"


def observe(registry: Registry, survey: Survey) -> None:
    """Fill a registry by its own door, in calls of some thousand datasets."""
    made = [record("instrument", name=CAMERA), record("physical_filter", instrument=CAMERA, name="r_1", band="r")]
    made += [record("day_obs", instrument=CAMERA, id=DAY), record("group", instrument=CAMERA, name="one")]
    made += [
        record("detector", instrument=CAMERA, id=number, full_name=f"D{number:03}") for number in range(N_DETECTORS)
    ]
    shared = {"instrument": CAMERA, "physical_filter": "r_1", "day_obs": DAY, "exposure_time": 30.0}
    for number in range(1, max(survey.raw_visits, survey.visits) + 1):
        time = Timespan(number * 1000, number * 1000 + 500)
        own = shared | {"id": number, "seq_num": number, "timespan": time}
        made.append(record("exposure", **own, obs_id=f"e{number:06}", group="one"))
        made.append(record("visit", **own, name=f"v{number:06}"))
    registry.insert_dimension_records(made)
    for dataset_type in (RAW, CALEXP):
        registry.register_dataset_type(dataset_type)
    _insert(registry, "raw", RAWS, list(range(1, survey.raw_visits + 1)))
    for number in range(N_RUNS):
        _insert(registry, "calexp", run_name(number), survey.visits_of(number))
    registry.register_collection(CHAIN, CollectionType.CHAINED)
    # The last run is searched first, as with reprocessings.
    registry.redefine_chain(CHAIN, [run_name(number) for number in reversed(range(N_RUNS))])


def _insert(registry: Registry, dataset_type: str, run: str, visits: list[int]) -> None:
    whole: list[NewDataset] = [
        (
            uuid4().bytes,
            (CAMERA, detector, visit),
            StoredFile(
                path=f"{run}/{dataset_type}/{visit}/{dataset_type}_{visit}_{detector}.fits",
                size_bytes=10,
                hash=HASH,
                formatter="fits_hdus",
                ingest_ns=1_700_000_000_000_000_000,
            ),
        )
        for visit in visits
        for detector in range(N_DETECTORS)
    ]
    for first in range(0, len(whole), _DATASETS_A_CALL):
        registry.insert_datasets(run, dataset_type, whole[first : first + _DATASETS_A_CALL])
