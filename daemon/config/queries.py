"""Configuration of query services, of the queries that may be asked of them, and of selections by name."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Literal

import msgspec

from pantry.backends.credentials import NOT_FOR_USERS
from pantry.daemon.config.secrets import SecretSource
from pantry.model.queries import Parameter

_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_]{0,63}\Z")
_SERVICE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}\Z")
_ROOT = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:")
_GIB = 1024**3


class ServiceConfig(msgspec.Struct, frozen=True, kw_only=True):
    """A service that answers queries; users call it by its name.

    Attributes
    ----------
    root : str
        URI whose scheme names the query backend, such as ``tap+https://example.org/tap``.
    options : dict
        Options of the backend; a secret is a text, never shown, or says where it is kept.
    readers : tuple of str
        Who may run the queries that are configured for it, besides administrators.
    statements : tuple of str
        Who of them may send statements of their own.
    ttl_s : float
        How long answers to such statements, and of queries that say nothing of it, are kept for whoever asks the
        same, in seconds.
    max_rows : int
        Most rows of one answer.
    max_bytes : int
        Most bytes of one answer.
    timeout_s : float
        For one query, in seconds.
    max_concurrent : int
        Queries that may be under way, of all users together; 0 for no limit of its own.
    rights : str
        ``node``: the options say who asks. ``user``: each user, with a credential of his own.
    """

    root: str
    options: dict[str, str | int | float | bool | SecretSource] = {}
    readers: tuple[str, ...] = ()
    statements: tuple[str, ...] = ()
    ttl_s: float = 0.0
    max_rows: int = 1_000_000
    max_bytes: int = 4 * _GIB
    timeout_s: float = 600.0
    max_concurrent: int = 0
    rights: Literal["node", "user"] = "node"


class DatasetConfig(msgspec.Struct, frozen=True, kw_only=True):
    """What makes a query a dataset type (MWBT-0057).

    Attributes
    ----------
    dimensions : tuple of str
        What identifies one of its datasets.
    repositories : tuple of str
        Names or patterns of the repositories that have it; none for all.
    storage_class : str
        As what it is read.
    """

    dimensions: tuple[str, ...]
    repositories: tuple[str, ...] = ()
    storage_class: str = "ArrowAstropy"


class QueryConfig(msgspec.Struct, frozen=True, kw_only=True):
    """A query with parameters; users call it by its name.

    Attributes
    ----------
    service : str
        Which it is asked of.
    text : str
        In the service's language, with ``:name`` for parameters and ``@name`` for selections.
    parameters : dict
        Each parameter of the text, besides those of its selections.
    fixed : bool
        The service gives the same answer for ever, so that it is kept for ever.
    ttl_s : float or None
        Otherwise, how long the answer is kept, in seconds; by default the service's.
    max_rows : int
        Most rows of the answer; 0 for the service's.
    doc : str
        For people.
    dataset : DatasetConfig or None
        If it is a dataset type too.
    """

    service: str
    text: str
    parameters: dict[str, Parameter] = {}
    fixed: bool = False
    ttl_s: float | None = None
    max_rows: int = 0
    doc: str = ""
    dataset: DatasetConfig | None = None


class SelectionConfig(msgspec.Struct, frozen=True, kw_only=True):
    """A subset of a catalogue by name (MWBT-0056), for queries and for itself.

    Attributes
    ----------
    service, text, parameters, fixed, ttl_s, doc
        As of `QueryConfig`; its text names no selection.
    view : bool
        Make it a view in the service's database.
    """

    service: str
    text: str
    parameters: dict[str, Parameter] = {}
    fixed: bool = False
    ttl_s: float | None = None
    doc: str = ""
    view: bool = False


def problems(
    services: Mapping[str, ServiceConfig],
    queries: Mapping[str, QueryConfig],
    selections: Mapping[str, SelectionConfig],
) -> Iterator[str]:
    """Say what of it makes no sense; what is wrong in texts is found when they are taken apart."""
    for name, service in services.items():
        if not _SERVICE_NAME.match(name):
            yield f"services: {name!r} must be letters, digits, '.', '_' and '-', at most 64"
        if not _ROOT.match(service.root):
            yield f"services.{name}.root: is no URI such as tap+https://example.org/tap"
        for key in ("max_rows", "max_bytes", "timeout_s"):
            if not getattr(service, key) > 0:
                yield f"services.{name}.{key}: must be positive"
        if service.rights == "user" and (given := sorted(NOT_FOR_USERS & service.options.keys())):
            yield f"services.{name}: with rights of users, {given[0]!r} would never be used"
        if service.max_concurrent < 0:
            yield f"services.{name}.max_concurrent: must not be negative"
        if service.ttl_s < 0:
            yield f"services.{name}.ttl_s: must not be negative"
    for group, entries in (("queries", queries), ("selections", selections)):
        for name, one in entries.items():
            if not _NAME.match(name):
                yield f"{group}: {name!r} must be letters, digits and '_', at most 64, and begin with a letter"
            if one.service not in services:
                yield f"{group}.{name}.service: no service is called {one.service!r}"
            if one.fixed and one.ttl_s is not None:
                yield f"{group}.{name}: what is fixed is kept for ever, so that ttl_s has no meaning"
            if one.ttl_s is not None and one.ttl_s < 0:
                yield f"{group}.{name}.ttl_s: must not be negative"
    for name in queries.keys() & selections.keys():
        yield f"queries.{name}: a selection has the same name"
    for name, query in queries.items():
        if query.max_rows < 0:
            yield f"queries.{name}.max_rows: must not be negative"
        if query.dataset is None and any(one.value_of for one in query.parameters.values()):
            yield f"queries.{name}.parameters: 'value_of' is for queries that are datasets"
    for name, selection in selections.items():
        if selection.view and selection.parameters:
            yield f"selections.{name}: a view has no parameters"
