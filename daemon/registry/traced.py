"""Integers of a query that can be told from those that planning adds."""

from __future__ import annotations

from collections.abc import Hashable


class Traced(int):
    """An integer of a query, and where in the query it stands.

    A compiled statement that has it for a parameter can be run with another one (see `remembered`).
    """

    origin: Hashable

    @classmethod
    def of(cls, value: int, origin: Hashable) -> Traced:
        """Say where a value stands."""
        made = cls(value)
        made.origin = origin
        return made
