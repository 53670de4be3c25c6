"""How the headers of a repository's raws are brought up to date: what is found in the repository, and kept here.

What is found never changes (datasets are immutable), so only which datasets there are is asked anew with each read.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any
from uuid import UUID

from pantry.client.butler.access import names
from pantry.client.butler.raw_sources import Kept, RecordMerge, TableSource, TopicSource
from pantry.errors import InvalidRequestError, MissingCollectionError, MissingDatasetTypeError
from pantry.model.datasets import DatasetRef
from pantry.model.formats import header_rules
from pantry.model.raw_headers import USUAL_CORRECTIONS, USUAL_RULES, HeaderRules
from pantry.model.raw_headers import Merge as MergeRule

if TYPE_CHECKING:
    from pantry.client.butler.raws import Raws
    from pantry.client.instruments.amending import Merge, Plan
    from pantry.client.instruments.corrections import CorrectionList, Corrections
    from pantry.client.instruments.translators import RawTranslator

RAW_FORMATTER = "fits_raw"
CORRECTIONS = "header_corrections"
DEFINITIONS = "instrument_definition"
_PARAMETERS = ("amend", "corrections", "as_of")
"""Of `pantry.client.formatters.fits_raw`."""
_MOST_INDEXES = 16

Names = str | Iterable[str] | None


class RawPlans:
    """Finds how raws are amended, for one Butler; all threads may share one."""

    def __init__(self, butler: Raws) -> None:
        self._butler = butler
        self._lists: dict[UUID, CorrectionList] = {}
        self._tables: Kept = {}
        self._translators: dict[UUID, type[RawTranslator]] = {}
        self._indexes: dict[tuple[tuple[UUID, ...], str], Corrections] = {}

    def parameters(self, ref: DatasetRef, given: Mapping[str, Any]) -> dict[str, Any]:
        """Turn read parameters that people give for a raw into those of its formatter."""
        passed = {name: value for name, value in given.items() if name not in _PARAMETERS}
        translator = self.translator(str(ref.data_id["instrument"]))
        if translator is not None:
            passed["translator"] = translator
        amend = given.get("amend", True)
        if not isinstance(amend, bool):
            raise InvalidRequestError(f"the parameter amend is True or False, not {amend!r}")
        if not amend:
            passed["plan"] = None
        else:
            instrument = str(ref.data_id["instrument"])
            rules = header_rules(ref.dataset_type.name, self._butler._formats)
            until = utc_text(given.get("as_of"))
            passed["plan"] = self.plan(instrument, rules, given.get("corrections"), until)
        return passed

    def plan(self, instrument: str, rules: HeaderRules, collections: Names = None, until: str = "") -> Plan:
        """Return how the headers of an instrument's raws are brought up to date.

        Parameters
        ----------
        instrument : str
            Its name in data ids.
        rules : HeaderRules
            What the configuration says.
        collections : str or iterable of str, optional
            Of corrections, in place of what it says.
        until : str
            Only corrections of before; as of `utc_text`.
        """
        from pantry.client.instruments.amending import Plan

        corrections = self.corrections(instrument, collections, until, rules)
        return Plan(corrections=corrections, merges=[self._merge(rule) for rule in rules.merge])

    def _merge(self, rule: MergeRule) -> Merge:
        if rule.record:
            return RecordMerge(self._butler, rule)
        from pantry.client.instruments.merging import TimedMerge

        if rule.topic:
            return TimedMerge(rule, TopicSource(self._butler, rule))
        return TimedMerge(rule, TableSource(self._butler, rule, self._tables))

    def corrections(
        self, instrument: str, collections: Names = None, until: str = "", rules: HeaderRules = USUAL_RULES
    ) -> Corrections:
        """Return the corrections of an instrument, found by exposure."""
        from pantry.client.instruments.corrections import Corrections

        refs = self.correction_refs(instrument, collections, rules)
        key = (tuple(ref.id for ref in refs), until)
        found = self._indexes.get(key)
        if found is None:
            if len(self._indexes) >= _MOST_INDEXES:
                self._indexes.clear()
            found = self._indexes[key] = Corrections([self.correction_list(ref) for ref in refs], until)
        return found

    def correction_refs(
        self, instrument: str, collections: Names = None, rules: HeaderRules = USUAL_RULES
    ) -> list[DatasetRef]:
        """Return the lists of corrections of an instrument, the one with the last word last.

        Of the collections given, the first has the last word; within one, the run with the greatest name.
        """
        usual = [pattern.replace("{instrument}", instrument) for pattern in rules.corrections or USUAL_CORRECTIONS]
        found: dict[UUID, DatasetRef] = {}
        for pattern in names(usual if collections is None else collections):
            try:
                refs = self._butler.query_datasets(
                    CORRECTIONS, pattern, find_first=False, data_id={"instrument": instrument}
                )
            except (MissingDatasetTypeError, MissingCollectionError):
                if collections is not None:
                    raise
                refs = []
            for ref in sorted(refs, key=lambda ref: ref.run, reverse=True):
                found.setdefault(ref.id, ref)
        return list(reversed(found.values()))

    def translator(self, instrument: str) -> type[RawTranslator] | None:
        """Return the translator of an instrument that a text defines; None for Pantry's own, and unknown ones."""
        from pantry.client.instruments.cameras import CAMERAS

        if instrument in CAMERAS:
            return None
        found = self.definitions(f"{instrument}/definition/*", {"instrument": instrument})
        return self._translator(found[-1]) if found else None

    def translators(self) -> list[type[RawTranslator]]:
        """Return the translators of all instruments of the repository that texts define."""
        latest = {str(ref.data_id["instrument"]): ref for ref in self.definitions("*/definition/*", {})}
        return [self._translator(ref) for ref in latest.values()]

    def definitions(self, pattern: str, data_id: Mapping[str, str]) -> list[DatasetRef]:
        """Return datasets with definitions, the latest of each instrument last."""
        try:
            refs = self._butler.query_datasets(DEFINITIONS, pattern, find_first=False, data_id=data_id)
        except (MissingDatasetTypeError, MissingCollectionError):
            return []
        return sorted(refs, key=lambda ref: ref.run)

    def _translator(self, ref: DatasetRef) -> type[RawTranslator]:
        from pantry.client.instruments.definition import load_definition
        from pantry.client.instruments.described import translator_of

        found = self._translators.get(ref.id)
        if found is None:
            definition = load_definition(self._butler.get(ref), f"{DEFINITIONS} of {ref.run}")
            found = self._translators[ref.id] = translator_of(definition)
        return found

    def correction_list(self, ref: DatasetRef) -> CorrectionList:
        """Return what one dataset says."""
        from pantry.client.instruments.corrections import decode_corrections

        found = self._lists.get(ref.id)
        if found is None:
            content = self._butler.get(ref)
            found = self._lists[ref.id] = decode_corrections(content, f"{CORRECTIONS} of {ref.run}")
        return found


def utc_text(given: Any) -> str:
    """Return a time that a user gives as corrections have it, UTC to the microsecond; empty for None."""
    if given is None:
        return ""
    if hasattr(given, "utc") and hasattr(given, "jd1"):
        given = given.utc.to_datetime()
    try:
        time = given if isinstance(given, datetime) else datetime.fromisoformat(given)
    except (TypeError, ValueError):
        raise InvalidRequestError(f"{given!r} is no time", hint="ISO 8601 in UTC, such as 2026-11-25T12:00") from None
    time = time.replace(tzinfo=UTC) if time.tzinfo is None else time.astimezone(UTC)
    return time.strftime("%Y-%m-%dT%H:%M:%S.%fZ")
