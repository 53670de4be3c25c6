"""How values look in a notebook. Names and values are anybody's text, so that all of it is escaped."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import islice

MAX_ROWS = 50
"""Most rows that a notebook shows."""
_MAX_CHARACTERS = 400


def escape(value: object) -> str:
    """Write a value as HTML text, long ones cut."""
    from html import escape as escaped

    text = "" if value is None else str(value)
    return escaped(text if len(text) <= _MAX_CHARACTERS else text[:_MAX_CHARACTERS] + "\N{HORIZONTAL ELLIPSIS}")


def fields(values: Mapping[str, object], caption: str = "") -> str:
    """Write one thing as a table of names and values."""
    rows = "".join(
        f'<tr><th style="text-align:left">{escape(name)}</th><td style="text-align:left">{escape(value)}</td></tr>'
        for name, value in values.items()
    )
    return f"<table>{_caption(caption)}<tbody>{rows}</tbody></table>"


def table(
    columns: Sequence[str], rows: Iterable[Sequence[object]], caption: str = "", n_rows: int | None = None
) -> str:
    """Write many things as a table, at most `MAX_ROWS` of them.

    Parameters
    ----------
    columns : sequence of str
        Headings.
    rows : iterable of sequence
        One value per column.
    caption : str
        What it is.
    n_rows : int, optional
        How many there are, if ``rows`` are not all.
    """
    shown = list(islice(rows, MAX_ROWS + 1)) if n_rows is None else list(rows)
    more = "" if n_rows is None or n_rows <= MAX_ROWS else f"{n_rows - MAX_ROWS} more"
    if n_rows is None and len(shown) > MAX_ROWS:
        more = "more"
    head = "".join(f'<th style="text-align:left">{escape(name)}</th>' for name in columns)
    body = "".join(
        "<tr>" + "".join(f'<td style="text-align:left">{escape(value)}</td>' for value in row) + "</tr>"
        for row in shown[:MAX_ROWS]
    )
    rest = f'<tr><td colspan="{len(columns)}">\N{HORIZONTAL ELLIPSIS} and {more}</td></tr>' if more else ""
    return f"<table>{_caption(caption)}<thead><tr>{head}</tr></thead><tbody>{body}{rest}</tbody></table>"


def _caption(text: str) -> str:
    return f'<caption style="text-align:left">{escape(text)}</caption>' if text else ""
