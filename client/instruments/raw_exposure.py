"""A raw exposure as people work with it: the HDUs of its file, with the header and visit metadata of today."""

from __future__ import annotations

import warnings
from typing import Any

import msgspec
from astropy.io import fits

from pantry.client.instruments.amending import AS_IN_THE_FILE, Amended, Amendment, Plan, amend
from pantry.client.instruments.cameras import Detector, Instrument
from pantry.client.instruments.headers import header_of, second_hdu
from pantry.client.instruments.translators import RawTranslator
from pantry.client.instruments.visit_info import find_translator, observation_info
from pantry.errors import FormatterError

_HISTORY = "Pantry: {keyword} was {old}: {source}"


class FilterLabel(msgspec.Struct, frozen=True):
    """Which filter was in the beam.

    Attributes
    ----------
    band : str
        ``r``.
    physical : str
        ``r_57``.
    """

    band: str
    physical: str


class RawExposure(fits.HDUList):  # type: ignore[misc] # astropy has no types
    """The HDU list of a raw file, whose headers were amended as they were read.

    What an HDU list can do, this can. In the file nothing is changed: `amendments` lists in what the primary header
    differs from it, and the header's HISTORY too.

    Attributes
    ----------
    amended : Amended or None
        The header as it is today; None for a list that was made by hand.
    """

    amended: Amended | None = None
    _name = "the raw exposure"
    _translator: type[RawTranslator] | None = None
    _unknown: FormatterError | None = None

    def amend(
        self, plan: Plan | None, name: str, translator: type[RawTranslator] | None = None, *, write: bool = True
    ) -> None:
        """Bring the headers up to date, in memory; without a plan they stay as in the file.

        If no translator is given, or knows the instrument, they stay too, and the visit metadata cannot be had. Without
        ``write`` the cards stay as they are, and only metadata and visit metadata are amended: no second HDU is read.
        """
        keywords = header_of(self)
        self._name, self._unknown = name, None
        self.amended = Amended(keywords=keywords)
        try:
            self._translator = translator or find_translator(keywords, name)
        except FormatterError as exc:
            self._unknown = exc
            return
        if plan is not None:
            self.amended = amend(keywords, self._translator, plan)
            if write:
                write_amendments(self, self.amended.amendments)

    @property
    def header(self) -> fits.Header:
        """The primary header."""
        return self[0].header

    @property
    def metadata(self) -> dict[str, Any]:
        """The header as plain values: undefined ones are None."""
        return dict(self._today().keywords)

    @property
    def amendments(self) -> tuple[Amendment, ...]:
        """In what the header differs from the file, and who says so."""
        return self._today().amendments

    @property
    def visit_info(self) -> Any:
        """Visit metadata, an `astro_metadata_translator.ObservationInfo`."""
        translator = self._translator_of_it()
        return observation_info(translator, self._today().keywords, self._name)

    @property
    def detector(self) -> Detector:
        """Which sensor it is of."""
        translator = self._translator_of_it()
        info = observation_info(translator, self._today().keywords, self._name, subset={"detector_num"}, required=set())
        instrument: Instrument = translator.camera
        return instrument.detector_numbered(info.detector_num)

    @property
    def filter(self) -> FilterLabel:
        """Which filter was in the beam."""
        translator, wanted = self._translator_of_it(), {"physical_filter"}
        info = observation_info(translator, self._today().keywords, self._name, subset=wanted, required=set())
        return FilterLabel(translator.camera.band(info.physical_filter), info.physical_filter)

    @property
    def wcs(self) -> Any:
        """The first celestial WCS that the headers have, an `astropy.wcs.WCS`."""
        from astropy.wcs import WCS, FITSFixedWarning

        for hdu in self:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", FITSFixedWarning)
                try:
                    found = WCS(hdu.header)
                except (ValueError, TypeError, fits.VerifyError) as exc:
                    raise FormatterError(
                        f"{self._name}: the WCS of HDU {hdu.name or 0} makes no sense: {exc}"
                    ) from None
            if found.has_celestial:
                return found
        raise FormatterError(
            f"{self._name} has no celestial WCS in its headers",
            hint="visit_info.tracking_radec and visit_info.boresight_rotation_angle say where it points",
        )

    def _today(self) -> Amended:
        if self.amended is None:
            self.amend(AS_IN_THE_FILE, self._name)
        assert self.amended is not None  # noqa: S101 - amend has set it
        return self.amended

    def _translator_of_it(self) -> type[RawTranslator]:
        self._today()
        if self._translator is None:
            assert self._unknown is not None  # noqa: S101 - amend sets the one or the other
            raise self._unknown
        return self._translator


def write_amendments(hdus: fits.HDUList, amendments: tuple[Amendment, ...]) -> None:
    """Write amended values into the headers in memory, where the file has the keyword, else into the primary one."""
    for one in amendments:
        header = hdus[0].header
        if one.keyword not in header and (second := second_hdu(hdus)) is not None and one.keyword in second.header:
            header = second.header
        set_card(header, one.keyword, one.new)
        text = _HISTORY.format(keyword=one.keyword, old=one.old, source=one.source)
        header.add_history("".join(letter if " " <= letter <= "~" else "?" for letter in text))


def set_card(header: fits.Header, keyword: str, value: object) -> None:
    """Give a keyword a value; the comment of a card that is there stays."""
    if keyword not in header and (len(keyword) > 8 or " " in keyword or "." in keyword):
        keyword = f"HIERARCH {keyword}"
    header[keyword] = value
