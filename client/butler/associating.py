"""Tables joined with what was going on when their rows were observed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal, cast

import msgspec

from pantry.client.association.request import Method, TimeJoin
from pantry.client.butler.access import RepositoryAccess
from pantry.errors import InvalidRequestError
from pantry.model.datasets import DatasetRef

if TYPE_CHECKING:
    from astropy.table import Table

    from pantry.client.butler.butler import Butler


class Associating(RepositoryAccess):
    """The method of `Butler` that joins by time."""

    def join_by_time(
        self,
        table_or_ref: Any,
        with_: str | TimeJoin | Sequence[str | TimeJoin],
        /,
        *,
        time: str,
        scale: Literal["tai", "utc", "tt", "tdb"] | None = None,
        form: Literal["mjd", "jd", "unix", "tai_ns"] | None = None,
        method: Method | None = None,
        tolerance: Any = None,
    ) -> Table:
        """Join a table with observations and other tables by the time of its rows (DMS-MWBT-REQ-0045).

        Times are compared as whole nanoseconds of TAI. There is one query for a source, and one read for each dataset
        whose table is joined, however many rows there are.

        Parameters
        ----------
        table_or_ref : table or DatasetRef
            A light curve or the like: an astropy, pandas or Arrow table, or a dataset that is one.
        with_ : str, TimeJoin, or list of these
            What to join: an element with time spans (``visit``, ``exposure``, ``day_obs``), or a dataset type of tables
            with times. A `TimeJoin` says more: which columns, which method, which records or datasets.
        time : str
            The table's column of observation times: numbers, `astropy.time.Time`, ``datetime64`` or ISO 8601.
            Rows whose time is masked or not finite have no match.
        scale : str, optional
            Of times that are no `astropy.time.Time`; needed unless the column's name ends in TAI or UTC. Barycentric
            times are not times of observation, and must be brought back to these first.
        form : str, optional
            Of numbers: ``mjd`` (the usual one), ``jd``, ``unix`` or ``tai_ns``.
        method, tolerance
            As of `TimeJoin`, for what is given by its name alone.

        Returns
        -------
        Table
            A copy of the table, a QTable if it is one, with the same rows in the same order. Columns are called
            ``visit_exposure_time`` for ``exposure_time`` of ``visit``; masked where nothing was found.
            ``visit_offset`` is the time since the beginning of what was joined, in seconds. ``weather_dataset`` is
            the place of the dataset in the list of the provenance, which is in ``meta["joined_by_time"]``.

        Raises
        ------
        InvalidRequestError
            The times cannot be read, or a row is in several time spans and ``overlaps`` does not say which counts.

        Examples
        --------
        >>> from pantry.client import Butler, TimeJoin
        >>> weather = TimeJoin(source="weather", method="linear", tolerance=300, columns=["temperature"])
        >>> joined = butler.join_by_time(lightcurve, ["visit", weather], time="midpointMjdTai")
        >>> joined["visit_exposure_time"], joined["weather_temperature"]
        """
        from pantry.client.association.joining import join_by_time

        given = list(with_) if isinstance(with_, list | tuple) else [with_]
        joins = []
        for one in given:
            if isinstance(one, str):
                one = TimeJoin(source=one, method=method, tolerance=tolerance)
            elif not isinstance(one, TimeJoin):
                raise InvalidRequestError(
                    f"a {type(one).__name__} cannot be joined by itself", hint="TimeJoin(source=table, name='dome')"
                )
            joins.append(msgspec.structs.replace(one, columns=None if one.columns is None else tuple(one.columns)))
        if not joins:
            raise InvalidRequestError("nothing to join was given", hint="such as 'visit'")
        butler = cast("Butler", self)
        table = butler.get(table_or_ref) if isinstance(table_or_ref, DatasetRef) else table_or_ref
        return join_by_time(butler, table, joins, time=time, scale=scale, form=form)
