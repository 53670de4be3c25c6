"""Regions of the sky in expressions: columns of records, constants, bind values; and whether two overlap."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from pantry.daemon.registry.expressions import nodes
from pantry.daemon.registry.expressions.names import Names, UnknownNameError
from pantry.daemon.registry.expressions.parser import invalid
from pantry.daemon.registry.sky import regions
from pantry.errors import InvalidQueryError
from pantry.wire.operations.registry import EncodedRegion

if TYPE_CHECKING:
    from lsst.sphgeom import Region

    from pantry.daemon.registry.sky import SkyMatches

    Place = str | Region | None

BindValues = Mapping[str, Any]


class Places:
    """Understands the operands of OVERLAPS that are regions.

    Parameters
    ----------
    names : Names
        What names mean.
    text : str
        The expression, for messages.
    bind : Mapping
        Values beside it; a region as `EncodedRegion`.
    sky : SkyMatches
        Answers which regions overlap.
    """

    def __init__(self, names: Names, text: str, bind: BindValues, sky: SkyMatches) -> None:
        self._names = names
        self._text = text
        self._bind = bind
        self._sky = sky

    def of(self, operand: nodes.Operand) -> Place:
        """Return the element whose region an operand is, or the region itself; None if it is something else."""
        if isinstance(operand, nodes.Shape):
            return self._shape(operand)
        if not isinstance(operand, nodes.Name | nodes.Bind):
            return None
        given = self._bind.get(operand.text)
        if isinstance(given, EncodedRegion):
            try:
                return regions.decode_region(given.encoded)
            except ValueError as exc:
                raise self._invalid(operand.at, f"{operand.text}: {exc}") from None
        if isinstance(operand, nodes.Bind) or operand.text in self._bind:
            return None
        try:
            return self._names.region(operand.text)
        except UnknownNameError as exc:
            raise self._invalid(operand.at, str(exc), exc.hint) from None

    def stored(self, operand: nodes.Operand) -> sa.ColumnElement[Any] | None:
        """Return the column of a stored region; None if the operand is something else."""
        place = self.of(operand) if isinstance(operand, nodes.Name) else None
        return self._names.region_column(place) if isinstance(place, str) else None

    def overlap(
        self, operands: tuple[nodes.Operand, nodes.Operand], places: tuple[Place, ...], at: int
    ) -> sa.ColumnElement[bool]:
        """Make the condition that two places overlap."""
        for operand, place in zip(operands, places, strict=True):
            if place is None:
                raise self._invalid(operand.at, "a region can only overlap another region")
        one, other = places
        if isinstance(one, str) and isinstance(other, str):
            return self._join(one, other, at)
        element, region = (one, other) if isinstance(one, str) else (other, one)
        if not isinstance(element, str) or region is None or isinstance(region, str):
            raise self._invalid(at, "two constant regions: one side must be an element's region")
        try:
            return self._sky.constraint(element, region, self._names.key(element))
        except ValueError as exc:
            raise self._invalid(at, str(exc)) from None

    def _join(self, one: str, other: str, at: int) -> sa.ColumnElement[bool]:
        if one == other:
            raise self._invalid(at, f"a {one} always overlaps itself")
        pairs = self._sky.pairs(one, other)
        columns = {**self._names.key(one), **self._names.key(other)}
        return sa.tuple_(*columns.values()).in_(sa.select(*[pairs.c[name] for name in columns]))

    def _shape(self, shape: nodes.Shape) -> Region:
        values = [self._constant(value) for value in shape.values]
        try:
            if shape.kind == "REGION":
                if not isinstance(values[0], str):
                    raise ValueError("REGION takes text such as 'CIRCLE 62.0 -37.0 0.5'")
                return regions.from_pos(values[0])
            if not all(isinstance(value, int | float) and not isinstance(value, bool) for value in values):
                raise ValueError(f"{shape.kind} takes numbers, in degrees")
            numbers = [float(value) for value in values]
            if shape.kind == "POLYGON":
                if len(numbers) % 2:
                    raise ValueError("POLYGON takes pairs of numbers: POLYGON(ra, dec, ra, dec, ra, dec)")
                return regions.polygon(list(zip(numbers[::2], numbers[1::2], strict=True)))
            if shape.kind == "POINT":
                return regions.point(*numbers)
            return regions.circle(*numbers) if shape.kind == "CIRCLE" else regions.box(*numbers)
        except (ValueError, OverflowError) as exc:
            raise self._invalid(shape.at, str(exc)) from None

    def _constant(self, operand: nodes.Operand) -> Any:
        match operand:
            case nodes.Constant(value):
                return value
            case nodes.Negative(nodes.Constant(value)) if isinstance(value, int | float):
                return -value
            case nodes.Bind(text) | nodes.Name(text) if text in self._bind:
                return self._bind[text]
        raise self._invalid(operand.at, "a region is made of numbers and bind values", "columns have no place in it")

    def _invalid(self, at: int, message: str, hint: str = "") -> InvalidQueryError:
        return invalid(self._text, at, message, hint)
