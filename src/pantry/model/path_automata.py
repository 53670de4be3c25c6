"""What one part of a stored path can be, as an automaton, and whether two of them have a text in common.

A part is what stands between two slashes. Its pieces are literal text and fields, and each field takes what
`pantry.model.templates` writes for a value: all of these texts and no others, or some more where that makes
the automaton simpler, so that "nothing in common" is always true.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import NamedTuple

from pantry.model.naming import SAFE

_DIGITS = "0123456789"
_MOST_DIGITS = 19  # of 2**63
# In the order in which examples prefer them.
_ALPHABET = "a1" + "".join(sorted(SAFE - {"1", "a"}, key=lambda char: (not char.isalnum(), char))) + "%"
_BIT = {char: 1 << number for number, char in enumerate(_ALPHABET)}


def _mask(chars: str) -> int:
    return sum(_BIT[char] for char in set(chars))


_ANY = _mask("".join(SAFE))
_NO_DOT = _ANY & ~_BIT["."]
_HEX = _mask("0123456789ABCDEF")
_WORD = _mask("".join(char for char in SAFE if char.isalnum()))


class Text(NamedTuple):
    """A field of text; without ``dots`` in a file's name."""

    dots: bool


class Whole(NamedTuple):
    """A field of an integer, filled with zeros up to ``width`` characters."""

    width: int


class RunPart(NamedTuple):
    """One part of a run's name."""


class Suffix(NamedTuple):
    """The suffix of any format, also none."""


class Either(NamedTuple):
    """A field, or a word in its place."""

    field: Text | Whole
    word: str


Piece = str | Text | Whole | RunPart | Suffix | Either


class Edge(NamedTuple):
    """A step: which characters, whereto, and of which piece."""

    chars: int
    target: int
    piece: int


class Automaton:
    """Takes the texts that one part of a path can be; begins in state 0.

    Parameters
    ----------
    pieces : sequence of Piece
        Of the part, in order.

    Attributes
    ----------
    steps : list of list of Edge
        From each state.
    accepts : list of bool
        For each state, whether a text may end there.
    """

    def __init__(self, pieces: Sequence[Piece]) -> None:
        self._steps: list[list[Edge]] = [[]]
        self._skips: list[list[int]] = [[]]
        self._piece = 0
        here = 0
        for number, piece in enumerate(pieces):
            self._piece = number
            here = self._add(piece, here)
        reached = [self._reached(state) for state in range(len(self._steps))]
        self.steps = [[edge for one in states for edge in self._steps[one]] for states in reached]
        self.accepts = [here in states for states in reached]

    def _reached(self, state: int) -> list[int]:
        found = [state]
        for one in found:
            found += [other for other in self._skips[one] if other not in found]
        return found

    def _new(self) -> int:
        self._steps.append([])
        self._skips.append([])
        return len(self._steps) - 1

    def _step(self, source: int, chars: int, target: int | None = None) -> int:
        target = self._new() if target is None else target
        self._steps[source].append(Edge(chars, target, self._piece))
        return target

    def _add(self, piece: Piece, here: int) -> int:
        if isinstance(piece, str):
            for char in piece:
                here = self._step(here, _BIT[char])
            return here
        end = self._new()
        if isinstance(piece, Either):
            self._skips[self._add(piece.word, here)].append(end)
            self._skips[self._add(piece.field, here)].append(end)
        elif isinstance(piece, Whole):
            self._add_whole(here, end, max(1, piece.width))
        elif isinstance(piece, Text):
            self._add_text(here, end, _ANY if piece.dots else _NO_DOT)
        elif isinstance(piece, RunPart):
            self._step(here, _NO_DOT, end)
            self._step(end, _ANY, end)
        else:
            self._skips[here].append(end)
            dot = self._step(here, _BIT["."])
            self._step(self._step(here, _BIT["%"]), _BIT["."], dot)  # see `quote_last`
            self._step(dot, _WORD, end)
            self._step(end, _WORD, end)
            self._step(end, _BIT["."], dot)
        return end

    def _add_text(self, here: int, end: int, chars: int) -> None:
        # As `quote_value` writes it: the empty text is "%", no dot comes first.
        inside = self._new()
        self._step(here, _NO_DOT, inside)
        self._step(inside, chars, inside)
        for state in (here, inside):
            first = self._step(state, _BIT["%"])
            self._step(self._step(first, _HEX), _HEX, inside)
        self._step(here, _BIT["%"], end)
        self._skips[inside].append(end)

    def _add_whole(self, here: int, end: int, width: int) -> None:
        """Either exactly so many digits, or more of which the first is no zero; the minus sign counts."""
        minus = self._new()
        for start, fewest in ((here, width), (minus, max(1, width - 1))):
            state = start
            for _ in range(fewest):
                state = self._step(state, _mask(_DIGITS))
            self._skips[state].append(end)
            state = self._step(start, _mask(_DIGITS[1:]))
            for count in range(1, _MOST_DIGITS):
                if count > fewest:
                    self._skips[state].append(end)
                state = self._step(state, _mask(_DIGITS))
            self._skips[state].append(end)
        self._step(here, _BIT["-"], minus)


class Common(NamedTuple):
    """A text that two automata take.

    Attributes
    ----------
    text : str
        A shortest one.
    pieces : tuple of tuple of int
        For each of the two, of which piece each character is.
    """

    text: str
    pieces: tuple[tuple[int, ...], tuple[int, ...]]

    def part(self, which: int, piece: int) -> str:
        """Return what a piece of one of the two takes."""
        return "".join(char for char, one in zip(self.text, self.pieces[which], strict=True) if one == piece)


class _State(NamedTuple):
    """Where both are, and whether the piece in question took different characters."""

    one: int
    other: int
    differs: bool


class _Step(NamedTuple):
    """How a state was reached: from where, by which character, of which pieces."""

    source: _State
    char: str
    pieces: tuple[int, int]


def common_text(one: Automaton, other: Automaton, *, differing: int | None = None) -> Common | None:
    """Find a shortest text that two automata take, None if there is none.

    Parameters
    ----------
    one, other : Automaton
        Of one part of a path each.
    differing : int, optional
        Only where this piece takes different characters of the text in the two.
    """
    start = _State(0, 0, differing is None)
    came: dict[_State, _Step | None] = {start: None}
    todo = deque([start])
    while todo:
        state = todo.popleft()
        if state.differs and one.accepts[state.one] and other.accepts[state.other]:
            return _read_back(state, came)
        for mine in one.steps[state.one]:
            for its in other.steps[state.other]:
                chars = mine.chars & its.chars
                differs = state.differs or (mine.piece == differing) != (its.piece == differing)
                target = _State(mine.target, its.target, differs)
                if chars and target not in came:
                    char = _ALPHABET[(chars & -chars).bit_length() - 1]
                    came[target] = _Step(state, char, (mine.piece, its.piece))
                    todo.append(target)
    return None


def _read_back(state: _State, came: dict[_State, _Step | None]) -> Common:
    found: list[_Step] = []
    while (step := came[state]) is not None:
        found.append(step)
        state = step.source
    found.reverse()
    text = "".join(step.char for step in found)
    return Common(text, (tuple(step.pieces[0] for step in found), tuple(step.pieces[1] for step in found)))
