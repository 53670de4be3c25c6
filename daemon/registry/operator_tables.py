"""Tables that an operator keeps beside the registry, as elements of its universe.

See docs/decisions/0025-operator-tables.md.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import msgspec
import sqlalchemy as sa
from sqlalchemy.exc import SQLAlchemyError

from pantry.daemon.registry.engine import Database
from pantry.errors import ConfigError
from pantry.model.dimensions import DimensionUniverse

log = logging.getLogger(__name__)

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*\Z")
_KINDS: tuple[tuple[type[sa.types.TypeEngine[Any]], str], ...] = (
    (sa.Boolean, "bool"),
    (sa.Integer, "int"),
    (sa.Float, "float"),
    (sa.Numeric, "float"),
    (sa.String, "string"),
)


class OperatorTable(msgspec.Struct, frozen=True, kw_only=True):
    """A table or view in the registry's database that is no part of the registry.

    Attributes
    ----------
    name : str
        By which expressions call it.
    table : str
        Its name in the database, with its schema before a dot if it has one.
    key : dict of str to str
        Which of its columns is which dimension.
    fixed : dict of str to int or str
        Values of dimensions that are the same for all of its rows.
    """

    name: str
    table: str
    key: dict[str, str]
    fixed: dict[str, int | str] = {}


class KnownTables(NamedTuple):
    """Operator's tables as a registry can use them.

    Attributes
    ----------
    universe : DimensionUniverse
        The registry's with an element for each of them.
    sources : dict of str to FromClause
        By name, with columns called as the dimensions and fields.
    several : frozenset of str
        Those that may have several rows for one data id.
    """

    universe: DimensionUniverse
    sources: dict[str, sa.FromClause]
    several: frozenset[str]


def read_tables(database: Database, universe: DimensionUniverse, tables: Sequence[OperatorTable]) -> KnownTables:
    """Look at the operator's tables in the database.

    One that is not as configured is left out, and the log says why: the repository can be read without it.
    """
    bodies: dict[str, Any] = {}
    sources: dict[str, sa.FromClause] = {}
    several: set[str] = set()
    inspector = sa.inspect(database.engine) if tables else None
    for table in tables:
        try:
            if table.name in bodies:
                raise ConfigError(f"two tables are called {table.name!r}")
            _check(universe, table)
            found = _columns(inspector, table)
            bodies[table.name], sources[table.name] = _describe(universe, table, found)
            if not _is_unique(inspector, table):
                several.add(table.name)
        except (ConfigError, SQLAlchemyError) as exc:
            said = exc.message if isinstance(exc, ConfigError) else type(exc).__name__
            log.error("tables: %s (%s) in %s is left out: %s", table.name, table.table, database.shown_url, said)
            bodies.pop(table.name, None)
            sources.pop(table.name, None)
    if not bodies:
        return KnownTables(universe, {}, frozenset())
    config = {**universe.config, "elements": {**universe.config["elements"], **bodies}}
    return KnownTables(DimensionUniverse(config, source="dimensions and tables"), sources, frozenset(several))


def _split(table: OperatorTable) -> tuple[str | None, str]:
    schema, dot, name = table.table.rpartition(".")
    return (schema if dot else None), name


def _check(universe: DimensionUniverse, table: OperatorTable) -> None:
    if not _NAME.match(table.name) or table.name in universe.elements or table.name == "timespan":
        raise ConfigError(f"{table.name!r} cannot be its name: a new word of letters, digits and _ is needed")
    given = {*table.key, *table.fixed}
    strange = [name for name in given if name not in universe.elements or not universe[name].is_dimension]
    if strange:
        raise ConfigError(f"there are no dimensions {', '.join(sorted(strange))}")
    if not table.key or set(table.key) & set(table.fixed):
        raise ConfigError("its key names one column at least, and no dimension that has a fixed value")
    lacking = {other for name in given for other in universe.required(name)} - given
    if lacking:
        raise ConfigError(f"its key lacks {', '.join(sorted(lacking))}; one value for all goes into 'fixed'")


def _columns(inspector: Any, table: OperatorTable) -> dict[str, sa.types.TypeEngine[Any]]:
    schema, name = _split(table)
    found = {str(column["name"]): column["type"] for column in inspector.get_columns(name, schema=schema)}
    lacking = [column for column in table.key.values() if column not in found]
    if lacking:
        raise ConfigError(f"it has no column {', '.join(lacking)}; it has {', '.join(found)}")
    return found


def _is_unique(inspector: Any, table: OperatorTable) -> bool:
    """Whether the database sees to it that a data id has one row; of views it does not say."""
    schema, name = _split(table)
    keys = [inspector.get_pk_constraint(name, schema=schema).get("constrained_columns") or []]
    keys += [one["column_names"] for one in inspector.get_unique_constraints(name, schema=schema)]
    keys += [one["column_names"] for one in inspector.get_indexes(name, schema=schema) if one.get("unique")]
    return any(key and set(key) <= set(table.key.values()) for key in keys)


def _describe(
    universe: DimensionUniverse, table: OperatorTable, found: Mapping[str, sa.types.TypeEngine[Any]]
) -> tuple[dict[str, Any], sa.FromClause]:
    schema, name = _split(table)
    columns = {column: sa.Column(column, kind) for column, kind in found.items()}
    source = sa.Table(name, sa.MetaData(), *columns.values(), schema=schema)
    chosen: list[sa.ColumnElement[Any]] = [source.c[column].label(key) for key, column in table.key.items()]
    chosen += [sa.literal(value).label(key) for key, value in table.fixed.items()]
    metadata = []
    for column, kind in found.items():
        word = next((word for sql, word in _KINDS if isinstance(kind, sql)), None)
        if column in table.key.values() or word is None or not _NAME.match(column) or column in universe.elements:
            continue
        metadata.append({"name": column, "type": word, "nullable": True})
        value: sa.ColumnElement[Any] = source.c[column]
        chosen.append((sa.cast(value, sa.Double) if word == "float" else value).label(column))
    body = {"doc": f"Operator's table {table.table}.", "requires": [*table.key, *table.fixed], "metadata": metadata}
    return body, sa.select(*chosen).subquery(table.name)
