"""One call for every EFD, whatever it is kept in (DMS-MWBT-REQ-0041 to 0044)."""

from __future__ import annotations

import fnmatch
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

import msgspec

from pantry.client.efd.results import Form, as_form, check_form
from pantry.client.efd.spans import nanoseconds, span_of, widened
from pantry.client.queries import QueryService
from pantry.errors import InvalidQueryError, InvalidRequestError, NotFoundError
from pantry.model.queries import NamesQuery, TopicQuery
from pantry.model.timespan import BEGIN_NS
from pantry.wire.operations import ListQueries

if TYPE_CHECKING:
    from pantry.client.butler.butler import Butler
    from pantry.client.connection import Connection

_USUAL = "efd"
_SCHEME = "efd+"
_MOST_ROWS = TopicQuery(topic="", start_tai_ns=0, stop_tai_ns=0).max_rows


class EfdField(msgspec.Struct, frozen=True):
    """One field of a topic.

    Attributes
    ----------
    name : str
        Of the field.
    type : str
        ``float``, ``int``, ``string`` or ``bool``.
    unit, description : str
        Empty if not known.
    """

    name: str
    type: str
    unit: str = ""
    description: str = ""


class Efd:
    """The engineering facility databases that the daemon's configuration names; in Python ``butler.efd``.

    Parameters
    ----------
    connection : Connection
        To the daemon.
    butler : Butler, optional
        Whose observations tell times.

    Examples
    --------
    >>> temperature = butler.efd["lsst.sal.ESS.temperature"]  # in a notebook, Tab completes the topic
    >>> temperature.query("temperatureItem*", exposure=2025041500088, instrument="LSSTCam")
    """

    def __init__(self, connection: Connection, butler: Butler | None = None) -> None:
        self._connection = connection
        self._butler = butler
        self._services: list[str] | None = None

    def __repr__(self) -> str:
        return "<engineering facility database: query, last, topics, fields>"

    def __getitem__(self, topic: str) -> EfdTopic:
        return EfdTopic(self, topic)

    def topic(self, name: str, *, index: int | None = None, service: str = "") -> EfdTopic:
        """Return one topic, and perhaps only one ``salIndex`` of it; ``efd[name]`` is shorter for all."""
        return EfdTopic(self, name, index=index, service=service)

    def _ipython_key_completions_(self) -> list[str]:
        return self.topics()

    def services(self) -> list[str]:
        """Return the names of the services that are an EFD and that you may ask."""
        if self._services is None:
            found = self._connection.call(ListQueries()).services
            self._services = [one.name for one in found if one.location.startswith(_SCHEME)]
        return list(self._services)

    def query(
        self,
        topic: str,
        fields: str | Iterable[str] = (),
        *,
        timespan: Any = None,
        margin: Any = 0,
        index: int | None = None,
        resample: Any = None,
        form: Form = "timeseries",
        max_rows: int = _MOST_ROWS,
        service: str = "",
        data_id: Mapping[str, Any] | None = None,
        **observation: Any,
    ) -> Any:
        """Get the samples of a topic in a time span, or during an observation.

        Parameters
        ----------
        topic : str
            Such as ``lsst.sal.ESS.temperature``; `topics` lists them.
        fields : str or iterable of str
            Which; by default all. ``temperatureItem*`` means all elements of an array.
        timespan : Timespan or pair, optional
            Half-open: begin and end, each an astropy Time, ISO 8601 text in TAI, or TAI nanoseconds since 1970.
        margin : float, Quantity or TimeDelta
            How much longer at both ends, in seconds.
        index : int, optional
            Only samples with this ``salIndex``.
        resample : float, Quantity or TimeDelta, optional
            Means in bins of this length, in seconds, from the begin of the span on, in place of the samples; bins
            without samples are absent.
        form : str
            ``timeseries``: an astropy TimeSeries with quantities. ``astropy``: a Table. ``arrow``. ``pandas``: a
            DataFrame with times in TAI as its index.
        max_rows : int
            Most rows: more are an error, never a part of them. The service's own limit holds besides.
        service : str
            Which EFD, if there are several; by default the one with the name ``efd``.
        data_id, **observation
            In place of a time span: ``visit=...`` or ``exposure=...`` with ``instrument=...``.

        Returns
        -------
        astropy.timeseries.TimeSeries
            Times in TAI, to the nanosecond, in ascending order, and a column for each field: with its unit, and
            masked where a sample has no value. Without any sample in the span: no rows, and the same columns.

        Raises
        ------
        InvalidQueryError
            There is no such topic or field; the hint names near ones.
        LimitExceededError
            There are more rows.

        Examples
        --------
        >>> butler.efd.query("lsst.sal.ESS.temperature", "temperatureItem*", visit=2025041500088, instrument="LSSTCam")
        >>> butler.efd.query("lsst.sal.MTMount.azimuth", timespan=(begin, end), resample=1 * u.s)
        """
        check_form(form)
        span = widened(span_of(self._butler, timespan, {**(data_id or {}), **observation}), margin)
        length_ns = 0 if resample is None else nanoseconds(resample, "resample")
        if resample is not None and not length_ns:
            raise InvalidRequestError("bins of no length hold no samples", hint="resample=1 is one second")
        asked = TopicQuery(
            topic=topic,
            fields=_names(fields),
            start_tai_ns=span.begin_ns,
            stop_tai_ns=span.end_ns,
            index=index,
            resample_ns=length_ns,
            max_rows=max_rows,
        )
        return as_form(self._run(asked, service), form)

    def last(
        self,
        topic: str,
        fields: str | Iterable[str] = (),
        *,
        before: Any = None,
        within: Any = None,
        index: int | None = None,
        form: Form = "timeseries",
        service: str = "",
        data_id: Mapping[str, Any] | None = None,
        **observation: Any,
    ) -> Any:
        """Get the last sample at or before an instant: the state that held then.

        Parameters
        ----------
        topic, fields, index, form, service
            As of `query`; of several fields, the last sample that has a value of any.
        before : Time, str or int, optional
            The instant, as of ``timespan`` of `query`.
        within : float, Quantity or TimeDelta, optional
            How far back to look, in seconds; by default as far as there are samples.
        data_id, **observation
            In place of ``before``: the begin of a visit or an exposure.

        Returns
        -------
        astropy.timeseries.TimeSeries
            One row, or none.
        """
        check_form(form)
        given = None if before is None else (before, before)
        at_ns = span_of(self._butler, given, {**(data_id or {}), **observation}).begin_ns
        start_ns = BEGIN_NS if within is None else max(BEGIN_NS, at_ns - nanoseconds(within, "within"))
        asked = TopicQuery(
            topic=topic,
            fields=_names(fields),
            start_tai_ns=start_ns,
            stop_tai_ns=at_ns,
            index=index,
            nearest_before=True,
        )
        return as_form(self._run(asked, service), form)

    def topics(self, pattern: str = "*", *, service: str = "") -> list[str]:
        """Return the names of topics that match a pattern, as ``*ESS*``; one without ``*`` is searched for anywhere."""
        names = self._run(NamesQuery(), service)["topic"].to_pylist()
        wanted = pattern if any(char in pattern for char in "*?[") else f"*{pattern}*"
        return [one for one in names if fnmatch.fnmatch(one.lower(), wanted.lower())]

    def fields(self, topic: str, *, service: str = "") -> dict[str, EfdField]:
        """Return the fields of a topic by name: their types, units and descriptions."""
        rows = self._run(NamesQuery(topic=topic), service).to_pylist()
        found = [EfdField(row["field"], row["type"], row["unit"], row["description"]) for row in rows]
        return {one.name: one for one in found}

    def _run(self, asked: TopicQuery | NamesQuery, service: str) -> Any:
        name = service or self._usual()
        return QueryService(name, connection=self._connection).run(asked, form="arrow")

    def _usual(self) -> str:
        known = self.services()
        if _USUAL in known or len(known) == 1:
            return _USUAL if _USUAL in known else known[0]
        if not known:
            raise NotFoundError(
                "no EFD is configured that you may ask", hint="the node's administrator can add one under services"
            )
        raise InvalidRequestError(f"which EFD? there are {', '.join(known)}", hint="say service='...'")


class EfdTopic:
    """One topic of an EFD; made by ``butler.efd[topic]``, and a source for `pantry.client.TimeJoin`.

    Parameters
    ----------
    efd : Efd
        Of which.
    name : str
        Of the topic.
    index : int, optional
        Only samples with this ``salIndex``.
    service : str
        As of `Efd.query`.
    """

    def __init__(self, efd: Efd, name: str, *, index: int | None = None, service: str = "") -> None:
        self._efd = efd
        self.name = name
        self.index = index
        self.service = service

    def __repr__(self) -> str:
        return f"<topic {self.name}: query, last, fields>"

    @property
    def short_name(self) -> str:
        """The last part of its name."""
        return self.name.rpartition(".")[2]

    @property
    def fields(self) -> dict[str, EfdField]:
        """Its fields, as of `Efd.fields`."""
        return self._efd.fields(self.name, service=self.service)

    def query(self, fields: str | Iterable[str] = (), **when: Any) -> Any:
        """Get samples; as `Efd.query`."""
        return self._efd.query(self.name, fields, index=self.index, service=self.service, **when)

    def last(self, fields: str | Iterable[str] = (), **when: Any) -> Any:
        """Get the last sample before an instant; as `Efd.last`."""
        return self._efd.last(self.name, fields, index=self.index, service=self.service, **when)


def _names(fields: str | Iterable[str]) -> tuple[str, ...]:
    names = (fields,) if isinstance(fields, str) else tuple(fields)
    if not all(isinstance(one, str) and one for one in names):
        raise InvalidQueryError("fields are texts")
    return names
