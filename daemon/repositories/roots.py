"""Roots of repositories: their form, and where their copies are."""

from __future__ import annotations

import os
from collections.abc import Sequence
from urllib.parse import unquote

from pantry.daemon.config import StorageConfig
from pantry.errors import (
    ConfigError,
    InvalidRequestError,
)


def replica_roots(root: str, storage: Sequence[StorageConfig]) -> list[str]:
    """Give the roots of the copies of ``root``, in order of preference; of no slash too many or too few."""
    matching = [one for one in storage if one.replicas and root.startswith(one.match)]
    if not matching:
        return []
    longest = max(matching, key=lambda one: len(one.match))
    rest = root[len(longest.match) :]
    if longest.match.endswith("/") or rest.startswith("/"):
        return [f"{replica.rstrip('/')}/{rest.lstrip('/')}".rstrip("/") for replica in longest.replicas]
    return [replica + rest for replica in longest.replicas]


def is_local(root: str) -> bool:
    """Whether a root is a directory."""
    return "://" not in root or root.startswith("file://")


def local_directory(root: str) -> str:
    """Return the directory of a local root, a path or a URI, or raise."""
    if not is_local(root):
        raise ConfigError(
            f"a registry path relative to {root} needs a local root", hint="give an absolute registry URL"
        )
    return unquote(root.removeprefix("file://")) if root.startswith("file://") else root


def absolute_root(root: str) -> str:
    """Return a root in the form in which it is registered; a relative path is refused."""
    if is_local(root):
        path = local_directory(root)
        if not os.path.isabs(path):
            raise InvalidRequestError(f"the root {root!r} must be an absolute path or a URI")
        return os.path.normpath(path)
    return root.rstrip("/")
