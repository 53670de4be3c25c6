"""What a repository is made of, for people who look around."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from functools import cached_property
from typing import TYPE_CHECKING

from pantry.client.butler.access import RepositoryAccess, names
from pantry.errors import MissingDatasetTypeError
from pantry.model.datasets import DatasetType
from pantry.model.dimensions import DimensionUniverse
from pantry.wire.operations import GetDimensions, ListDatasetTypes

if TYPE_CHECKING:
    from pantry.client.introspection.asking import Introspection
    from pantry.client.introspection.expressions import Completion
    from pantry.client.introspection.factory import ExpressionFactory


class Introspecting(RepositoryAccess):
    """The methods of `Butler` that tell its names (DMS-MWBT-REQ-0092)."""

    @cached_property
    def dimensions(self) -> DimensionUniverse:
        """The repository's dimensions, with an operator's tables: ``butler.dimensions["visit"].metadata``."""
        return DimensionUniverse(self.connection.call(GetDimensions(repository=self.repository)).config)

    @property
    def dataset_types(self) -> DatasetTypes:
        """The registered dataset types by name, as they are now."""
        return DatasetTypes(self)

    @property
    def expression_factory(self) -> ExpressionFactory:
        """Names for conditions, as they are now (DMS-MWBT-REQ-0092).

        Examples
        --------
        >>> x = butler.expression_factory
        >>> butler.query_datasets("calexp", where=(x.visit.exposure_time > 30) & (x.band == "r"))
        """
        from pantry.client.introspection.factory import ExpressionFactory
        from pantry.client.introspection.vocabulary import Vocabulary

        return ExpressionFactory(Vocabulary(self.dimensions, self.dataset_types.values()))

    def complete_expression(
        self, text: str, cursor: int | None = None, *, dataset_types: str | Iterable[str] = ()
    ) -> Completion:
        """Tell what can be written next in a query expression (DMS-MWBT-REQ-0092).

        Parameters
        ----------
        text : str
            The expression so far.
        cursor : int, optional
            Where in it, in characters; by default at its end.
        dataset_types : str or iterable of str
            What the expression will be about: its names come first, and the metadata that it declares.

        Returns
        -------
        Completion
            Where the text begins that is to be replaced, and the candidates: names, operators, known values.
            None are given if the daemon does not answer within half a second; no error is raised then.

        Examples
        --------
        >>> butler.complete_expression("visit.air").candidates
        ['visit.airmass']
        """
        return self._introspection.expression(text, cursor, names(dataset_types))

    @cached_property
    def _introspection(self) -> Introspection:
        from pantry.client.introspection.asking import TIMEOUT_S, Introspection

        return Introspection(self.connection.apart(TIMEOUT_S), self.repository)


class DatasetTypes(Mapping[str, DatasetType]):
    """The dataset types of a repository by name."""

    def __init__(self, access: RepositoryAccess) -> None:
        self._access = access

    def __getitem__(self, name: str) -> DatasetType:
        for found in self._list(name):
            if found.name == name:
                return found
        raise KeyError(f"no dataset type {name!r} in {self._access.repository!r}")

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and name in set(self)

    def __iter__(self) -> Iterator[str]:
        return (one.name for one in self._list())

    def __len__(self) -> int:
        return len(self._list())

    def values(self) -> list[DatasetType]:  # type: ignore[override]
        """All of them, in one question."""
        return self._list()

    def items(self) -> list[tuple[str, DatasetType]]:  # type: ignore[override]
        """All of them with their names, in one question."""
        return [(one.name, one) for one in self._list()]

    def __repr__(self) -> str:
        return f"<dataset types of {self._access.repository!r}: {', '.join(self) or 'none'}>"

    def _repr_html_(self) -> str:
        from pantry.model.html import table

        return table(
            ("dataset type", "dimensions", "storage class", "calibration", "metadata"),
            (
                (
                    one.name,
                    ", ".join(one.dimensions),
                    one.storage_class,
                    "yes" if one.is_calibration else "",
                    ", ".join(entry.name for entry in one.metadata),
                )
                for one in self._list()
            ),
        )

    def _ipython_key_completions_(self) -> list[str]:
        return list(self)

    def _list(self, *patterns: str) -> list[DatasetType]:
        asked = ListDatasetTypes(repository=self._access.repository, patterns=patterns)
        try:
            return list(self._access.connection.call(asked).dataset_types)
        except MissingDatasetTypeError:
            return []
