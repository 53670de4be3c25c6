"""Samples as the tables that users like."""

from __future__ import annotations

from typing import Any, Literal

from pantry.errors import InvalidRequestError

Form = Literal["timeseries", "astropy", "arrow", "pandas"]
"""An astropy TimeSeries with quantities, an astropy Table, a pyarrow Table, or a pandas DataFrame."""

FORMS: tuple[Form, ...] = ("timeseries", "astropy", "arrow", "pandas")
TIME = "time"


def check_form(form: str) -> None:
    """Raise `InvalidRequestError` if there is no such form."""
    if form not in FORMS:
        raise InvalidRequestError(f"{form!r} is no form of a table", hint=f"there are {', '.join(FORMS)}")


def as_form(table: Any, form: Form) -> Any:
    """Make of a pyarrow Table of samples what a user wants.

    Parameters
    ----------
    table : pyarrow.Table
        With the column ``time``: TAI, to the nanosecond.
    form : str
        As what; a DataFrame has the times, in TAI, as its index.
    """
    if form == "arrow":
        return table
    if form == "pandas":
        from pantry.client.formatters import convert

        frame = convert(table, "pandas.DataFrame")
        return frame.set_index(TIME) if TIME in frame.columns else frame
    from pantry.client.formatters.arrow import to_astropy

    found = to_astropy(table)
    if form == "astropy":
        return found
    from astropy.table import QTable
    from astropy.timeseries import TimeSeries

    return TimeSeries(QTable(found, copy=False))
