"""What a raw's header says today: the file's own cards, known faults mended, values merged, corrections applied.

In this order, so that what a person said of one exposure is the last word (decision 0035).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

import msgspec
from astro_metadata_translator.headers import HIERARCH, fix_header

from pantry.client.instruments.corrections import NO_CORRECTIONS, Corrections
from pantry.client.instruments.times import tai_ns
from pantry.client.instruments.translators import RawTranslator

_FILE_OF_CORRECTIONS = f"{HIERARCH} FILE"


class Amendment(msgspec.Struct, frozen=True, kw_only=True):
    """One keyword of a header that is not as in the file.

    Attributes
    ----------
    keyword : str
        Which.
    old, new : str, int, float, bool or None
        In the file, and today; None is no value.
    source : str
        Who or what says so.
    """

    keyword: str
    old: Any
    new: Any
    source: str


class Identity(msgspec.Struct, frozen=True, kw_only=True):
    """Which exposure a header is of, by what the file itself says.

    Attributes
    ----------
    instrument, observation : str
        Names; the observation's is empty if the header does not tell.
    exposure, detector : int or None
        Numbers in data ids.
    """

    instrument: str
    observation: str = ""
    exposure: int | None = None
    detector: int | None = None


class Subject(msgspec.Struct, frozen=True, kw_only=True):
    """An exposure whose header is completed, by what its header says so far, corrections included.

    Attributes
    ----------
    identity : Identity
        Which it is.
    begin_ns, end_ns : int or None
        TAI nanoseconds since 1970; None if the header does not tell.
    more : dict
        Values of other dimensions that the header tells: ``day_obs``, ``physical_filter``.
    """

    identity: Identity
    begin_ns: int | None = None
    end_ns: int | None = None
    more: dict[str, int | str] = {}

    def data_id(self) -> dict[str, int | str]:
        """Return values of dimensions by name."""
        found = {"instrument": self.identity.instrument, "exposure": self.identity.exposure,
                 "detector": self.identity.detector, **self.more}  # fmt: skip
        return {name: value for name, value in found.items() if value is not None}


class MergedValue(msgspec.Struct, frozen=True, kw_only=True):
    """A value from beside the file.

    Attributes
    ----------
    value : str, int, float, bool or None
        For the header.
    source : str
        Where from.
    """

    value: Any
    source: str


class Merge(Protocol):
    """Gives values for headers from a source beside the files: a table, records, a database of engineering data."""

    def values(self, subject: Subject, keywords: Mapping[str, Any]) -> Mapping[str, MergedValue]:
        """Return values by keyword.

        Parameters
        ----------
        subject : Subject
            Which exposure, and when it was.
        keywords : Mapping
            Its header so far: nothing need be asked for keywords that have a value.
        """
        ...


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """What is to be done to the headers of a kind of raws.

    Attributes
    ----------
    corrections : Corrections
        Of single exposures.
    merges : sequence of Merge
        Sources of values, each over those before it.
    """

    corrections: Corrections = NO_CORRECTIONS
    merges: Sequence[Merge] = ()


AS_IN_THE_FILE = Plan()
"""Only known faults of the camera are mended."""


class Amended(msgspec.Struct, frozen=True, kw_only=True):
    """A header as it is today.

    Attributes
    ----------
    keywords : dict
        Values by keyword.
    amendments : tuple of Amendment
        In what it differs from the file.
    """

    keywords: dict[str, Any]
    amendments: tuple[Amendment, ...] = ()


def amend(keywords: Mapping[str, Any], translator: type[RawTranslator], plan: Plan = AS_IN_THE_FILE) -> Amended:
    """Return a header as it is today; the one given stays as it is."""
    identity = identify(keywords, translator)
    today, found = _without_known_faults(keywords, translator)
    corrected = plan.corrections.of(identity.observation, identity.exposure, identity.detector)
    # Values are merged at the exposure's time, which may itself be corrected.
    for merge in plan.merges:
        seen = {**today, **{keyword: change.value for keyword, change in corrected.items()}}
        for keyword, merged in merge.values(describe(identity, seen, translator), seen).items():
            today[keyword] = merged.value
            found[keyword] = merged.source
    for keyword, change in corrected.items():
        today[keyword] = change.value
        found[keyword] = change.source
    amendments = tuple(
        Amendment(keyword=keyword, old=keywords.get(keyword), new=today[keyword], source=source)
        for keyword, source in found.items()
        if not _same(keywords.get(keyword), today[keyword])
    )
    return Amended(keywords=today, amendments=amendments)


def identify(keywords: Mapping[str, Any], translator: type[RawTranslator]) -> Identity:
    """Say which exposure a header is of; what it does not tell, or in nonsense, stays empty."""
    made = translator(keywords)
    return Identity(
        instrument=translator.camera.name,
        observation=str(_ask(made.to_observation_id) or ""),
        exposure=_ask(made.to_exposure_id),
        detector=_ask(made.to_detector_num),
    )


def describe(identity: Identity, keywords: Mapping[str, Any], translator: type[RawTranslator]) -> Subject:
    """Say when an exposure was, and what else its header tells that may find values for it."""
    made = translator(keywords)
    times = [
        None if time is None else tai_ns(time) for time in (_ask(made.to_datetime_begin), _ask(made.to_datetime_end))
    ]
    more = {"day_obs": _ask(made.to_observing_day), "physical_filter": _ask(made.to_physical_filter)}
    current = identify(keywords, translator)
    return Subject(
        identity=msgspec.structs.replace(current, observation=identity.observation),
        begin_ns=times[0],
        end_ns=times[1],
        more={name: value for name, value in more.items() if value is not None},
    )


def _ask(method: Callable[[], Any]) -> Any:
    try:
        return method()
    except Exception:  # whatever a translator makes of nonsense: a correction may mend it
        return None


def _without_known_faults(
    keywords: Mapping[str, Any], translator: type[RawTranslator]
) -> tuple[dict[str, Any], dict[str, str]]:
    """Let astro_metadata_translator fix a header; its own marks in it are taken away."""
    fixed = dict(keywords)
    fix_header(fixed, translator_class=translator)  # type: ignore[arg-type]
    source = str(fixed.get(_FILE_OF_CORRECTIONS) or f"known fault of {translator.camera.name}")
    today = {keyword: value for keyword, value in fixed.items() if not keyword.startswith(HIERARCH)}
    changed = {keyword: source for keyword, value in today.items() if not _same(keywords.get(keyword), value)}
    return today, changed


def _same(one: object, other: object) -> bool:
    # NaN is equal to itself here, and True is not 1.
    return type(one) is type(other) and (one == other or (one != one and other != other))
