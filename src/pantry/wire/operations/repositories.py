"""Operations on repositories and collections."""

from __future__ import annotations

import msgspec

from pantry.model.collections import CollectionInfo, CollectionType
from pantry.model.formats import NO_FORMATS, Formats
from pantry.model.repository import RepositoryInfo
from pantry.model.templates import TemplateLike
from pantry.wire.operations.base import Operation


class Done(msgspec.Struct, frozen=True):
    """An answer that says only that it was done."""


class RepositoryList(msgspec.Struct, frozen=True):
    """Repositories that the asking user may read."""

    repositories: tuple[RepositoryInfo, ...]


class CreateRepository(Operation[RepositoryInfo], frozen=True, kw_only=True, omit_defaults=True, tag="repo.create"):
    """Make a repository and register it by name at once (DMS-MWBT-REQ-0024).

    Attributes
    ----------
    name : str
        How users will call it.
    root : str
        URI of its storage: a directory or ``s3://bucket/prefix``; must not hold a repository yet.
    registry : str
        SQLAlchemy URL of the registry; empty for SQLite in a directory root, or in the daemon's
        state directory for other roots.
    dimensions : str
        A universe as YAML text; empty for the default one.
    storage_options : dict
        Options of the storage backend that go into the repository's configuration; no secrets.
    readers, writers : tuple of str
        User names, ``@group`` names, or ``*`` for everybody; the creator may always do both.
    formats : Formats
        What is stored in which format, and read as what.
    templates : dict of str to str or TemplateRule
        Where new files go: by the name of the dataset type, or a pattern, a template of their paths.
    """

    result_type = RepositoryInfo
    name: str
    root: str
    registry: str = ""
    dimensions: str = ""
    storage_options: dict[str, str | int | float | bool] = {}
    readers: tuple[str, ...] = ()
    writers: tuple[str, ...] = ()
    formats: Formats = NO_FORMATS
    templates: dict[str, TemplateLike] = {}


class AttachRepository(Operation[RepositoryInfo], frozen=True, kw_only=True, omit_defaults=True, tag="repo.attach"):
    """Register a repository of the Gen3 Butler, to be read where it is.

    Attributes
    ----------
    name : str
        How users will call it.
    configuration : str
        URI of its ``butler.yaml``, or of the directory that holds it.
    registry : str
        SQLAlchemy URL of its registry; empty for the one that the configuration names. A password stays
        with the daemon.
    storage_options : dict
        Options of the storage backend; no secrets.
    readers : tuple of str
        User names, ``@group`` names, or ``*`` for everybody; whoever attaches it may always read.
    """

    result_type = RepositoryInfo
    name: str
    configuration: str
    registry: str = ""
    storage_options: dict[str, str | int | float | bool] = {}
    readers: tuple[str, ...] = ()


class ChainRepositories(Operation[RepositoryInfo], frozen=True, kw_only=True, tag="repo.chain"):
    """Give a chain of repositories, which are read as one, a name (DMS-MWBT-REQ-0081).

    Wherever a repository is named for reading, several may be, with commas between: that needs no name.

    Attributes
    ----------
    name : str
        How users will call it.
    members : tuple of str
        Repositories in the order in which they are asked; the first takes what is written.
    """

    result_type = RepositoryInfo
    name: str
    members: tuple[str, ...]


class ListRepositories(Operation[RepositoryList], frozen=True, kw_only=True, tag="repo.list"):
    """List the repositories that the user may read."""

    result_type = RepositoryList


class GetRepository(Operation[RepositoryInfo], frozen=True, kw_only=True, tag="repo.get"):
    """Describe one repository; ``state`` only if it is asked for, since it is a query."""

    result_type = RepositoryInfo
    repository: str
    state: bool = False


class CollectionList(msgspec.Struct, frozen=True):
    """Collections, in order of name unless the search order was asked for."""

    collections: tuple[CollectionInfo, ...]


class RegisterCollection(Operation[Done], frozen=True, kw_only=True, omit_defaults=True, tag="collection.register"):
    """Make a collection; no error if it exists with the same type."""

    result_type = Done
    repository: str
    name: str
    type: CollectionType
    doc: str = ""


class RedefineChain(Operation[Done], frozen=True, kw_only=True, tag="collection.redefine_chain"):
    """Set the children of a CHAINED collection, in search order."""

    result_type = Done
    repository: str
    name: str
    children: tuple[str, ...]


class QueryCollections(
    Operation[CollectionList], frozen=True, kw_only=True, omit_defaults=True, tag="collection.query"
):
    """Find collections.

    Attributes
    ----------
    repository : str
        In which repository.
    patterns : tuple of str
        Names or shell-style globs; empty for all.
    types : tuple of CollectionType
        Only these; empty for all.
    flatten_chains : bool
        Give the children of matching chains in place of the chains, in search order.
    with_dataset_types : bool
        Fill in `CollectionInfo.dataset_types`.
    """

    result_type = CollectionList
    repository: str
    patterns: tuple[str, ...] = ()
    types: tuple[CollectionType, ...] = ()
    flatten_chains: bool = False
    with_dataset_types: bool = False
