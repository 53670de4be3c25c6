"""What the ``pantry.yaml`` of each root last said, for when the root cannot be asked."""

from __future__ import annotations

import logging
import os
from contextlib import suppress

import xxhash

from pantry.daemon.repositories.description import RepositoryDescription, dump_description
from pantry.errors import ConfigError
from pantry.model.loading import load_yaml_file

log = logging.getLogger(__name__)


class RememberedDescriptions:
    """Copies of descriptions in the state directory, by the root's URI.

    Parameters
    ----------
    state_directory : str
        Of the daemon.
    """

    def __init__(self, state_directory: str) -> None:
        self._directory = os.path.join(state_directory, "descriptions")

    def store(self, root: str, description: RepositoryDescription) -> None:
        """Remember what the root says now; a failure to do so is logged, since it is in nobody's way yet."""
        try:
            with suppress(ConfigError):
                if self.load(root) == description:
                    return
            self._write(root, description)
        except OSError as exc:
            log.warning("what %s says cannot be remembered for when it is down: %s", root, exc)

    def _write(self, root: str, description: RepositoryDescription) -> None:
        os.makedirs(self._directory, mode=0o700, exist_ok=True)
        path = self._path(root)
        fd = os.open(path + ".new", os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        with os.fdopen(fd, "wb") as file:
            file.write(dump_description(description))
            file.flush()
            os.fsync(file.fileno())
        os.rename(path + ".new", path)

    def load(self, root: str) -> RepositoryDescription | None:
        """Return what the root last said, or None if it was never asked."""
        path = self._path(root)
        return load_yaml_file(path, RepositoryDescription) if os.path.exists(path) else None

    def forget(self, root: str) -> None:
        """Forget what the root said."""
        with suppress(OSError):
            os.unlink(self._path(root))

    def _path(self, root: str) -> str:
        return os.path.join(self._directory, f"{xxhash.xxh3_128_hexdigest(root.encode())}.yaml")
