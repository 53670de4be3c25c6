"""Fields of the datasets that a query is about: ``ingest_date``, ``run``, as conditions and to sort by."""

from __future__ import annotations

from typing import Any, Literal, NamedTuple

import sqlalchemy as sa

from pantry.daemon.registry.members import Members
from pantry.model.timespan import BEGIN_NS, END_NS

Field = Literal["dataset_id", "ingest_date", "run", "collection"]
FIELDS: dict[str, Literal["uuid", "instant", "string"]] = {
    "dataset_id": "uuid",
    "ingest_date": "instant",
    "run": "string",
    "collection": "string",
}
"""By Gen3's names; ``timespan`` is one more."""

_TAI_MINUS_UTC_NS = 37_000_000_000
"""Since 2017, before which nothing was ingested."""

Column = sa.ColumnElement[Any]
_PREFIX = "searched_"


class Searched(NamedTuple):
    """Where the fields of one dataset type's datasets are in a query.

    Attributes
    ----------
    dataset_type : str
        Its name.
    bare : bool
        Whether the fields' names alone say what is meant.
    dataset_id, ingest_ns : ColumnElement
        As the registry has them: an id of its own kind, and nanoseconds UTC.
    run, collection : ColumnElement
        Primary keys: of the run, and of the collection that the dataset was found in.
    span : tuple of ColumnElement
        Begin and end of its validity.
    """

    dataset_type: str
    bare: bool
    dataset_id: Column
    ingest_ns: Column
    run: Column
    collection: Column
    span: tuple[Column, Column]

    @classmethod
    def of(cls, dataset_type: str, members: Members, dataset: Any, dataset_id: Column, *, bare: bool) -> Searched:
        """Say where the fields are in a join of members of collections with the table of datasets."""
        return cls(
            dataset_type, bare, dataset_id, dataset.c.ingest_ns, dataset.c.run_id, members.collection, _span(members)
        )

    def columns(self) -> list[Column]:
        """Give all of it as columns of a subquery, for `within`."""
        given = (self.dataset_id, self.ingest_ns, self.run, self.collection, *self.span)
        return [column.label(f"{_PREFIX}{number}") for number, column in enumerate(given)]

    def within(self, subquery: sa.Subquery) -> Searched:
        """Say where the fields are in a subquery with `columns`."""
        dataset_id, ingest_ns, run, collection, begin, end = (
            subquery.c[f"{_PREFIX}{number}"] for number in range(len(self.columns()))
        )
        return self._replace(
            dataset_id=dataset_id, ingest_ns=ingest_ns, run=run, collection=collection, span=(begin, end)
        )

    @property
    def ingest_date(self) -> Column:
        """When the datasets were ingested, TAI nanoseconds as all times in expressions."""
        return self.ingest_ns + sa.literal(_TAI_MINUS_UTC_NS, sa.BigInteger())


def _span(members: Members) -> tuple[Column, Column]:
    always = sa.literal(BEGIN_NS, sa.BigInteger()), sa.literal(END_NS, sa.BigInteger())
    if members.span is None:
        return always
    # Members of RUN and TAGGED collections are valid at all times, as in Gen3.
    begin, end = (sa.func.coalesce(column, other) for column, other in zip(members.span, always, strict=True))
    return begin, end
