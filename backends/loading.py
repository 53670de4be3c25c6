"""Finding the backend of a root by its scheme, through the entry-point groups of object and query backends."""

from __future__ import annotations

import re
from collections.abc import Mapping
from importlib.metadata import entry_points
from typing import cast

from pantry.backends.admission import Admission
from pantry.backends.contract import BackendFactory, ObjectBackend
from pantry.backends.querying import QueryBackend, QueryBackendFactory
from pantry.errors import ConfigError

GROUP = "pantry.backends"
"""The entry-point group; the name of an entry is the scheme of its URIs."""

QUERY_GROUP = "pantry.query_backends"
"""The group of query backends; of the scheme, what is before a ``+`` names the entry: ``tap+https:``."""

_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*):")
_ALIASES = {"file": "posix"}


def backend_scheme(root_uri: str) -> str:
    """Name the backend that ``root_uri`` asks for: its scheme, or ``posix`` for paths and ``file:``."""
    if root_uri.startswith("/"):
        return "posix"
    match = _SCHEME.match(root_uri)
    if match is None:
        raise ConfigError(
            f"storage root {root_uri!r} is neither an absolute path nor a URI",
            hint=f"Write /an/absolute/path or a URI of one of these schemes: {', '.join(known_schemes())}.",
        )
    scheme = match[1].lower()
    return _ALIASES.get(scheme, scheme)


def known_schemes() -> list[str]:
    """List the schemes of all installed backends, and ``file``."""
    return sorted({entry.name for entry in entry_points(group=GROUP)} | _ALIASES.keys())


def make_backend(root_uri: str, options: Mapping[str, object], admission: Admission) -> ObjectBackend:
    """Make the backend of a storage root.

    Parameters
    ----------
    root_uri : str
        An absolute path, or a URI such as ``s3://bucket/prefix``.
    options : Mapping[str, object]
        The backend's own options, checked by the backend.
    admission : Admission
        Lets the backend's blocking calls into threads.

    Returns
    -------
    ObjectBackend
        Not yet connected: SDKs are imported on the first use.

    Raises
    ------
    ConfigError
        If no installed backend knows the scheme, or the options are wrong.
    """
    factory = cast(BackendFactory, _entry(GROUP, backend_scheme(root_uri), "storage", known_schemes()))
    return factory(root_uri, options, admission)


def make_query_backend(root_uri: str, options: Mapping[str, object], admission: Admission) -> QueryBackend:
    """Make the query backend of a service, such as ``tap+https://example.org/tap``; otherwise as `make_backend`."""
    match = _SCHEME.match(root_uri)
    known = sorted({entry.name for entry in entry_points(group=QUERY_GROUP)})
    if match is None:
        raise ConfigError(f"the service {root_uri!r} is no URI", hint=f"known kinds: {', '.join(known)}")
    kind = match[1].lower().partition("+")[0]
    factory = cast(QueryBackendFactory, _entry(QUERY_GROUP, kind, "queries", known))
    return factory(root_uri, options, admission)


def _entry(group: str, name: str, what: str, known: list[str]) -> object:
    found = tuple(entry_points(group=group, name=name))
    if not found:
        raise ConfigError(
            f"no backend for {name!r} {what} is installed",
            hint=f"Known schemes: {', '.join(known)}. Others come from packages with an entry point "
            f"in the group {group!r}.",
        )
    if len({entry.value for entry in found}) > 1:
        raise ConfigError(f"several installed packages offer a backend for {name!r}", hint="Uninstall all but one.")
    return found[0].load()
