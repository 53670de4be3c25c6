"""Instruments: from raw files to data ids and dimension records.

The translation is loaded on first use; it needs astropy and astro_metadata_translator.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pantry.client.instruments.amending import Amendment
    from pantry.client.instruments.cameras import CAMERAS, Camera, Detector
    from pantry.client.instruments.corrections import Correction, read_corrections
    from pantry.client.instruments.headers import read_raw_header
    from pantry.client.instruments.observation import RawObservation, translate
    from pantry.client.instruments.raw_exposure import FilterLabel, RawExposure

__all__ = [
    "CAMERAS",
    "Amendment",
    "Camera",
    "Correction",
    "Detector",
    "FilterLabel",
    "RawExposure",
    "RawObservation",
    "read_corrections",
    "read_raw_header",
    "translate",
]

_WHERE = {
    "Amendment": "amending",
    "Correction": "corrections",
    "FilterLabel": "raw_exposure",
    "RawExposure": "raw_exposure",
    "read_corrections": "corrections",
    "CAMERAS": "cameras",
    "Camera": "cameras",
    "Detector": "cameras",
    "RawObservation": "observation",
    "read_raw_header": "headers",
    "translate": "observation",
}


def __getattr__(name: str) -> object:
    if name not in _WHERE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f"{__name__}.{_WHERE[name]}"), name)
