"""Corrections of raw headers, as a repository keeps them (DMS-MWBT-REQ-0050; decision 0035).

A repository has, for an instrument, any number of datasets of the type ``header_corrections``, each a list that was
added at one time by one person. None is ever changed: a later one overrides or withdraws what an earlier one said. The
files of raws are not touched; corrections are applied as a raw is read or ingested.
"""

from __future__ import annotations

import math
import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import msgspec

from pantry.errors import ConfigError, InvalidRequestError
from pantry.model.raw_headers import check_keyword

CardValue = str | int | float | bool | None
MAX_CORRECTIONS = 100_000
"""Most corrections of one list."""
_MAX_FILE_BYTES = 64 * 1024 * 1024


class Correction(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True):
    """What is wrong in the headers of an exposure, or of several in a row.

    Attributes
    ----------
    header : dict
        Right values by keyword; None takes a value away.
    observation : str
        Name of the observation, as the file's own header has it: ``AT_O_20240624_000106``.
    exposure, last_exposure : int or None
        Number of the exposure in data ids, in place of ``observation``; with ``last_exposure`` all from the one to
        the other, both included.
    detector : int or None
        Only of this one.
    who, when, why : str
        Who said so, when (ISO 8601, UTC), and for what reason.
    withdraw : bool
        Nothing that earlier corrections said of these exposures (and this detector) holds any more.
    """

    header: dict[str, CardValue] = {}
    observation: str = ""
    exposure: int | None = None
    last_exposure: int | None = None
    detector: int | None = None
    who: str = ""
    when: str = ""
    why: str = ""
    withdraw: bool = False

    def check(self, place: str) -> None:
        """Refuse a correction that could not be applied, with the place where it stands."""
        if bool(self.observation) == (self.exposure is not None):
            raise InvalidRequestError(f"{place}: name either an observation or an exposure")
        if self.last_exposure is not None and (self.exposure is None or self.last_exposure < self.exposure):
            raise InvalidRequestError(f"{place}: last_exposure is not before exposure")
        if not self.header and not self.withdraw:
            raise InvalidRequestError(f"{place}: it corrects nothing", hint="give header: {KEYWORD: value}")
        for keyword, value in self.header.items():
            try:
                check_keyword(keyword, place)
            except ConfigError as exc:
                raise InvalidRequestError(exc.message, hint=exc.hint) from None
            if isinstance(value, float) and not math.isfinite(value):
                raise InvalidRequestError(f"{place}: {keyword} = {value} is no value", hint="null takes a value away")
            if isinstance(value, str) and not (value.isascii() and value.isprintable()):
                raise InvalidRequestError(f"{place}: {keyword}: FITS cards hold printable ASCII text only")

    @property
    def applies_to(self) -> str:
        """In words, for people."""
        which = self.observation or str(self.exposure)
        if self.last_exposure is not None:
            which += f" to {self.last_exposure}"
        return which if self.detector is None else f"{which}, detector {self.detector}"


class CorrectionList(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The content of one dataset, or of one file.

    Attributes
    ----------
    corrections : tuple of Correction
        Each over those before it.
    """

    corrections: tuple[Correction, ...] = ()


class Change(msgspec.Struct, frozen=True, kw_only=True):
    """The value of one keyword, and who says so."""

    value: CardValue
    source: str


class Corrections:
    """All that is said of one instrument, found by exposure.

    Parameters
    ----------
    lists : iterable of CorrectionList
        In the order in which they were made.
    until : str
        Only what was said before this, ISO 8601 in UTC; empty for all.
    """

    def __init__(self, lists: Iterable[CorrectionList] = (), until: str = "") -> None:
        self._by_observation: dict[str, list[tuple[int, Correction]]] = {}
        self._by_exposure: dict[int, list[tuple[int, Correction]]] = {}
        self._ranges: list[tuple[int, Correction]] = []
        said = (one for part in lists for one in part.corrections if not until or one.when < until)
        for order, correction in enumerate(said):
            if correction.observation:
                self._by_observation.setdefault(correction.observation, []).append((order, correction))
            elif correction.last_exposure is not None:
                self._ranges.append((order, correction))
            elif correction.exposure is not None:
                self._by_exposure.setdefault(correction.exposure, []).append((order, correction))

    def of(self, observation: str, exposure: int | None, detector: int | None) -> dict[str, Change]:
        """Return what is to be changed in the header of an exposure's detector, by keyword."""
        said = list(self._by_observation.get(observation, ()))
        if exposure is not None:
            said += self._by_exposure.get(exposure, ())
            said += (
                pair for pair in self._ranges if (pair[1].exposure or 0) <= exposure <= (pair[1].last_exposure or 0)
            )
        found: dict[str, Change] = {}
        for _, correction in sorted(said, key=lambda pair: pair[0]):
            if correction.detector is not None and correction.detector != detector:
                continue
            if correction.withdraw:
                found.clear()
            source = ", ".join(filter(None, (correction.who, correction.when, correction.why))) or "a correction"
            found.update((keyword, Change(value=value, source=source)) for keyword, value in correction.header.items())
        return found


NO_CORRECTIONS = Corrections()


def decode_corrections(content: object, place: str) -> CorrectionList:
    """Return a list of corrections of what a file or a dataset holds.

    Raises
    ------
    InvalidRequestError
        With the place that is wrong.
    """
    try:
        found = msgspec.convert(content, CorrectionList)
    except msgspec.ValidationError as exc:
        raise InvalidRequestError(
            f"{place}: {str(exc).replace('Object', 'it')}",
            hint="corrections: a list of {observation or exposure, detector, header: {KEYWORD: value}, why}",
        ) from None
    if len(found.corrections) > MAX_CORRECTIONS:
        raise InvalidRequestError(f"{place}: more than {MAX_CORRECTIONS} corrections")
    for number, one in enumerate(found.corrections, 1):
        one.check(f"{place}: correction {number}")
    return found


def read_corrections(paths: Iterable[str | os.PathLike[str]], instrument: str) -> list[Correction]:
    """Read corrections of an instrument from files.

    Parameters
    ----------
    paths : iterable of path
        Files, or directories with files, of two kinds: YAML of Pantry's own form, with ``corrections`` at its top; and
        those of astro_metadata_translator, ``INSTRUMENT-OBSERVATION.yaml`` with keywords and values. In directories,
        files of other instruments are passed over.
    instrument : str
        Its name in data ids.

    Raises
    ------
    InvalidRequestError
        A file is of neither kind, or makes no sense.
    """
    found: list[Correction] = []
    for path, was_named in _files(paths):
        observation = _observation_of(path, instrument)
        if observation is None and not was_named and "-" in os.path.basename(path):
            continue
        content = _load(path)
        if set(content) <= {"corrections"}:
            found += decode_corrections(content, path).corrections
        elif observation is not None:
            correction = _of_translator(content, observation, path)
            correction.check(path)
            found.append(correction)
        else:
            raise InvalidRequestError(
                f"{path} has no corrections of {instrument}",
                hint=f"`corrections:` at its top, or keywords and values and the name {instrument}-OBSERVATION.yaml",
            )
    return found


def _of_translator(content: Mapping[str, Any], observation: str, path: str) -> Correction:
    bad = [str(keyword) for keyword, value in content.items() if not isinstance(value, CardValue)]
    if bad:
        raise InvalidRequestError(f"{path}: no single value: {', '.join(bad)}")
    return Correction(observation=observation, header={str(keyword): value for keyword, value in content.items()})


def _files(paths: Iterable[str | os.PathLike[str]]) -> Iterator[tuple[str, bool]]:
    for path in (os.fspath(given) for given in paths):
        if os.path.isdir(path):
            names: Sequence[str] = sorted(os.listdir(path))
            yield from ((os.path.join(path, name), False) for name in names if name.endswith((".yaml", ".yml")))
        else:
            yield path, True


def _observation_of(path: str, instrument: str) -> str | None:
    name = re.sub(r"\.ya?ml$", "", os.path.basename(path))
    return name.removeprefix(f"{instrument}-") if name.startswith(f"{instrument}-") else None


def _load(path: str) -> dict[str, Any]:
    import yaml

    if os.path.getsize(path) > _MAX_FILE_BYTES:
        raise InvalidRequestError(f"{path}: longer than {_MAX_FILE_BYTES} bytes")
    try:
        with open(path, encoding="utf-8") as file:
            content = yaml.load(file, Loader=_text_times())  # noqa: S506 - a safe loader
    except (yaml.YAMLError, UnicodeDecodeError) as exc:
        raise InvalidRequestError(f"{path} is not YAML: {str(exc).splitlines()[0]}") from None
    if not isinstance(content, dict) or not content:
        raise InvalidRequestError(f"{path}: not a mapping with keywords and values")
    return content


def _text_times() -> Any:
    """Return a safe loader that leaves times as the text that cards hold."""
    import yaml

    class Loader(yaml.CSafeLoader):
        pass

    Loader.yaml_implicit_resolvers = {
        first: [(tag, pattern) for tag, pattern in pairs if tag != "tag:yaml.org,2002:timestamp"]
        for first, pairs in yaml.CSafeLoader.yaml_implicit_resolvers.items()
    }
    return Loader
