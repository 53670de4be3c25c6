"""A small made-up observatory for tests: records and dataset types."""

from __future__ import annotations

from pantry.client import Butler

INSTRUMENT = "TestCam"
EXPOSURES = range(1, 101)


def furnish(butler: Butler, n_exposures: int = 100, n_detectors: int = 2) -> None:
    """Insert the records of an instrument, its detectors and some exposures."""
    butler.insert_dimension_records("instrument", {"name": INSTRUMENT})
    butler.insert_dimension_records("physical_filter", {"instrument": INSTRUMENT, "name": "r_1", "band": "r"})
    butler.insert_dimension_records("day_obs", {"instrument": INSTRUMENT, "id": 20260315})
    butler.insert_dimension_records("group", {"instrument": INSTRUMENT, "name": "g"})
    butler.insert_dimension_records(
        "detector",
        *[{"instrument": INSTRUMENT, "id": number, "full_name": f"D{number}"} for number in range(n_detectors)],
    )
    butler.insert_dimension_records(
        "exposure",
        *[
            {
                "instrument": INSTRUMENT,
                "id": number,
                "obs_id": f"T_{number}",
                "physical_filter": "r_1",
                "day_obs": 20260315,
                "group": "g",
            }
            for number in range(1, n_exposures + 1)
        ],
    )
    butler.register_dataset_type("config", ["instrument", "exposure"], "StructuredDataDict")
    butler.register_dataset_type("blob", ["instrument", "exposure", "detector"], "Bytes")
