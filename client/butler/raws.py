"""Raw exposures: taken in by what their headers say, and corrections of these (DMS-MWBT-REQ-0008, 0009, 0049, 0050)."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any
from uuid import UUID

import msgspec

from pantry.client.butler.definitions import MAX_RECORDS, Definitions, dimension_record
from pantry.client.butler.forms import form_of
from pantry.client.butler.ingesting import Ingesting
from pantry.client.butler.raw_plans import DEFINITIONS, RAW_FORMATTER, RawPlans, utc_text
from pantry.client.butler.reading import Reading
from pantry.client.butler.writing import Writing
from pantry.errors import InvalidRequestError, MissingDatasetTypeError, PantryError
from pantry.model.datasets import DatasetRef, DatasetType
from pantry.model.formats import header_rules
from pantry.model.raw_headers import HeaderRules
from pantry.wire.operations import InsertDimensionRecords
from pantry.wire.operations.data import Transfer

if TYPE_CHECKING:
    from pantry.client.butler.opened import OpenedFile
    from pantry.client.instruments import RawObservation

Path = str | os.PathLike[str]
Progress = Callable[[str, int], AbstractContextManager[Callable[[int], None]]]
"""Given what is done and of how many, gives a function that is told how many are done."""

RAW_PATTERNS = ("*.fits", "*.fits.fz", "*.fits.gz")
"""Names of raw files, if nothing else is known."""
_DIMENSIONS = ("instrument", "exposure", "detector")


class RawIngest(msgspec.Struct, frozen=True, kw_only=True):
    """What became of raw files.

    Attributes
    ----------
    ids : dict of str to uuid.UUID or None
        The dataset of each file, None for those that were there.
    runs : dict of str to list of str
        The files of each run.
    failures : dict of str to str
        Files that were passed over, and why.
    """

    ids: dict[str, UUID | None] = {}
    runs: dict[str, list[str]] = {}
    failures: dict[str, str] = {}


class Raws(Reading, Writing, Ingesting, Definitions):
    """The methods of `Butler` about raw exposures."""

    @property
    def _raw_plans(self) -> RawPlans:
        found = self.__dict__.get("_raw_plans_made")
        if found is None:
            found = self.__dict__.setdefault("_raw_plans_made", RawPlans(self))
        return found  # type: ignore[no-any-return]

    def _completed(self, source: OpenedFile, parameters: Mapping[str, Any]) -> Mapping[str, Any]:
        if source.file.formatter != RAW_FORMATTER:
            return parameters
        return self._raw_plans.parameters(source.ref, parameters)

    def _companions(self, refs: Iterable[DatasetRef]) -> list[DatasetRef]:
        refs = list(refs)
        types = {(str(ref.data_id["instrument"]), ref.dataset_type) for ref in refs if _are_raws(ref.dataset_type)}
        found: dict[UUID, DatasetRef] = {}
        for instrument, kind in sorted(types, key=lambda one: (one[0], one[1].name)):
            rules = header_rules(kind.name, self._formats)
            definitions = self._raw_plans.definitions(f"{instrument}/definition/*", {"instrument": instrument})
            for ref in [*self._raw_plans.correction_refs(instrument, None, rules), *definitions[-1:]]:
                found[ref.id] = ref
        there = {ref.id for ref in refs}
        return [ref for ref in found.values() if ref.id not in there]

    def ingest_raws(
        self,
        files: Iterable[Path],
        *,
        run: str | None = None,
        dataset_type: str = "raw",
        transfer: Transfer = "copy",
        skip_existing: bool = False,
        keep_going: bool = False,
        progress: Progress | None = None,
    ) -> RawIngest:
        """Take raw exposures in, by what their headers say today (DMS-MWBT-REQ-0008, 0009, 0049).

        What is not yet known of instruments, detectors, filters, days and exposures is recorded, and the dataset type
        is registered if need be. Corrections that the repository has are applied to what is recorded; the files stay
        as they are.

        Parameters
        ----------
        files : iterable of path
            FITS files of science and calibration exposures.
        run : str, optional
            RUN collection that they go to; by default ``<instrument>/raw/all``.
        dataset_type : str
            What they are.
        transfer, skip_existing
            As of `ingest`.
        keep_going : bool
            Pass over files that cannot be understood.
        progress : callable, optional
            As of `Progress`.

        Returns
        -------
        RawIngest
            What became of each file.

        Raises
        ------
        FormatterError
            A header cannot be understood, and ``keep_going`` is False; nothing was ingested.
        """
        self._writing()
        progress = progress or (lambda what, total: nullcontext(lambda done: None))
        failures: dict[str, str] = {}
        observations = self._translated(
            [os.fspath(file) for file in files], dataset_type, failures, keep_going, progress
        )
        self._record([one for _, one in observations])
        formatter = self._raw_type(dataset_type)
        done = RawIngest(failures=failures)
        for name in dict.fromkeys(_run_of(one, run) for _, one in observations):
            rows = [(path, one.data_id) for path, one in observations if _run_of(one, run) == name]
            with progress(f"ingesting into {name}", len(rows)) as told:
                ids = self.ingest(
                    dataset_type,
                    rows,
                    run=name,
                    transfer=transfer,
                    formatter=formatter,
                    skip_existing=skip_existing,
                    progress=told,
                )
            done.runs[name] = [path for path, _ in rows]
            done.ids.update(zip(done.runs[name], ids, strict=True))
        return done

    def _translated(
        self, files: Sequence[str], dataset_type: str, failures: dict[str, str], keep_going: bool, progress: Progress
    ) -> list[tuple[str, RawObservation]]:
        from pantry.client.instruments.observation import translate

        # Only corrections: what is merged from records and tables may itself depend on the records made here.
        rules = HeaderRules(corrections=header_rules(dataset_type, self._formats).corrections)
        # For this call: others may come later.
        plans = functools.cache(functools.partial(self._raw_plans.plan, rules=rules))
        translators = self._raw_plans.translators()
        observations = []
        with progress("reading headers", len(files)) as told:
            for number, path in enumerate(files, 1):
                try:
                    observations.append((path, translate(path, name=path, translators=translators, plans=plans)))
                except PantryError as exc:
                    if not keep_going:
                        raise
                    failures[path] = exc.message
                told(number)
        return observations

    def _record(self, observations: Sequence[RawObservation]) -> None:
        """Record what the headers say, each thing once, in an order in which things depend on one another."""
        by_element: dict[str, dict[tuple[object, ...], dict[str, object]]] = {}
        for one in observations:
            for element, values in one.records.items():
                key = tuple(values.get(name) for name in ("instrument", "id", "name"))
                by_element.setdefault(element, {}).setdefault(key, dict(values))
        for element, records in by_element.items():
            self.insert_dimension_records(element, *records.values(), skip_existing=True)

    def _raw_type(self, dataset_type: str) -> str:
        """Register the dataset type of raws if need be; give the formatter, if it is not that of the type."""
        try:
            known = self.get_dataset_type(dataset_type)
        except MissingDatasetTypeError:
            self.register_dataset_type(dataset_type, _DIMENSIONS, "RawExposure")
            return ""
        form = form_of(known.name, known.storage_class, (self.info.formats,))
        # Of a type that was registered for plain HDU lists, raws are such, and more.
        return RAW_FORMATTER if form is not None and form.formatter == "fits_hdus" else ""

    def register_instrument(self, definition: Path | Mapping[str, Any]) -> bool:
        """Add an instrument that a text defines (DMS-MWBT-REQ-0046, 0047).

        From then on its raws are ingested and read as those of the instruments that Pantry knows by itself.

        Parameters
        ----------
        definition : path or Mapping
            A YAML file, or its content; see `pantry.client.instruments.definition`.

        Returns
        -------
        bool
            Whether it is new, or other than before.

        Raises
        ------
        ConfigError
            With the place that is wrong.
        ConflictError
            The repository has such an instrument, detector or filter with other values.
        """
        from pantry.client.instruments.cameras import CAMERAS
        from pantry.client.instruments.definition import load_definition

        self._writing()
        loaded = load_definition(definition)
        if loaded.name in CAMERAS:
            raise InvalidRequestError(f"Pantry has a translator for {loaded.name} itself", hint="give another name")
        for element, records in loaded.records():
            made = tuple(dimension_record(element, record) for record in records)
            for begin in range(0, len(made), MAX_RECORDS):
                operation = InsertDimensionRecords(
                    repository=self.repository,
                    records=made[begin : begin + MAX_RECORDS],
                    skip_existing=True,
                    compare=True,
                )
                self.connection.call(operation)
        content = msgspec.to_builtins(loaded)
        before = self._raw_plans.definitions(f"{loaded.name}/definition/*", {"instrument": loaded.name})
        if before and load_definition(self.get(before[-1])) == loaded:
            return False
        self.register_dataset_type(DEFINITIONS, ["instrument"], "YamlDict")
        self.put(content, DEFINITIONS, instrument=loaded.name, run=f"{loaded.name}/definition/{stamp()[0]}")
        return True

    def file_patterns(self) -> list[str]:
        """Return shell-style patterns of names that raws have, those of instruments of this repository included."""
        known = [translator.camera.files for translator in self._raw_plans.translators()]
        return list(dict.fromkeys([*RAW_PATTERNS, *(pattern for one in known for pattern in one)]))

    def _know_instrument(self, name: str) -> None:
        from pantry.client.instruments.cameras import CAMERAS
        from pantry.client.instruments.observation import instrument_record

        if name in CAMERAS:
            self.insert_dimension_records("instrument", instrument_record(CAMERAS[name]), skip_existing=True)
        elif not self.query_dimension_records("instrument", where="instrument = :name", bind={"name": name}):
            raise InvalidRequestError(
                f"no instrument {name!r} in {self.repository!r}",
                hint="`pantry query-dimension-records` lists them, `pantry register-instrument` adds one",
            )


def _are_raws(kind: DatasetType) -> bool:
    return kind.storage_class == "RawExposure" and "instrument" in kind.dimensions


def stamp() -> tuple[str, str]:
    """Return the present as a part of a run's name, and as corrections have it."""
    now = utc_text(datetime.now(UTC))
    return now.replace("-", "").replace(":", "").replace(".", ""), now


def _run_of(one: RawObservation, run: str | None) -> str:
    return run or f"{one.instrument}/raw/all"
