"""Repositories as their users see them."""

from __future__ import annotations

import re

import msgspec

from pantry.errors import InvalidRequestError
from pantry.model.formats import NO_FORMATS, Formats
from pantry.model.templates import TemplateLike

DATA_MODEL_VERSION = 2
"""Version of the repository's data model that this software works with (DMS-MWBT-REQ-0002).

2 came with the index of regions.
"""

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.+-]{0,63}\Z")


class RepositoryInfo(msgspec.Struct, frozen=True, kw_only=True):
    """A registered repository.

    Attributes
    ----------
    name : str
        By which users call it.
    uuid : str
        Made at creation, never changed.
    root : str
        URI of its storage, without secrets.
    registry : str
        URI of its registry, without secrets.
    version : int
        Version of its data model.
    writable : bool
        Whether the asking user may write.
    chain : tuple of str
        Repositories that are read as one, in order; empty if it is one. What is said besides is of the first.
    view_of : tuple of str
        Of a view: the repositories that hold the files, by the names that they had when it was made.
    formats : Formats
        What its configuration says of formats.
    templates : dict of str to str or TemplateRule
        What it says of where files go.
    state : str
        Equal to what it was before if nothing in the registry changed since, whoever might have changed it; empty if
        that cannot be told, or was not asked for.
    """

    name: str
    uuid: str
    root: str
    registry: str
    version: int
    writable: bool
    chain: tuple[str, ...] = ()
    view_of: tuple[str, ...] = ()
    formats: Formats = NO_FORMATS
    templates: dict[str, TemplateLike] = {}
    state: str = ""


def check_repository_name(name: str) -> str:
    """Return ``name`` if it can name a repository, else raise `InvalidRequestError`."""
    if not _NAME.match(name):
        raise InvalidRequestError(
            f"bad repository name {name[:80]!r}",
            hint="1 to 64 letters, digits and _ . + -, beginning with a letter or digit",
        )
    return name
