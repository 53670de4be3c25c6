"""What a repository has, asked for while somebody waits at a Tab key."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterable
from typing import TypeVar

from pantry.client.connection import Connection
from pantry.client.introspection.expressions import Completion, complete
from pantry.client.introspection.values import find_values
from pantry.client.introspection.vocabulary import Field, Vocabulary
from pantry.errors import PantryError
from pantry.model.data_id import DataIdValue
from pantry.model.datasets import DatasetType
from pantry.model.dimensions import DimensionUniverse
from pantry.wire.operations import GetDimensions, ListDatasetTypes, QueryCollections

T = TypeVar("T")

TIMEOUT_S = 0.5
"""Who presses Tab waits no longer for an answer, in seconds."""
BELIEVED_S = 5.0
"""For how long names are not asked for again, in seconds."""


class Introspection:
    """Asks a running daemon about one repository; starts none, and takes no answer for no names.

    Its connection is its own, since a person at a Tab key waits shorter than a program.

    Parameters
    ----------
    connection : Connection
        One of its own, which starts no daemon; see `Connection.apart`.
    repository : str
        Which.
    """

    def __init__(self, connection: Connection, repository: str) -> None:
        self._connection = connection
        self._repository = repository
        self._universe: DimensionUniverse | None = None
        self._vocabulary: tuple[float, Vocabulary] | None = None

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()

    def expression(self, text: str, cursor: int | None = None, about: Collection[str] = ()) -> Completion:
        """Complete a query expression; see `Butler.complete_expression`."""

        def ask() -> Completion:
            vocabulary = self.vocabulary()
            return complete(text, cursor, vocabulary, self._values(vocabulary), about)

        return _or_nothing(ask, Completion(len(text) if cursor is None else cursor, []))

    def values(self, name: str, begun: str = "", about: Collection[str] = ()) -> list[DataIdValue]:
        """Give the known values of a dimension or field, of text those that begin with ``begun``."""

        def ask() -> list[DataIdValue]:
            vocabulary = self.vocabulary()
            field = vocabulary.meaning(name, about)
            return [] if field is None else self._values(vocabulary)(field, begun)

        return _or_nothing(ask, [])

    def dimensions(self, about: Collection[str] = ()) -> list[str]:
        """Names of the dimensions, those of the dataset types ``about`` first."""
        return _or_nothing(lambda: self.vocabulary().dimensions(about), [])

    def dimensions_of(self, dataset_types: Collection[str]) -> list[str]:
        """Names of the dimensions of these dataset types, required ones first; all dimensions if there are no such."""

        def ask() -> list[str]:
            vocabulary = self.vocabulary()
            known = [vocabulary.dataset_types[name] for name in dataset_types if name in vocabulary.dataset_types]
            if not known:
                return vocabulary.dimensions()
            return list(vocabulary.universe.group(name for kind in known for name in kind.dimensions).names)

        return _or_nothing(ask, [])

    def elements(self) -> list[str]:
        """Names of everything that has records."""
        return _or_nothing(lambda: [one for one in self.vocabulary().owners if one not in self.dataset_types()], [])

    def names(self, prefix: str, about: Collection[str] = ()) -> list[str]:
        """Names that an expression or an order may have."""
        return _or_nothing(lambda: self.vocabulary().names(prefix, about), [])

    def dataset_types(self) -> list[str]:
        """Names of the dataset types."""
        return _or_nothing(lambda: list(self.vocabulary().dataset_types), [])

    def collections(self) -> list[str]:
        """Names of the collections."""
        asked = QueryCollections(repository=self._repository)
        return _or_nothing(lambda: [one.name for one in self._connection.call(asked).collections], [])

    def vocabulary(self) -> Vocabulary:
        """Ask for the repository's names, or give those that were just asked for."""
        now = time.monotonic()
        if self._vocabulary is None or now - self._vocabulary[0] > BELIEVED_S:
            if self._universe is None:
                self._universe = DimensionUniverse(
                    self._connection.call(GetDimensions(repository=self._repository)).config
                )
            types: Iterable[DatasetType] = self._connection.call(
                ListDatasetTypes(repository=self._repository)
            ).dataset_types
            self._vocabulary = now, Vocabulary(self._universe, types)
        return self._vocabulary[1]

    def _values(self, vocabulary: Vocabulary) -> Callable[[Field, str], list[DataIdValue]]:
        def ask(field: Field, begun: str) -> list[DataIdValue]:
            deadline = time.monotonic() + TIMEOUT_S
            return find_values(self._connection, self._repository, vocabulary, field, begun, deadline)

        return ask


def _or_nothing(ask: Callable[[], T], nothing: T) -> T:
    """Ask; whatever fails is nobody's business at a Tab key."""
    try:
        return ask()
    except (PantryError, OSError):
        return nothing
