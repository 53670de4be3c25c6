"""What the names in an expression mean in one query."""

from __future__ import annotations

from difflib import get_close_matches
from typing import Any, Literal

import msgspec
import sqlalchemy as sa

from pantry.daemon.registry.expressions.references import dimension_of
from pantry.daemon.registry.joins import RecordJoin
from pantry.daemon.registry.searched import FIELDS, Searched
from pantry.model.dimensions import DimensionElement
from pantry.model.interpretation import column_of

Kind = Literal["int", "float", "string", "bool", "hash", "instant", "uuid"]
_ENDS = {"begin": "timespan_begin", "end": "timespan_end"}


class Meaning(msgspec.Struct, frozen=True):
    """A column of the query and what kind of values it has."""

    column: sa.ColumnElement[Any]
    kind: Kind


class UnknownNameError(Exception):
    """A name means nothing here; ``hint`` says what there is."""

    def __init__(self, message: str, hint: str) -> None:
        super().__init__(message)
        self.hint = hint


_SHOWN_CHARACTERS = 80
"""Of a name in a message."""


class Names:
    """Gives names their columns, joining the record tables that have them.

    Parameters
    ----------
    join : RecordJoin
        The query's.

    Attributes
    ----------
    described : bool
        Whether a name meant declared metadata of the datasets.
    """

    def __init__(self, join: RecordJoin) -> None:
        self._join = join
        self.described = False
        universe, schema = join.schema.universe, join.schema
        members = set(join.group.names)
        self._elements: dict[str, DimensionElement] = {
            name: element
            for name, element in universe.elements.items()
            if name in members or (not element.is_dimension and set(schema.element_key(name)) <= members)
        }

    def resolve(self, text: str) -> Meaning:
        """Return what a name means, or raise `UnknownNameError`."""
        first, *rest = text.split(".")
        if len(rest) == 1 and (dimension := dimension_of(self._join.schema.universe, text)) != first:
            # As in Gen3, a visit's filter is the filter that the query is about.
            return self._bare(dimension) if dimension in self._join.group.names else self._implied(first, dimension)
        if not rest:
            return self._bare(text)
        if (first == "timespan" and len(rest) == 1) or (rest[0] == "timespan" and len(rest) == 2):
            return self._end(self.span(text.rpartition(".")[0]), rest[-1], text)
        if first not in self._elements:
            found = self._declared(first, rest) or self._field(self._searched(first), rest)
            if found is None:
                raise self._unknown(text)
            return found
        element = self._elements[first]
        if len(rest) == 2:
            raise self._unknown(text)
        return self._column(element, rest[0], text)

    def uuid(self, raw: bytes) -> Meaning:
        """Give the id of a dataset as the registry has it."""
        schema = self._join.schema
        return Meaning(sa.literal(schema.dataset_id(raw), schema.dataset_id_column.type), "uuid")

    def span(self, text: str) -> tuple[sa.ColumnElement[Any], sa.ColumnElement[Any]] | None:
        """Return the columns of the time span that a name means; None if it does not end in ``timespan``."""
        *first, last = text.split(".")
        if last != "timespan" or len(first) > 1:
            return None
        temporal = [element for element in self._elements.values() if element.temporal]
        searched = self._searched(first[0] if first else None)
        if (first and first[0] not in self._elements) or (not first and not temporal):
            if searched is None:
                raise self._unknown(text)
            return searched.span
        if first:
            element = self._elements[first[0]]
            if not element.temporal:
                raise self._unknown(text)
        else:
            element = self._only("timespan", temporal)
        table = self._join.element(element.name)
        return table.c[_ENDS["begin"]], table.c[_ENDS["end"]]

    def region(self, text: str) -> str | None:
        """Return the element whose region a name means; None if it does not end in ``region``."""
        *first, last = text.split(".")
        if last != "region" or len(first) > 1:
            return None
        universe = self._join.schema.universe
        having = [e for e in self._elements.values() if e.spatial or e.name in universe.skypix]
        if first:
            having = [element for element in having if element.name == first[0]]
        if not having:
            raise self._unknown(text)
        if len(having) > 1:
            choices = ", ".join(f"{element.name}.region" for element in having)
            raise UnknownNameError(f"{text!r} is ambiguous", f"write one of {choices}")
        return having[0].name

    def region_column(self, element: str) -> sa.ColumnElement[Any] | None:
        """Column with the encoded regions of an element; None for sky pixels."""
        return self._join.element(element).c.region if element in self._join.schema.elements else None

    def key(self, element: str) -> dict[str, sa.ColumnElement[Any]]:
        """Columns with the dimensions that identify a record of an element."""
        return {name: self._join.column(name) for name in self._join.schema.element_key(element)}

    def _bare(self, text: str) -> Meaning:
        if text in self._join.group.names:
            return Meaning(self._join.column(text), self._join.schema.universe[text].keys[0].type)
        having = [element for element in self._elements.values() if column_of(element, text) is not None]
        if not having:
            declared = self._join.declared
            if declared is not None and declared.bare:
                found = self._declared(declared.definition.name, [text])
                if found is not None:
                    return found
            field = self._field(self._searched(None), [text])
            if field is not None:
                return field
            raise self._unknown(text)
        return self._column(self._only(text, having), text, text)

    def _declared(self, dataset_type: str, rest: list[str]) -> Meaning | None:
        """Metadata that the results' dataset type declares; no element has its name."""
        declared = self._join.declared
        if declared is None or declared.definition.name != dataset_type or len(rest) != 1:
            return None
        kinds: dict[str, Kind] = {entry.name: entry.type for entry in declared.definition.metadata}
        if rest[0] not in kinds:
            return None
        self.described = True
        return Meaning(self._join.described(rest[0]), kinds[rest[0]])

    def _searched(self, dataset_type: str | None) -> Searched | None:
        """Return the datasets of a type, or the only ones for None."""
        found = [
            one
            for one in self._join.searched
            if (one.bare if dataset_type is None else one.dataset_type == dataset_type)
        ]
        return found[0] if len(found) == 1 else None

    def _field(self, searched: Searched | None, rest: list[str]) -> Meaning | None:
        if searched is None or len(rest) != 1 or rest[0] not in FIELDS:
            return None
        kind = FIELDS[rest[0]]
        if kind == "string":
            key = searched.run if rest[0] == "run" else searched.collection
            return Meaning(self._join.collection_name(key), kind)
        return Meaning(searched.dataset_id if kind == "uuid" else searched.ingest_date, kind)

    def _implied(self, first: str, dimension: str) -> Meaning:
        """Give a dimension that an element implies and the query has not: the visit of older visit_definitions."""
        if first not in self._elements:
            raise self._unknown(f"{first}.{dimension}")
        return Meaning(self._join.element(first).c[dimension], self._join.schema.universe[dimension].keys[0].type)

    def _column(self, element: DimensionElement, name: str, text: str) -> Meaning:
        column = column_of(element, name)
        if column is None:
            raise self._unknown(text)
        if element.is_dimension and name == element.keys[0].name:
            return Meaning(self._join.column(element.name), column.type)
        return Meaning(self._join.element(element.name).c[name], column.type)

    def _end(self, span: tuple[sa.ColumnElement[Any], ...] | None, which: str, text: str) -> Meaning:
        if which not in _ENDS or span is None:
            raise self._unknown(text)
        return Meaning(span[list(_ENDS).index(which)], "instant")

    def _only(self, name: str, having: list[DimensionElement]) -> DimensionElement:
        if not having:
            raise self._unknown(name)
        # What identifies the data is meant before what follows from it; an observation before the rest.
        required = [element for element in having if element.name in self._join.group.required] or having
        found = [element for element in required if element.temporal] or required
        if len(found) > 1:
            choices = ", ".join(f"{element.name}.{name}" for element in found)
            raise UnknownNameError(f"{name!r} is ambiguous", f"write one of {choices}")
        return found[0]

    def known(self) -> list[str]:
        """All names that can be written."""
        names = list(self._join.group.names)
        for element in self._elements.values():
            if element.name in self._join.schema.elements:
                names += [f"{element.name}.{column.name}" for column in (*element.keys, *element.metadata)]
            if element.temporal:
                names += [f"{element.name}.timespan{end}" for end in ("", ".begin", ".end")]
            if element.spatial:
                names.append(f"{element.name}.region")
        names += [f"{one.dataset_type}.{field}" for one in self._join.searched for field in (*FIELDS, "timespan")]
        return names + self._declared_names()

    def _declared_names(self) -> list[str]:
        declared = self._join.declared
        if declared is None:
            return []
        return [f"{declared.definition.name}.{entry.name}" for entry in declared.definition.metadata]

    def _unknown(self, text: str) -> UnknownNameError:
        text = text[:_SHOWN_CHARACTERS]
        declared = self._join.declared
        if declared is not None and text.partition(".")[0] == declared.definition.name:
            return UnknownNameError(
                f"the dataset type {declared.definition.name!r} declares no metadata {text.partition('.')[2]!r}",
                f"it declares {', '.join(self._declared_names()) or 'none'}; all have {', '.join(FIELDS)}, timespan",
            )
        known = self.known()
        bare = {name.rsplit(".", 1)[-1]: name for name in reversed(known)}
        close = get_close_matches(text, [*known, *bare], n=4)
        close = list(dict.fromkeys(bare.get(name, name) if name not in known else name for name in close))
        if close:
            hint = f"did you mean {' or '.join(close)}?"
        else:
            hint = f"dimensions here: {', '.join(self._join.group.names)}; columns are written element.column"
            if names := self._declared_names():
                hint += f"; metadata: {', '.join(names)}"
        elsewhere = (
            text.split(".")[0] in self._join.schema.universe.elements and text.split(".")[0] not in self._elements
        )
        return UnknownNameError(
            f"{text!r} is not among the dimensions of this query" if elsewhere else f"unknown name {text!r}", hint
        )
