"""What the collections of a search hold of one dataset type, as a part of a statement."""

from __future__ import annotations

from typing import Any, NamedTuple

import sqlalchemy as sa

Column = sa.ColumnElement[Any]


class Members(NamedTuple):
    """Members of collections with their data ids.

    Attributes
    ----------
    source : FromClause
        To select from.
    collection, dataset : ColumnElement
        Primary keys of the collection and the dataset.
    values : dict of str to ColumnElement
        The required dimensions.
    identity : list of ColumnElement
        Equal where the data id is.
    span : tuple of ColumnElement, optional
        Begin and end of validity, absent but for calibrations; None if no collection is a CALIBRATION one.
    """

    source: sa.FromClause
    collection: Column
    dataset: Column
    values: dict[str, Column]
    identity: list[Column]
    span: tuple[Column, Column] | None
