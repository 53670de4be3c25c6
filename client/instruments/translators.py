"""What Pantry needs of a translator, and those that it has itself."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Protocol

from pantry.client.instruments.imsim import ImSimTranslator
from pantry.client.instruments.rubin_cameras import LatissTranslator, LsstCamTranslator, LsstComCamTranslator


class RawTranslator(Protocol):
    """A class of astro_metadata_translator, and the instrument whose headers it translates."""

    camera: ClassVar[Any]
    """An `Instrument`; as Any, since an attribute of a class that is assigned to is of one exact type."""

    def __init__(self, header: Mapping[str, Any], filename: str | None = None) -> None: ...

    @classmethod
    def can_translate(cls, header: Mapping[str, Any], filename: str | None = None) -> bool:
        """Tell whether a header is this instrument's."""
        ...

    def to_observation_id(self) -> Any:
        """Return the name of the observation, by which its corrections are found."""
        ...

    def to_exposure_id(self) -> Any:
        """Return the number of the exposure in data ids."""
        ...

    def to_datetime_begin(self) -> Any:
        """Return when the exposure began."""
        ...

    def to_datetime_end(self) -> Any:
        """Return when it ended."""
        ...

    def to_observing_day(self) -> Any:
        """Return the day that it counts to, as YYYYMMDD."""
        ...

    def to_physical_filter(self) -> Any:
        """Return the name of the filter."""
        ...

    def to_detector_num(self) -> Any:
        """Return the number of the detector in data ids."""
        ...


TRANSLATORS: tuple[type[RawTranslator], ...] = (
    LsstCamTranslator,
    LsstComCamTranslator,
    LatissTranslator,
    ImSimTranslator,
)
"""In the order in which they are asked."""
