"""Roots of repositories: their form."""

from __future__ import annotations

import os
from urllib.parse import unquote

from pantry.errors import ConfigError, InvalidRequestError


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
