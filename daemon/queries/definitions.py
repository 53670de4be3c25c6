"""Configured queries and selections, taken apart once at the start, and filled in for each who asks."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from pantry.backends.placeholders import Piece, joined, names_of, split_statement
from pantry.daemon.config.queries import QueryConfig, SelectionConfig, ServiceConfig
from pantry.errors import ConfigError, InvalidQueryError, NotFoundError
from pantry.model.queries import (
    Instant,
    Parameter,
    ParameterValue,
    Statement,
    check_name,
    checked_value,
)

_DAY_NS = 86_400_000_000_000


class Definition(NamedTuple):
    """A query, or a selection that is asked for as a whole.

    Attributes
    ----------
    name, service : str
        By which it is called, and of whom it is asked.
    text : str
        With all selections put in.
    parameters : dict
        Those of its text.
    ttl_s : float
        How long its answer is kept, in seconds; infinite for what is fixed.
    max_rows : int
        Most rows of its answer.
    doc : str
        For people.
    views : tuple of str
        Selections that must be views before it can be asked.
    """

    name: str
    service: str
    text: str
    parameters: dict[str, Parameter]
    ttl_s: float
    max_rows: int
    doc: str
    views: tuple[str, ...]


class Asked(NamedTuple):
    """A text with its selections put in.

    Attributes
    ----------
    text : str
        For the service.
    parameters : dict
        That its selections have.
    views : tuple of str
        Of the selections.
    """

    text: str
    parameters: dict[str, Parameter]
    views: tuple[str, ...]


class Definitions:
    """All queries and selections of the configuration.

    Raises
    ------
    ConfigError
        A text cannot be taken apart, or names what is not configured; the message says where.
    """

    def __init__(
        self,
        services: Mapping[str, ServiceConfig],
        queries: Mapping[str, QueryConfig],
        selections: Mapping[str, SelectionConfig],
    ) -> None:
        self.selections = selections
        self._pieces: dict[str, list[Piece]] = {}
        self._known: dict[str, Definition] = {}
        for name, one in selections.items():
            where = f"selections.{name}"
            self._pieces[name] = _pieces(where, one.text)
            if names_of(self._pieces[name], "selection"):
                raise ConfigError(f"{where}.text: a selection names no other")
            if not one.text.lstrip().upper().startswith(("SELECT", "WITH")):
                raise ConfigError(f"{where}.text: must begin with SELECT")
            self._add(where, name, one, services[one.service], max_rows=0)
        for name, query in queries.items():
            self._add(f"queries.{name}", name, query, services[query.service], max_rows=query.max_rows)

    def _add(
        self, where: str, name: str, one: QueryConfig | SelectionConfig, service: ServiceConfig, *, max_rows: int
    ) -> None:
        try:
            asked = self.with_selections(one.service, one.text)
            declared = _merged(one.parameters, asked.parameters)
            for parameter in declared:
                check_name(parameter, "parameter")
            used = set(names_of(split_statement(asked.text), "parameter"))
        except InvalidQueryError as exc:
            raise ConfigError(f"{where}.text: {exc.message}", hint=exc.hint) from None
        tables = {key for key, value in declared.items() if value.type == "table"}
        if used != declared.keys() - tables:
            wrong = sorted(used ^ (declared.keys() - tables))
            raise ConfigError(
                f"{where}.parameters: {', '.join(wrong)}: the text must name each, and each must be declared",
                hint="uploaded tables are not written with ':', but as the service's language wants them",
            )
        ttl_s = float("inf") if one.fixed else service.ttl_s if one.ttl_s is None else one.ttl_s
        rows = min(max_rows or service.max_rows, service.max_rows)
        self._known[name] = Definition(name, one.service, asked.text, declared, ttl_s, rows, one.doc, asked.views)

    def get(self, name: str) -> Definition:
        """Return what is called ``name``; `NotFoundError` if there is nothing."""
        found = self._known.get(name)
        if found is None:
            raise NotFoundError(
                f"no query is configured by the name {name[:80]!r}",
                hint="`pantry service queries` or `QueryService().queries()` shows what you may ask",
            )
        return found

    def all(self) -> list[Definition]:
        """Return all, by name."""
        return [self._known[name] for name in sorted(self._known)]

    def with_selections(self, service: str, text: str) -> Asked:
        """Put the selections that a text names in their places.

        ``@name`` becomes ``(...) AS name``, or the name of its view: either way its columns are ``name.column``.

        Raises
        ------
        InvalidQueryError
            One does not exist, or is of another service.
        """
        parts: list[Piece] = []
        parameters: dict[str, Parameter] = {}
        views: list[str] = []
        for piece in split_statement(text):
            if piece.kind != "selection":
                parts.append(piece)
                continue
            selection = self.selections.get(piece.text)
            if selection is None or selection.service != service:
                raise InvalidQueryError(f"the service {service!r} has no selection {piece.text[:80]!r}")
            if selection.view:
                views.append(piece.text)
                parts.append(Piece("text", piece.text))
                continue
            parameters = _merged(parameters, selection.parameters)
            parts += [Piece("text", "(\n"), *self._pieces[piece.text], Piece("text", f"\n) AS {piece.text}")]
        return Asked(joined(parts), parameters, tuple(dict.fromkeys(views)))


def filled(definition: Definition, given: Mapping[str, ParameterValue], tables: Mapping[str, int]) -> Statement:
    """Make the statement of a query with what is given for its parameters.

    Raises
    ------
    InvalidQueryError
        A parameter is missing, unknown, or of another type.
    """
    declared = definition.parameters
    unknown = (given.keys() | tables.keys()) - declared.keys()
    if unknown:
        known = ", ".join(f"{name} ({one.type})" for name, one in declared.items()) or "no parameters"
        raise InvalidQueryError(
            f"the query {definition.name!r} has no parameter {', '.join(sorted(unknown))[:80]!r}",
            hint=f"it has {known}",
        )
    values: dict[str, ParameterValue] = {}
    for name, one in declared.items():
        if one.type == "table":
            if name not in tables:
                raise InvalidQueryError(f"the query {definition.name!r} needs a table for {name!r}", hint=one.doc)
            continue
        value = given.get(name, one.default)
        if value is None:
            raise InvalidQueryError(
                f"the query {definition.name!r} needs a value for {name!r} ({one.type})", hint=one.doc
            )
        values[name] = written(checked_value(name, one, value), one.scale)
    return Statement(text=definition.text, parameters=values, max_rows=definition.max_rows, tables=dict(tables))


def written(value: ParameterValue, scale: str) -> ParameterValue:
    """Write a time as text in a scale; anything else stays."""
    if not isinstance(value, Instant):
        return value
    # Imported for the first such time only.
    from astropy.time import Time

    days, rest_ns = divmod(value.tai_ns, _DAY_NS)
    time = Time(days + 40_587, rest_ns / _DAY_NS, format="mjd", scale="tai", precision=9)
    text = str((time.utc if scale == "utc" else time).isot)
    whole, _, fraction = text.partition(".")
    fraction = fraction.rstrip("0")
    return f"{whole}.{fraction}" if fraction else whole


def _pieces(where: str, text: str) -> list[Piece]:
    try:
        return split_statement(text)
    except InvalidQueryError as exc:
        raise ConfigError(f"{where}.text: {exc.message}", hint=exc.hint) from None


def _merged(one: Mapping[str, Parameter], other: Mapping[str, Parameter]) -> dict[str, Parameter]:
    for name in one.keys() & other.keys():
        if one[name].type != other[name].type or one[name].scale != other[name].scale:
            raise InvalidQueryError(f"the parameter {name!r} is declared twice, with other types")
    return {**other, **one}
