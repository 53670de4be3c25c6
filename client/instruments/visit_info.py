"""From a raw's header to `astro_metadata_translator.ObservationInfo`, with errors that name the keyword."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from astro_metadata_translator import ObservationInfo
from astro_metadata_translator.headers import FIXUP_SENTINEL

from pantry.client.instruments.translators import TRANSLATORS, RawTranslator
from pantry.errors import FormatterError

REQUIRED = {
    "exposure_id", "observation_id", "physical_filter", "datetime_begin", "datetime_end", "exposure_time",
    "observing_day", "observation_counter", "detector_num",
}  # fmt: skip
"""What no exposure can do without."""
_KEYWORDS = {
    "datetime_begin": ("MJD-BEG", "DATE-BEG", "MJD-OBS", "DATE-OBS"),
    "datetime_end": ("DATE-END", "MJD-END", "MJD-BEG", "DATE-BEG", "MJD-OBS", "DATE-OBS"),
    "observing_day": ("DAYOBS",),
    "observation_counter": ("SEQNUM",),
    "exposure_id": ("DAYOBS", "SEQNUM", "CONTRLLR"),
    "exposure_time": ("EXPTIME", "SHUTTIME"),
    "dark_time": ("DARKTIME", "EXPTIME"),
    "tracking_radec": ("RASTART", "DECSTART", "RA", "DEC", "RADESYS"),
    "altaz_begin": ("ELSTART", "AZSTART"),
}
"""Which keywords to show when a property cannot be had from them."""


def find_translator(
    keywords: Mapping[str, Any], name: str, more: Sequence[type[RawTranslator]] = ()
) -> type[RawTranslator]:
    """Return the translator that knows a header.

    Parameters
    ----------
    keywords : Mapping
        The header.
    name : str
        What messages call the file.
    more : sequence of type
        Translators that are asked besides Pantry's own: those of instruments that a text defines.

    Raises
    ------
    FormatterError
        None does.
    """
    translators = (*TRANSLATORS, *more)
    for translator in translators:
        if translator.can_translate(keywords, name):
            return translator
    instrument = keywords.get("INSTRUME")
    known = ", ".join(translator.camera.name for translator in translators)
    hint = f"instruments known: {known}; `pantry register-instrument` adds others"
    if instrument is None:
        raise FormatterError(f"{name}: keyword INSTRUME is missing", hint=hint)
    raise FormatterError(f"{name}: no translator for INSTRUME = {instrument!r}", hint=hint)


def observation_info(
    translator: type[RawTranslator],
    keywords: Mapping[str, Any],
    name: str,
    *,
    subset: set[str] | None = None,
    required: set[str] = REQUIRED,
) -> Any:
    """Translate a header that is amended already.

    Parameters
    ----------
    translator : type
        As of `find_translator`.
    keywords : Mapping
        The header.
    name : str
        What messages call the file.
    subset : set of str, optional
        Which properties, and all of these must make sense; by default all, of which those that are not required
        are None if they do not.
    required : set of str
        Which may not be None.

    Returns
    -------
    ObservationInfo
        As Any, because astro_metadata_translator types each property as perhaps None.

    Raises
    ------
    FormatterError
        A keyword is missing, or makes no sense.
    """
    try:
        return ObservationInfo(
            # Known faults and corrections were applied by `amend`, and not twice.
            {**keywords, FIXUP_SENTINEL: False},
            translator_class=translator,  # type: ignore[arg-type]
            pedantic=subset is not None,
            subset=subset,
            required=required,
            quiet=True,
        )
    except Exception as exc:
        raise FormatterError(
            f"{name}: {_reason(exc, keywords)}",
            hint="the file cannot be ingested as a raw exposure, unless `pantry correct-headers` mends its header",
        ) from exc


def _reason(exc: BaseException, keywords: Mapping[str, Any]) -> str:
    """Return what is wrong in words: which keyword is missing, or what nonsense it holds."""
    cause: BaseException = exc
    while (deeper := cause.__cause__ or (None if cause.__suppress_context__ else cause.__context__)) is not None:
        cause = deeper
    if isinstance(cause, KeyError):
        missing = str(cause.args[0]) if cause.args else "?"
        if re.fullmatch(r"\w+_\w+", missing):
            return f"RAFTBAY and CCDSLOT name no detector of this camera: {missing}"
        # The library's own words: "Could not find EXPTIME in header", or a list of keywords.
        is_told = missing.startswith("Could not find")
        absent = re.findall(r"[A-Z][A-Z0-9_-]+", missing) if is_told else [missing] if " " not in missing else []
        nonsense = [f"{key} = {keywords[key]!r}" for key in absent if keywords.get(key) is not None]
        if nonsense:
            return f"{', '.join(nonsense)} makes no sense"
        if absent:
            return f"keyword {' or '.join(absent)} is missing"
        cause = exc
    reason = str(cause.args[0] if isinstance(cause, KeyError) else cause).partition("\n")[0] or type(cause).__name__
    concerned = _concerned(exc)
    if " = " in reason:  # it names the keyword itself
        return reason
    values = [f"{key} = {keywords[key]!r}" for key in concerned if keywords.get(key) is not None]
    if values:
        return f"{', '.join(values)} makes no sense: {reason}"
    return f"keyword {' or '.join(concerned)} is missing" if concerned else reason


def _concerned(exc: BaseException) -> tuple[str, ...]:
    return next((keys for name, keys in _KEYWORDS.items() if re.search(rf"\b{name}\b", str(exc))), ())
