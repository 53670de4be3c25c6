"""What a format cannot hold of a table is refused when it is written, and never changed in silence."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from pantry.errors import FormatterError

if TYPE_CHECKING:
    from astropy.table import Table

ACCEPTED_TABLES = "astropy Table and QTable, pandas DataFrame, pyarrow Table, structured numpy arrays"
"""What every writer of tables takes."""

PLAIN_ARRAYS = (np.ndarray, np.memmap, np.recarray)
"""Arrays that are their elements and nothing else: no unit, no mask."""

_ROWS_AT_ONCE = 1 << 16
_BLANK = 32


class Limits(NamedTuple):
    """What columns of plain values a format holds exactly.

    Attributes
    ----------
    format_name : str
        For messages.
    kinds : str
        Kinds of numpy dtypes: ``b`` bool, ``i`` and ``u`` integers, ``f`` floats, ``c`` complex numbers,
        ``U`` and ``S`` text and bytes, ``M`` and ``m`` times.
    without : frozenset of str
        Names of dtypes of these kinds that it has not.
    text : str
        ``any``, ``printable`` ASCII without blanks at the end (FITS), or ``trimmed`` of white space (ECSV).
    """

    format_name: str
    kinds: str
    without: frozenset[str] = frozenset()
    text: str = "any"


_ADVICE = {
    "float16": "convert it to float32",
    "float128": "convert it to float64",
    "longdouble": "convert it to float64",
    "M": "make it an astropy Time, or use a Parquet storage class",
    "m": "make it an astropy TimeDelta, or use a Parquet storage class",
    "S": "Table.convert_bytestring_to_unicode makes it text",
    "O": "columns of Python objects have no form in files: give all values one type",
    "c": "make it two columns, real and imaginary part",
    "V": "make each field a column",
}


def check_columns(columns: Iterable[Any], limits: Limits) -> None:
    """Refuse columns that the format would change.

    Parameters
    ----------
    columns : iterable of Column
        Plain ones, as they are written.
    limits : Limits
        What the format holds.

    Raises
    ------
    FormatterError
        With the column and what to do.
    """
    for column in columns:
        dtype = column.dtype
        if dtype.kind not in limits.kinds or dtype.name in limits.without:
            advice = _ADVICE.get(dtype.name) or _ADVICE.get(dtype.kind, "convert it")
            raise _refused(limits, column.name, f"of {dtype}", advice)
        if 0 in column.shape[1:]:
            raise _refused(limits, column.name, f"of arrays without elements, {column.shape[1:]}", "leave it out")
        if dtype.kind in "US" and limits.text != "any":
            _check_text(column.name, np.asarray(column), limits)


def check_names(names: Iterable[str], format_name: str) -> None:
    """Refuse column names that a FITS header cannot have, or not tell apart."""
    seen: dict[str, str] = {}
    for name in names:
        if not name.isascii() or len(name) > 60:
            raise FormatterError(
                f"{format_name} cannot have a column called {name[:80]!r}",
                hint="a name has at most 60 printable ASCII characters; Parquet, HDF5 and ECSV have others",
            )
        other = seen.setdefault(name.lower(), name)
        if other != name:
            raise FormatterError(
                f"{format_name} cannot tell the columns {other!r} and {name!r} apart",
                hint="names of FITS columns are the same in upper and lower case: rename one",
            )


def check_printable(names: Iterable[str], format_name: str) -> None:
    """Refuse column names with line breaks and the like, and with blanks at an end."""
    for name in names:
        if not name.isprintable() or name.strip() != name or not name:
            raise FormatterError(
                f"{format_name} cannot have a column called {name[:80]!r}",
                hint="a name is printable, without blanks at its ends",
            )


def has_inner_nul(column: Any) -> bool:
    """Whether text has a NUL before its end, where numpy and Arrow cut it differently."""
    return any(_inner_nul(codes) for codes in _codes(column))


def frame_index_matters(frame: Any) -> bool:
    """Whether the index of a pandas DataFrame says more than the number of a row."""
    index = frame.index
    return not (type(index).__name__ == "RangeIndex" and index.start == 0 and index.step == 1 and index.name is None)


def _refused(limits: Limits, name: str, what: str, advice: str) -> FormatterError:
    return FormatterError(f"{limits.format_name} cannot hold the column {name!r} {what}", hint=advice)


def _check_text(name: str, values: Any, limits: Limits) -> None:
    if values.ndim > 1 and not len(values):
        raise _refused(limits, name, "of arrays of text without rows", "leave it out, or use Parquet or HDF5")
    for codes in _codes(values):
        bad = _not_printable(codes) if limits.text == "printable" else _not_trimmed(codes)
        if bad:
            other = "use a Parquet or HDF5 storage class, or change the text"
            raise _refused(limits, name, f"exactly: it has {bad}", other)


def _codes(values: Any) -> Iterable[Any]:
    """Give the characters of text as numbers, one row for each text, some thousand rows at once."""
    flat = np.asarray(values).reshape(-1)
    if not flat.dtype.itemsize:
        return
    unit, size = (np.uint32, 4) if flat.dtype.kind == "U" else (np.uint8, 1)
    for start in range(0, len(flat), _ROWS_AT_ONCE):
        part = flat[start : start + _ROWS_AT_ONCE]
        native = np.ascontiguousarray(part, dtype=part.dtype.newbyteorder("="))
        yield native.view(unit).reshape(len(part), part.dtype.itemsize // size)


def _last(codes: Any) -> Any:
    """Mark the last character of each text."""
    there = codes != 0
    after = np.zeros_like(there)
    after[:, :-1] = np.logical_or.accumulate(there[:, :0:-1], axis=1)[:, ::-1]
    return there & ~after


def _inner_nul(codes: Any) -> bool:
    there = codes != 0
    return bool((~there[:, :-1] & there[:, 1:]).any())


def _not_printable(codes: Any) -> str:
    if _inner_nul(codes) or bool(((codes < _BLANK) & (codes != 0) | (codes > 126)).any()):
        return "characters other than printable ASCII"
    return "blanks at the end" if bool((_last(codes) & (codes == _BLANK)).any()) else ""


def _not_trimmed(codes: Any) -> str:
    if _inner_nul(codes) or bool((codes == 13).any()):
        return "a carriage return or NUL"
    # What str.strip takes away; all of it is below U+3001.
    white = np.array([code for code in range(0x3001) if chr(code).isspace()], dtype=codes.dtype)
    ends = _last(codes)
    ends[:, 0] = codes[:, 0] != 0
    return "white space at an end" if bool((ends & np.isin(codes, white)).any()) else ""


def masked_exactly(table: Table, context: str | None, has_null: Callable[[Any], bool]) -> Table:
    """Return a view of a table whose missing elements a column beside theirs tells, if the format has no null.

    Parameters
    ----------
    table : Table
        Not changed.
    context : str
        Astropy's name of the format; None for one that it has no name for.
    has_null : callable
        Whether the format tells what is missing in this column by a value; may change the ``fill_value``.
    """
    from astropy.table import MaskedColumn

    view = table.copy(copy_data=False)
    for column in view.itercols():
        if isinstance(column, MaskedColumn):
            method = "data_mask" if np.any(column.mask) and not has_null(column) else "null_value"
            column.info.serialize_method = {**column.info.serialize_method, context: method}
    return view
