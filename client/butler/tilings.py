"""Tilings of the sky become part of a repository."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from itertools import islice
from typing import Any

from pantry.client.butler.definitions import Definitions
from pantry.client.butler.writing import Writing
from pantry.errors import ConfigError, ConflictError, DatasetExistsError, InvalidRequestError
from pantry.wire.operations import InsertDimensionRecords

RUN = "skymaps"
DATASET_TYPE = "skyMap"
"""The run, the dataset type and the storage class in which Gen3 repositories keep their sky maps."""

_RECORDS = 5000
"""Records of one request; with their regions about a megabyte."""


class Tilings(Writing, Definitions):
    """The methods of `Butler` about tilings of the sky."""

    def register_skymap(
        self,
        skymap: Any,
        name: str = "",
        *,
        tracts: Iterable[int] | None = None,
        progress: Callable[[int], None] | None = None,
    ) -> int:
        """Add a tiling of the sky, with the records of all its tracts and patches (DMS-MWBT-REQ-0020, 0021).

        A repository may have any number of them. Registering one again is no error, and completes what an
        interruption left out. What is described by a configuration is stored as well: ``get("skyMap",
        skymap=name)`` gives the sky map back.

        Parameters
        ----------
        skymap : SkyMap, NamedSkyMap or object
            Of `pantry.client.skymaps`, or any object that has ``sha1`` (20 bytes or hex text) and ``len()``, and
            iterates over tracts. A tract has ``id``, ``patches_x``, ``patches_y`` and ``region``, and iterates over
            patches with ``id``, ``cell_x``, ``cell_y`` and ``region``; regions are of `lsst.sphgeom`. Those of
            Rubin's ``lsst.skymap`` do as well.
        name : str
            How it is called; by default as its configuration says.
        tracts : iterable of int, optional
            Only the records of these tracts.
        progress : callable, optional
            Called with the number of records done after each request.

        Returns
        -------
        int
            How many records are new.

        Raises
        ------
        ConflictError
            Another sky map has this name, or this sky map another name.
        """
        from pantry.client.skymaps import NamedSkyMap
        from pantry.client.skymaps.records import skymap_record, tract_records

        self._writing()
        if isinstance(skymap, NamedSkyMap):
            skymap, name = skymap.skymap, name or skymap.name
        if not name:
            raise InvalidRequestError("the sky map has no name", hint="give name=..., or name in its configuration")
        try:
            count = self._insert([skymap_record(name, skymap)])
        except ConflictError as exc:
            raise ConflictError(
                f"another sky map is called {name!r}, or this one is registered by another name: {exc.message}",
                hint="`pantry query-dimension-records REPOSITORY skymap` lists names and hashes",
            ) from None
        done = 1
        records = tract_records(name, skymap, tracts)
        while batch := list(islice(records, _RECORDS)):
            count += self._insert(batch)
            done += len(batch)
            if progress is not None:
                progress(done)
        self._keep(NamedSkyMap(name, skymap))
        return count

    def _insert(self, records: list[Any]) -> int:
        operation = InsertDimensionRecords(
            repository=self.repository, records=tuple(records), skip_existing=True, compare=True
        )
        return self.connection.call(operation).count

    def _keep(self, named: Any) -> None:
        from pantry.client.skymaps import dump_skymap

        try:
            dump_skymap(named)
        except ConfigError:
            return  # an object without a configuration: its records are all there is
        self.register_dataset_type(DATASET_TYPE, ["skymap"], "SkyMap")
        try:
            self.put(named.skymap, DATASET_TYPE, skymap=named.name, run=RUN)
        except DatasetExistsError:
            return  # the record's hash says that it is the same
