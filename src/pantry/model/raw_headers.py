"""What a configuration says of the headers of raws: which corrections hold, what is merged from where (0050)."""

from __future__ import annotations

import re
from typing import Literal

import msgspec

from pantry.errors import ConfigError

MAX_MERGES = 50
MAX_VALUES = 200
_WRITTEN = re.compile(r"\s*(?P<column>[^\[\]]*[^\[\]\s])\s*(\[(?P<unit>[^\[\]]*)\])?\s*\Z")


class Merge(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True):
    """Values of headers from a source beside the files: ``table``, ``record`` or ``topic``.

    Attributes
    ----------
    values : dict of str to str
        For keywords of the header the column that they come from, and the unit that they have there:
        ``{"AIRTEMP": "temperature [deg_C]"}``.
    table : str
        The dataset type of a table with times. Its dataset is found by what its dimensions and the raw have in common.
    collections : tuple of str
        Where tables are searched.
    record : str
        The dimension element of a record, as ``exposure``.
    topic : str
        The topic of an engineering facility database, as ``lsst.sal.ESS.temperature``; its fields are the columns.
    service : str
        Which of them; empty for the usual one.
    index : int or None
        Only samples with this ``salIndex``.
    time : str
        The table's column of times.
    time_format : str
        Of numbers in it: ``unix`` (seconds), ``unix_ns``, ``mjd``; text and times of the format itself need none.
    time_scale : str
        ``utc`` or ``tai``, of times that do not say it themselves.
    method : str
        ``linear`` between the two samples around the instant, ``previous``, or ``nearest``.
    at : str
        ``begin``, ``middle`` or ``end`` of the exposure.
    within_s : float
        Samples further away, in seconds, tell nothing.
    replace : bool
        Also where the header has a value.
    required : bool
        That there is no table, or no sample, or that a topic cannot be asked for, is an error.
    """

    values: dict[str, str]
    table: str = ""
    collections: tuple[str, ...] = ()
    record: str = ""
    topic: str = ""
    service: str = ""
    index: int | None = None
    time: str = "time"
    time_format: Literal["", "unix", "unix_ns", "mjd"] = ""
    time_scale: Literal["utc", "tai"] = "utc"
    method: Literal["linear", "previous", "nearest"] = "linear"
    at: Literal["begin", "middle", "end"] = "middle"
    within_s: float = 600.0
    replace: bool = False
    required: bool = False

    def check(self, place: str) -> None:
        """Raise `ConfigError` if it cannot be followed."""
        if sum(bool(one) for one in (self.table, self.record, self.topic)) != 1:
            raise ConfigError(f"{place}: give one of table, record and topic")
        if (self.service or self.index is not None) and not self.topic:
            raise ConfigError(f"{place}: service and index are of a topic")
        if self.table and not self.collections:
            raise ConfigError(f"{place}: in which collections is {self.table} searched?", hint="give collections")
        if not self.values or len(self.values) > MAX_VALUES:
            raise ConfigError(f"{place}.values: 1 to {MAX_VALUES} keywords and columns")
        if not self.within_s > 0:
            raise ConfigError(f"{place}.within_s: must be positive")
        for keyword, written in self.values.items():
            check_keyword(keyword, f"{place}.values")
            if not _WRITTEN.match(written):
                raise ConfigError(f"{place}.values.{keyword}: write 'column' or 'column [unit]', not {written!r}")

    def columns(self) -> dict[str, tuple[str, str]]:
        """Return by keyword the column, and the unit in the header; empty for the column's own."""
        found = {}
        for keyword, written in self.values.items():
            match = _WRITTEN.match(written)
            found[keyword] = (match["column"].strip(), match["unit"] or "") if match else (written, "")
        return found


class HeaderRules(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True):
    """What holds for the headers of a dataset type.

    Attributes
    ----------
    corrections : tuple of str
        Collections with corrections, or patterns; the first has the last word. ``{instrument}`` stands for its name.
        Empty for the usual ones, `USUAL_CORRECTIONS`.
    merge : tuple of Merge
        Values from beside the files, each over those before it.
    """

    corrections: tuple[str, ...] = ()
    merge: tuple[Merge, ...] = ()

    def check(self, place: str) -> None:
        """Raise `ConfigError` with the place that is wrong."""
        if len(self.merge) > MAX_MERGES:
            raise ConfigError(f"{place}.merge: more than {MAX_MERGES}")
        for number, one in enumerate(self.merge):
            one.check(f"{place}.merge[{number}]")


USUAL_CORRECTIONS = ("{instrument}/corrections/*",)
USUAL_RULES = HeaderRules()
"""What holds if nothing is said."""

# Of the file's structure: another value could only break it.
_STRUCTURE = re.compile(
    r"SIMPLE|XTENSION|EXTEND|BITPIX|NAXIS\d*|[PG]COUNT|GROUPS|TFIELDS|END|CONTINUE|Z(IMAGE|TILE\d+|CMPTYPE|NAXIS\d*|BITPIX)"
    r"|T(TYPE|FORM|DIM|ZERO|SCAL)\d+|BSCALE|BZERO|CHECKSUM|DATASUM|COMMENT|HISTORY|"
)
# What FITS allows in a keyword, HIERARCH keywords with blanks included.
_KEYWORD = re.compile(r"[A-Z0-9_.-]+( [A-Z0-9_.-]+)*")
_MAX_KEYWORD = 60


def check_keyword(keyword: str, place: str) -> None:
    """Refuse a keyword whose value must not be changed, or that is none."""
    if _STRUCTURE.fullmatch(keyword):
        raise ConfigError(f"{place}: {keyword!r} is of the file's structure and cannot be corrected")
    if not _KEYWORD.fullmatch(keyword) or len(keyword) > _MAX_KEYWORD:
        raise ConfigError(f"{place}: {keyword[:80]!r} cannot be a keyword", hint="capitals, digits, _")
