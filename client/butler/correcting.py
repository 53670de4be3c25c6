"""Corrections of headers of raws: said, listed, and brought into the records of exposures (DMS-MWBT-REQ-0050)."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any

import msgspec

from pantry.client.butler.definitions import dimension_record
from pantry.client.butler.raw_plans import CORRECTIONS, Names
from pantry.client.butler.raws import Path, Progress, Raws, stamp
from pantry.errors import FormatterError, InvalidRequestError
from pantry.model.datasets import DatasetRef
from pantry.model.formats import header_rules
from pantry.model.raw_headers import HeaderRules

if TYPE_CHECKING:
    from pantry.client.instruments import Correction, RawObservation

_READERS = 4


class Correcting(Raws):
    """The methods of `Butler` that correct headers."""

    def update_exposures(
        self,
        dataset_type: str = "raw",
        *,
        collections: Names = None,
        where: str = "",
        bind: Mapping[str, Any] | None = None,
        progress: Progress | None = None,
    ) -> int:
        """Bring records of exposures up to date with what the headers of their raws say today.

        After `correct_headers` queries know it too. Of each exposure the header of one raw is read.

        Parameters
        ----------
        dataset_type : str
            Of the raws.
        collections : str or iterable of str, optional
            Where they are; by default the Butler's own.
        where, bind
            Which; as of `query_datasets`.
        progress : callable, optional
            As of `Progress`.

        Returns
        -------
        int
            How many records were changed.

        Raises
        ------
        FormatterError
            A header says nonsense, or names another exposure now: then the raw is to be ingested anew.
        """
        self._writing()
        progress = progress or (lambda what, total: nullcontext(lambda done: None))
        refs = self.query_datasets(dataset_type, collections, where=where, bind=bind, with_dimension_records=True)
        first = {(ref.data_id["instrument"], ref.data_id["exposure"]): ref for ref in reversed(refs)}
        changed: list[tuple[DatasetRef, RawObservation]] = []
        from concurrent.futures import ThreadPoolExecutor

        with progress("reading headers", len(first)) as told, ThreadPoolExecutor(_READERS) as threads:
            read = threads.map(self._observed, first.values())
            for number, (ref, one) in enumerate(zip(first.values(), read, strict=True), 1):
                if _differs(ref, one):
                    changed.append((ref, one))
                told(number)
        self._record([one for _, one in changed])
        records = [one.records["exposure"] for _, one in changed]
        return self.insert_dimension_records("exposure", *records, replace=True)

    def _observed(self, ref: DatasetRef) -> RawObservation:
        from pantry.client.instruments.observation import observe

        rules = HeaderRules(corrections=header_rules(ref.dataset_type.name, self._formats).corrections)
        instrument = str(ref.data_id["instrument"])
        plan = self._raw_plans.plan(instrument, rules)
        keywords = self.get_deferred(ref).get(component="metadata", parameters={"amend": False})
        found = observe(keywords, str(ref), translator=self._raw_plans.translator(instrument), plan=plan)
        if found.data_id["exposure"] != ref.data_id["exposure"]:
            raise FormatterError(
                f"{ref}: by its header today it is exposure {found.data_id['exposure']}", hint="ingest the file anew"
            )
        return found

    def correct_headers(
        self,
        instrument: str,
        corrections: Iterable[Correction | Mapping[str, Any] | Path],
        *,
        why: str = "",
        run: str | None = None,
    ) -> DatasetRef:
        """Say what is wrong in the headers of raws (DMS-MWBT-REQ-0050).

        From now on `get` gives them right, and `ingest_raws` records them right. No file is touched, and what was said
        before stays in the repository: reads can go back to it, by the parameters ``as_of`` and ``corrections``.

        Parameters
        ----------
        instrument : str
            Its name in data ids.
        corrections : iterable of Correction, Mapping or path
            Each over those before it: corrections of `pantry.client.instruments`, the same as mappings, or files as of
            `pantry.client.instruments.read_corrections`, those of astro_metadata_translator too.
        why : str
            The reason, of those that have none.
        run : str, optional
            RUN collection for them; by default a new one, ``<instrument>/corrections/<time>``, that `get` looks at.

        Returns
        -------
        DatasetRef
            Of the dataset with these corrections.

        Raises
        ------
        InvalidRequestError
            One of them makes no sense.

        Examples
        --------
        >>> butler.correct_headers(
        ...     "LATISS",
        ...     [{"observation": "AT_O_20240624_000106", "header": {"IMGTYPE": "OBJECT"}}],
        ...     why="taken as a normal exposure",
        ... )
        """
        self._writing()
        name, now = stamp()
        marked = [
            msgspec.structs.replace(one, who=one.who or _user(), when=now, why=one.why or why)
            for one in _gathered(corrections, instrument)
        ]
        if not marked:
            raise InvalidRequestError("no corrections were given")
        self._know_instrument(instrument)
        self.register_dataset_type(CORRECTIONS, ["instrument"], "StructuredDataDict")
        content = {"corrections": msgspec.to_builtins(marked)}
        return self.put(content, CORRECTIONS, instrument=instrument, run=run or f"{instrument}/corrections/{name}")

    def header_corrections(self, instrument: str, *, collections: Names = None) -> list[Correction]:
        """Return what is said of the headers of an instrument's raws; each over those before it.

        Parameters
        ----------
        instrument : str
            Its name in data ids.
        collections : str or iterable of str, optional
            Where to look, that with the last word first; by default the runs ``<instrument>/corrections/*``.
        """
        plans = self._raw_plans
        refs = plans.correction_refs(instrument, collections, header_rules("raw", self._formats))
        return [one for ref in refs for one in plans.correction_list(ref).corrections]


def _differs(ref: DatasetRef, found: RawObservation) -> bool:
    """Tell whether the record of an exposure says something else than its header."""
    record = dimension_record("exposure", found.records["exposure"])
    there = ref.data_id.records["exposure"]
    return (
        there is None
        or there.timespan != record.timespan
        or any(there.values.get(name) != value for name, value in record.values.items())
    )


def _gathered(given: Iterable[Correction | Mapping[str, Any] | Path], instrument: str) -> list[Correction]:
    from pantry.client.instruments.corrections import Correction, decode_corrections, read_corrections

    if isinstance(given, str | os.PathLike | Mapping | Correction):
        given = [given]
    found: list[Correction] = []
    for number, one in enumerate(given, 1):
        if isinstance(one, str | os.PathLike):
            found += read_corrections([one], instrument)
            continue
        plain = msgspec.to_builtins(one) if isinstance(one, Correction) else dict(one)
        found += decode_corrections({"corrections": [plain]}, f"number {number}").corrections
    return found


def _user() -> str:
    import getpass

    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return str(os.getuid())
