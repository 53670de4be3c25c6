"""Proofs that no two datasets share a stored path, whatever their data ids and runs (DMS-MWBT-REQ-0066, 0078).

A path is told apart part by part, where a part stands between slashes. Within a dataset type all paths have the same
parts but for those of the run's name, so that these lie alike in two equal paths. Between two types each number of
parts is tried at which something of the two still meets. What a field takes is compared as automata
(`pantry.model.path_automata`); a field that occurs again counts as known once it was told from the slashes.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from typing import NamedTuple

from pantry.model.data_id import DataIdValue
from pantry.model.naming import unquote_last, unquote_value
from pantry.model.path_automata import Automaton, Common, Either, Piece, RunPart, Suffix, Text, Whole, common_text
from pantry.model.templates import ABSENT, DATASET_TYPE, RUN, Field, PathTemplate, Segment, written_type, written_value


class Layout(NamedTuple):
    """How the paths of one dataset type look.

    Attributes
    ----------
    dataset_type : str
        Its name.
    segments : tuple
        As of `PathTemplate`, with the type's name in place of its field.
    required : tuple of str
        Dimensions that identify a dataset.
    integers : frozenset of str
        Those of all dimensions whose values are integers.
    is_default : bool
        Whether it is the default path, in which values in the file's name may keep their dots.
    """

    dataset_type: str
    segments: tuple[Segment, ...]
    required: tuple[str, ...]
    integers: frozenset[str]
    is_default: bool


def template_layout(
    template: PathTemplate, dataset_type: str, required: Sequence[str], integers: Collection[str]
) -> Layout:
    """Give the layout of a type with a template."""
    segments: list[Segment] = []
    for number, segment in enumerate(template.segments):
        name = written_type(dataset_type, dots=number < len(template.segments) - 1)
        segments.append(_joined(tuple(name if one == Field(DATASET_TYPE) else one for one in segment)))
    return Layout(dataset_type, tuple(segments), tuple(required), frozenset(integers), is_default=False)


def default_layout(dataset_type: str, ordered: Sequence[str], integers: Collection[str]) -> Layout:
    """Give the layout of a type without a template; ``ordered`` are its required dimensions in order of directories."""
    file: list[str | Field] = [dataset_type]
    for name in ordered:
        file += ["_", Field(name)]
    above: list[Segment] = [(Field(RUN),), (dataset_type,), *((Field(name),) for name in ordered[:-1])]
    return Layout(dataset_type, (*above, _joined(tuple(file))), tuple(ordered), frozenset(integers), is_default=True)


def _joined(segment: Segment) -> Segment:
    """Put neighbouring literal texts together."""
    made: list[str | Field] = []
    for one in segment:
        if isinstance(one, str) and made and isinstance(made[-1], str):
            made[-1] += one
        else:
            made.append(one)
    return tuple(made)


# -- within a dataset type -------------------------------------------------------------------------


def ambiguity_within(layout: Layout) -> str:
    """Say how two datasets of one type could share a path, in words for an error; empty if none can."""
    named = {one.name for segment in layout.segments for one in segment if isinstance(one, Field)}
    for name in layout.required:
        if name not in named:
            return f"it has no {{{name}}}, so that datasets of different {name} would have one path"
    # All equal parts that are read in one way only make more known, which others need.
    known = {RUN}
    found: Common | None = None
    unsure: Segment = ()
    while unknown := [name for name in layout.required if name not in known]:
        told = []
        for place, number, name in _occurrences(layout, unknown):
            segment = layout.segments[place]
            low, high = _between_known(segment, known)
            pieces = [_piece(layout, one, last=place == len(layout.segments) - 1) for one in segment[low:high]]
            automaton = Automaton(pieces)
            common = common_text(automaton, automaton, differing=number - low)
            if common is None:
                told.append(name)
            elif found is None:
                found, unsure = common, segment[low:high]
        if not told:
            assert found is not None  # noqa: S101 - what is unknown occurs, and was not told
            return _two_readings(found, unsure)
        known.update(told)
        found = None
    return ""


def _occurrences(layout: Layout, names: Collection[str]) -> Iterator[tuple[int, int, str]]:
    """Give where fields occur: in which part, and where in it."""
    for place, segment in enumerate(layout.segments):
        for number, one in enumerate(segment):
            if isinstance(one, Field) and one.name in names:
                yield place, number, one.name


def _between_known(segment: Segment, known: Collection[str]) -> tuple[int, int]:
    """Leave out what is known at both ends: it takes the same characters in two equal parts."""

    def is_known(one: str | Field) -> bool:
        return isinstance(one, str) or one.name in known

    low, high = 0, len(segment)
    while low < high and is_known(segment[low]):
        low += 1
    while high > low and is_known(segment[high - 1]):
        high -= 1
    return low, high


def _two_readings(common: Common, segment: Segment) -> str:
    readings: list[dict[str, str]] = [{}, {}]
    for which, reading in enumerate(readings):
        for number, one in enumerate(segment):
            if isinstance(one, Field):
                value = _value(common.part(which, number))
                if reading.setdefault(one.name, value) != value:
                    # No dataset, but what it would take to prove that is not worth its code.
                    return f"where {{{one.name}}} begins and ends in {_text_of(segment)!r} cannot always be told"
    said = [", ".join(f"{name} {value}" for name, value in reading.items()) for reading in readings]
    return f"{common.text!r} can be {said[0]}, and also {said[1]}"


def _text_of(segment: Segment) -> str:
    return "".join(one if isinstance(one, str) else f"{{{one.name}}}" for one in segment)


def _value(written: str) -> str:
    text = unquote_last(written)
    if text is not None and text.lstrip("-").isdigit():
        return str(int(text))
    return repr(text if text is not None else written)


# -- between two dataset types ---------------------------------------------------------------------


def ambiguity_between(one: Layout, other: Layout) -> str:
    """Say which path datasets of two types could share, in words for an error; empty if there is none."""
    # Quick, and enough for nearly all: what the files' names begin with.
    heads = [layout.segments[-1][0] for layout in (one, other)]
    if isinstance(heads[0], str) and isinstance(heads[1], str):
        shorter = min(len(heads[0]), len(heads[1]))
        if heads[0][:shorter] != heads[1][:shorter]:
            return ""
    sides = [_Side(one), _Side(other)]
    first = max(len(side.before) + len(side.after) + 1 for side in sides)
    # With more parts than that, only those of the runs' names are more.
    last = max(len(side.before) for side in sides) + max(len(side.after) for side in sides) + 1
    for count in range(first, max(first, last) + 1):
        path = _Meeting(sides, count).path()
        if path is not None:
            return f"a {one.dataset_type} and a {other.dataset_type} could both be {path!r}"
    return ""


class _Side:
    """One of the two types: what stands before the run, and what after it."""

    def __init__(self, layout: Layout) -> None:
        self.layout = layout
        run = layout.segments.index((Field(RUN),))
        self.before, self.after = layout.segments[:run], layout.segments[run + 1 :]

    def parts(self, count: int) -> list[Segment]:
        run = count - len(self.before) - len(self.after)
        return [*self.before, *[(Field(RUN),)] * run, *self.after]


class _Meeting:
    """Two types' paths of one number of parts, which would have to be equal.

    Parameters
    ----------
    sides : sequence of _Side
        The two.
    count : int
        Of parts.
    """

    def __init__(self, sides: Sequence[_Side], count: int) -> None:
        self._layouts = [side.layout for side in sides]
        self._parts = [side.parts(count) for side in sides]
        self._known: list[dict[str, DataIdValue]] = [{}, {}]

    def path(self) -> str | None:
        """Return a path that both may have, None if there can be none."""
        if not self._bind():
            return None
        common = [self._common(number) for number in range(len(self._parts[0]))]
        if any(one is None for one in common):
            return None
        return "/".join(one.text for one in common if one is not None)

    def _bind(self) -> bool:
        """Find values that only one text can have; False if that cannot be.

        A whole part that is a field on one side and a fixed text on the other gives the field's value, which
        counts wherever the field occurs again.
        """
        todo = True
        while todo:
            todo = False
            for mine in (0, 1):
                for segment, opposite in zip(self._parts[mine][:-1], self._parts[1 - mine][:-1], strict=True):
                    fixed = self._fixed(1 - mine, opposite)
                    field = segment[0]
                    if fixed is None or len(segment) > 1 or not isinstance(field, Field) or field.name == RUN:
                        continue
                    if field.name in self._known[mine] or field.name not in self._layouts[mine].required:
                        continue
                    value = self._parsed(mine, field, fixed)
                    if value is None:
                        return False
                    self._known[mine][field.name] = value
                    todo = True
        return True

    def _parsed(self, side: int, field: Field, text: str) -> DataIdValue | None:
        value: DataIdValue | None = unquote_value(text)
        if value is not None and field.name in self._layouts[side].integers:
            value = int(value) if str(value).lstrip("-").isdecimal() else None
        return value if value is not None and written_value(value, field.width, dots=True) == text else None

    def _fixed(self, side: int, segment: Segment) -> str | None:
        pieces = self._pieces(side, segment, last=False)
        return "".join(pieces) if all(isinstance(one, str) for one in pieces) else None  # type: ignore[arg-type]

    def _pieces(self, side: int, segment: Segment, *, last: bool) -> list[Piece]:
        layout, known = self._layouts[side], self._known[side]
        return [
            written_value(known[one.name], one.width, dots=not last or layout.is_default)
            if isinstance(one, Field) and one.name in known
            else _piece(layout, one, last=last)
            for one in segment
        ]

    def _common(self, number: int) -> Common | None:
        last = number == len(self._parts[0]) - 1
        automata = []
        for side in (0, 1):
            pieces = self._pieces(side, self._parts[side][number], last=last)
            automata.append(Automaton([*pieces, Suffix()] if last else pieces))
        return common_text(*automata)


def _piece(layout: Layout, one: str | Field, *, last: bool) -> Piece:
    if isinstance(one, str):
        return one
    if one.name == RUN:
        return RunPart()
    field = Whole(one.width) if one.name in layout.integers else Text(dots=not last or layout.is_default)
    return field if one.name in layout.required else Either(field, ABSENT)
