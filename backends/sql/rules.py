"""Which objects are tables: rules that a key matches, and the values that its parts give to columns.

A rule is written ``{run}/src/{visit:int}/src_*_{detector:int}.* -> src``: what the object's key is like, and the table
for its rows. ``{name}`` stands for one part of a path or a piece of one, and is the value of that column; ``{run}`` may
be several parts; ``*`` is anything in one part; ``:int`` says that the column is of integers.
"""

from __future__ import annotations

import re
from typing import NamedTuple
from urllib.parse import unquote

from pantry.errors import ConfigError

MAX_NAME_BYTES = 63
"""Longest name of a table or column in PostgreSQL."""

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,62}\Z")
_PIECE = re.compile(r"\{(?P<name>[A-Za-z_][A-Za-z0-9_]*)(?P<int>:int)?\}|(?P<star>\*)|(?P<text>[^{}*]+)")
RESERVED = "pantry_"
"""Names that begin so are ours."""


class Rule(NamedTuple):
    """One rule.

    Attributes
    ----------
    pattern : re.Pattern
        A key's, with a group for each column.
    table : str
        For the rows.
    columns : dict
        Each column that a key gives, and whether it is of integers.
    """

    pattern: re.Pattern[str]
    table: str
    columns: dict[str, bool]

    def values(self, key: str) -> dict[str, str | int] | None:
        """Return the values that a key gives, or None if the rule is not for it."""
        match = self.pattern.fullmatch(key)
        if match is None:
            return None
        # Names quote their values: docs/decisions/0008-names.md.
        return {name: int(match[name]) if whole else unquote(match[name]) for name, whole in self.columns.items()}


def parse_rules(text: str) -> list[Rule]:
    """Read rules, one a line.

    Raises
    ------
    ConfigError
        One of them cannot be understood.
    """
    return [_rule(line.strip()) for line in text.splitlines() if line.strip()]


def _rule(line: str) -> Rule:
    path, arrow, table = (part.strip() for part in line.rpartition("->"))
    problem = f"sql: tables: {line[:100]!r}: "
    if not arrow or not path or not _NAME.match(table) or table.lower().startswith(RESERVED):
        raise ConfigError(problem + "is no rule such as '{run}/src/src_{visit:int}.* -> src'")
    columns: dict[str, bool] = {}
    pattern, position = "", 0
    while position < len(path):
        piece = _PIECE.match(path, position)
        if piece is None:
            raise ConfigError(problem + f"cannot be understood from {path[position : position + 20]!r} on")
        position = piece.end()
        if (name := piece["name"]) is None:
            pattern += "[^/]*" if piece["star"] else re.escape(piece["text"])
            continue
        if name in columns or not _NAME.match(name) or name.lower().startswith(RESERVED):
            raise ConfigError(problem + f"{{{name}}} stands twice, or is too long or reserved")
        columns[name] = piece["int"] is not None
        # At most 18 digits: they fit into 64 bits.
        body = r"-?[0-9]{1,18}" if columns[name] else r".+" if name == "run" else r"[^/]+"
        pattern += f"(?P<{name}>{body})"
    return Rule(re.compile(pattern, re.DOTALL), table, columns)
