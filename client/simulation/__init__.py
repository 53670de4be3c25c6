"""Simulated raw exposures, for demonstrations and tests without real data.

Loaded on first use; needs astropy and numpy.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pantry.client.simulation.assembly import assemble
    from pantry.client.simulation.exposure import simulate_exposure, simulate_observing_night

__all__ = ["assemble", "simulate_exposure", "simulate_observing_night"]

_WHERE = {"assemble": "assembly", "simulate_exposure": "exposure", "simulate_observing_night": "exposure"}


def __getattr__(name: str) -> object:
    if name not in _WHERE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f"{__name__}.{_WHERE[name]}"), name)
