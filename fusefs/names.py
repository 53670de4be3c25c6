"""What a path below ``/<repository>`` can mean.

Collection names contain slashes, so ``u/a/b`` may be the collection ``u/a/b``, the dataset type ``b`` of
collection ``u/a``, and a directory on the way to ``u/a/b/c``, all at once. A directory is known by its path
alone and shows the union of whatever the path means.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple
from uuid import UUID

from pantry.model.collections import CollectionInfo, CollectionType

BY_ID = ".by-id"
"""Directory of a repository where every dataset is found by its UUID."""

Path = tuple[str, ...]
"""Components below the repository's directory."""


class TypeDirectory(NamedTuple):
    """A place inside a dataset type's directory tree.

    Attributes
    ----------
    collection, dataset_type : str
        Which tree.
    parts : tuple of str
        Dimension directories gone down so far.
    fixed : bool
        Whether names stay bound to the same dataset: in RUN collections of one repository, not in those that
        select, nor in a chain of repositories, of which an earlier one may get a dataset too.
    """

    collection: str
    dataset_type: str
    parts: Path
    fixed: bool


class CollectionIndex:
    """The collections of a repository, or of a chain of repositories, arranged for looking up paths."""

    def __init__(self, collections: Iterable[CollectionInfo]) -> None:
        self._infos: dict[str, dict[str, CollectionInfo]] = {}
        for info in collections:
            self._infos.setdefault(info.name, {})[info.repository] = info
        below: dict[str, set[str]] = {"": set()}
        for name in self._infos:
            parts = name.split("/")
            for depth, part in enumerate(parts):
                below.setdefault("/".join(parts[:depth]), set()).add(part)
        self._below = {prefix: tuple(sorted(names)) for prefix, names in below.items()}
        self._types: dict[str, tuple[str, ...]] = {}

    def below(self, path: Path) -> tuple[str, ...]:
        """Next components of the collection names that begin with ``path``, in order."""
        return self._below.get("/".join(path), ())

    def is_directory(self, path: Path) -> bool:
        """Whether ``path`` is a collection, a prefix of one, or a dataset type's directory in one."""
        name = "/".join(path)
        if name in self._infos or name in self._below:
            return True
        return bool(path) and path[-1] in self.dataset_types(path[:-1])

    def dataset_types(self, path: Path) -> tuple[str, ...]:
        """Names of the dataset types that the collection at ``path`` shows, in order; none if it is none."""
        name = "/".join(path)
        if name not in self._types:
            found = [self._collect(name, repository, set()) for repository in self._infos.get(name, ())]
            self._types[name] = tuple(sorted(set().union(*found)))
        return self._types[name]

    def _collect(self, name: str, repository: str, seen: set[str]) -> set[str]:
        info = self._infos.get(name, {}).get(repository)
        if info is None or name in seen:
            return set()
        seen.add(name)
        found = set(info.dataset_types)
        for child in info.children:
            found |= self._collect(child, repository, seen)
        return found

    def type_directories(self, path: Path) -> tuple[TypeDirectory, ...]:
        """Every way to read ``path`` as a place in a dataset type's tree, shortest collection name first."""
        found = []
        for depth in range(1, len(path)):
            if path[depth] in self.dataset_types(path[:depth]):
                name = "/".join(path[:depth])
                infos = self._infos[name]
                fixed = all(not repository and info.type is CollectionType.RUN for repository, info in infos.items())
                found.append(TypeDirectory(name, path[depth], path[depth + 1 :], fixed))
        return tuple(found)


def parse_id(name: str) -> UUID | None:
    """Read a directory name below `BY_ID`; only the canonical spelling, so that each dataset has one name."""
    try:
        found = UUID(name)
    except ValueError:
        return None
    return found if str(found) == name else None
