"""A web service as the operator configured it, ready for use."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from fnmatch import fnmatchcase
from typing import Any
from urllib.parse import quote, urlsplit

from pantry.daemon.config import DaemonConfig
from pantry.daemon.config.publishing import PublishConfig, problems
from pantry.daemon.publishing.templates import NAMES, UnfitError, fill_text, places
from pantry.errors import BackendAccessError, ConfigError

MAX_CREDENTIAL_BYTES = 16 * 1024


def publish_targets(config: DaemonConfig) -> dict[str, Target]:
    """Make the targets that are configured.

    Raises
    ------
    ConfigError
        Something in one of them makes no sense.
    """
    return {name: Target(name, one, config.source) for name, one in config.publish.items()}


class Target:
    """A service to publish to.

    Parameters
    ----------
    name : str
        By which users call it.
    config : PublishConfig
        What is configured of it.
    source : str
        The configuration's file, for messages.

    Raises
    ------
    ConfigError
        Something in it makes no sense.
    """

    def __init__(self, name: str, config: PublishConfig, source: str) -> None:
        for problem in (*problems(name, config), *_template_problems(config)):
            raise ConfigError(f"{source or 'configuration'}: publish.{name}: {problem}")
        self.name = name
        self.config = config
        url = urlsplit(config.url)
        self.scheme = url.scheme
        self.host = url.hostname or ""
        self.port = url.port or (443 if url.scheme == "https" else 80)
        self._path = (url.path or "/") + (f"?{url.query}" if url.query else "")
        is_usual = url.port is None or url.port == (443 if url.scheme == "https" else 80)
        shown = f"[{self.host}]" if ":" in self.host else self.host
        self.authority = shown if is_usual else f"{shown}:{self.port}"

    @property
    def content_type(self) -> str:
        """The body's type."""
        usual = "application/json" if self.config.form == "document" else "application/octet-stream"
        return self.config.content_type or usual

    @property
    def shown_url(self) -> str:
        """The URL for people; what stands in a query may be a secret."""
        return f"{self.scheme}://{self.authority}{self._path.partition('?')[0]}"

    def takes(self, dataset_type: str, repository: str) -> bool:
        """Whether datasets of a type may go there from a repository."""
        config = self.config
        return any(fnmatchcase(dataset_type, one) for one in config.dataset_types) and (
            not config.repositories or any(fnmatchcase(repository, one) for one in config.repositories)
        )

    def path(self, known: Mapping[str, Any]) -> str:
        """Return path and query of a dataset; whatever is filled in stays one component of it.

        Raises
        ------
        UnfitError
            Something that is to be filled in is not there, or would be another place in the service.
        """
        path = fill_text(self._path, known, lambda text: quote(text, safe=""))
        if any(one in (".", "..") for one in path.partition("?")[0].split("/")):
            raise UnfitError(f"the path {path!r} leads to another place")
        return path

    def credential(self) -> str | None:
        """Return the credential, which must never be logged; None if there is none.

        Raises
        ------
        BackendAccessError
            There is none where the configuration says it is.
        """
        config = self.config
        if config.credential_file:
            where = config.credential_file
            try:
                with open(where, "rb") as file:
                    secret = file.read(MAX_CREDENTIAL_BYTES + 1).decode("ascii").strip()
            except (OSError, UnicodeDecodeError) as exc:
                reason = exc.strerror if isinstance(exc, OSError) else "it is not ASCII"
                raise BackendAccessError(
                    f"the credential of {self.name!r} in {where} cannot be read: {reason}"
                ) from None
        elif config.credential_variable:
            where = config.credential_variable
            secret = os.environ.get(where, "").strip()
        else:
            return None
        if not secret or len(secret) > MAX_CREDENTIAL_BYTES or not (secret.isascii() and secret.isprintable()):
            raise BackendAccessError(f"the credential of {self.name!r} in {where} is empty, or no printable ASCII")
        return secret


def _template_problems(config: PublishConfig) -> Iterator[str]:
    content = {"content"} if config.form == "document" else set()
    allowed = {
        "url": {*NAMES, *content},
        "rows": content,
        "row": {*NAMES, *content, "row"},
        "body": {*NAMES, *content, *({"rows"} if config.rows else ())},
    }
    for key, names in allowed.items():
        try:
            for path in places(getattr(config, key)):
                if path.partition(".")[0] not in names:
                    yield f"{key}: {{{path}}} is not known there; known: {', '.join(sorted(names))}"
        except ValueError as exc:
            yield f"{key}: {exc}"
    if config.rows and (len(paths := _paths(config.rows)) != 1 or config.rows != f"{{{paths[0]}}}"):
        yield "rows: must be one place, such as {content.measurements}"
    if config.rows and config.body is not None and not any(one.startswith("rows") for one in _paths(config.body)):
        yield "body: has no {rows}, into which what is made of each row would go"


def _paths(value: Any) -> list[str]:
    try:
        return list(places(value))
    except ValueError:
        return [""]
