"""Several repositories read as one (docs/decisions/0019-repository-chains.md)."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import msgspec

from pantry.daemon.registry.chained import ChainedRegistry
from pantry.daemon.repositories.repository import Repository
from pantry.daemon.server.identity import Identity
from pantry.errors import InvalidRequestError
from pantry.model.repository import RepositoryInfo, check_repository_name

SEPARATOR = ","
MAX_MEMBERS = 64


class RepositoryChain:
    """Repositories in the order in which they are asked.

    Parameters
    ----------
    name : str
        As the user wrote it.
    members : sequence of Repository
        At least two.
    """

    def __init__(self, name: str, members: Sequence[Repository]) -> None:
        self.name = name
        self.members = tuple(members)
        self.registry = ChainedRegistry([(one.name, one.registry) for one in members])

    def info(self, who: Identity) -> RepositoryInfo:
        """Describe the chain to a user."""
        first = self.members[0].info(who)
        return msgspec.structs.replace(first, name=self.name, chain=tuple(one.name for one in self.members))


def flatten(name: str, children: Callable[[str], Sequence[str]]) -> list[str]:
    """Give the repositories that a name means, each once; more than one if it is a chain.

    Parameters
    ----------
    name : str
        A name, or several with commas.
    children : Callable
        Gives what a registered chain is of, nothing for a repository.
    """
    found: dict[str, None] = {}

    def visit(names: Sequence[str], above: tuple[str, ...]) -> None:
        for one in names:
            check_repository_name(one)
            if one in above:
                raise InvalidRequestError(
                    f"the chain {one!r} is in itself: {' > '.join((*above, one))}", hint="make it of other repositories"
                )
            below = children(one)
            if below:
                visit(below, (*above, one))
            else:
                found[one] = None
            if len(found) > MAX_MEMBERS:
                raise InvalidRequestError(f"{name[:200]!r} is of more than {MAX_MEMBERS} repositories")

    visit(name.split(SEPARATOR), ())
    return list(found)
