"""The measurements by subject, and the one list of all of them, in the order of the report."""

from __future__ import annotations

from benchmarks.measures import (
    caching,
    formats,
    metadata,
    mounted,
    objects,
    searching,
    services,
    staging,
    starting,
    walking,
    web,
    writers,
)
from benchmarks.rows import Measurement

MEASUREMENTS: tuple[Measurement, ...] = (
    *starting.MEASUREMENTS,
    *metadata.MEASUREMENTS,
    *searching.MEASUREMENTS,
    *writers.MEASUREMENTS,
    *staging.MEASUREMENTS,
    *objects.MEASUREMENTS,
    *web.MEASUREMENTS,
    *services.MEASUREMENTS,
    *formats.MEASUREMENTS,
    *caching.MEASUREMENTS,
    *mounted.MEASUREMENTS,
    *walking.MEASUREMENTS,
)
