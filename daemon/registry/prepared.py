"""Statements that are compiled once, and run with other values each time."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import sqlalchemy as sa

from pantry.daemon.registry.traced import Traced

ROWS_AT_ONCE = 50
"""Rows of one execution in SQLite, which lets other threads in after each: this one is then late to go on."""

_SQLITE_PARAMETERS = 32_766
_PLAIN_INSERT = re.compile(r"(INSERT INTO .* VALUES )(\([?, ]+\))", re.DOTALL)


class Prepared:
    """A statement compiled once, with positional parameters.

    Parameters
    ----------
    statement : ClauseElement
        Built with SQLAlchemy; `parameter` makes the values that are given at execution.
    dialect : Dialect
        Of the database.

    Attributes
    ----------
    sql : str
        The text.
    names : tuple of str
        Of its parameters, in their order.
    traced : dict of str to Traced
        Those of its own constants that say where they come from.
    """

    __slots__ = ("_fixed", "_many", "names", "sql", "traced")

    def __init__(self, statement: sa.ClauseElement, dialect: sa.Dialect) -> None:
        compiled: Any = statement.compile(dialect=dialect, compile_kwargs={"render_postcompile": True})
        self.sql = str(compiled)
        self.names: tuple[str, ...] = tuple(compiled.positiontup or ())
        self.traced = {name: value for name, value in compiled.params.items() if isinstance(value, Traced)}
        self._fixed: dict[str, Any] = {**compiled.params, **{name: int(value) for name, value in self.traced.items()}}
        self._many: str | None = None

    def for_many_rows(self) -> str:
        """Give the text that inserts `ROWS_AT_ONCE` rows; empty if the statement is no plain insert of one."""
        if self._many is None:
            found = _PLAIN_INSERT.fullmatch(self.sql)
            fits = found is not None and len(self.names) * ROWS_AT_ONCE <= _SQLITE_PARAMETERS
            self._many = f"{found[1]}{', '.join([found[2]] * ROWS_AT_ONCE)}" if found is not None and fits else ""
        return self._many

    def bind(self, values: Mapping[str, Any]) -> tuple[Any, ...]:
        """Put ``values`` and the statement's own constants in the order of its placeholders."""
        fixed = self._fixed
        return tuple([values[name] if name in values else fixed[name] for name in self.names])


def parameter(name: str, kind: Any) -> sa.BindParameter[Any]:
    """Make a named value that is given at execution."""
    return sa.bindparam(name, None, type_=kind)
