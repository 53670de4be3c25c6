"""The site index: which repository each name means (DMS-MWBT-REQ-0024)."""

from __future__ import annotations

import os

import msgspec

from pantry.daemon.registry.gen3 import Gen3Configuration
from pantry.daemon.repositories.access import AccessRules
from pantry.errors import ConfigError, ConflictError

_FILE = "repositories.json"


class Attachment(msgspec.Struct, frozen=True, kw_only=True):
    """What a repository of Pantry's own says in its ``pantry.yaml``, for one of the Gen3 Butler.

    Attributes
    ----------
    uuid : str
        By which it is known here.
    configuration : Gen3Configuration
        Its ``butler.yaml``.
    access : AccessRules
        Who may read; nobody writes.
    """

    uuid: str
    configuration: Gen3Configuration
    access: AccessRules


class Remains(msgspec.Struct, frozen=True, kw_only=True):
    """What is left of a repository whose files are removed.

    Attributes
    ----------
    registry : str
        SQLAlchemy URL of its registry, without its password.
    uuid : str
        The repository's.
    owner : str
        Who may go on with the removal.
    has_password : bool
        Whether the URL had one, to be looked up again where it stands.
    """

    registry: str
    uuid: str
    owner: str
    has_password: bool = False


class Registration(msgspec.Struct, frozen=True, kw_only=True):
    """Where a repository lies.

    Attributes
    ----------
    root : str
        URI of its storage.
    registry : str
        SQLAlchemy URL of its registry if the root does not say it; may hold a password.
    options : dict
        Options of the storage backend needed to read its ``pantry.yaml``; no secrets.
    attachment : Attachment or None
        For a repository of the Gen3 Butler, which has no ``pantry.yaml``.
    chain : tuple of str
        Names of repositories that are read as one; nothing else is said of them here.
    remains : Remains or None
        Of a repository that is being removed, once its files are gone.
    """

    root: str
    registry: str = ""
    options: dict[str, str | int | float | bool] = {}
    attachment: Attachment | None = None
    chain: tuple[str, ...] = ()
    remains: Remains | None = None


class SiteIndex:
    """Names and registrations, in one file of the state directory replaced atomically.

    Parameters
    ----------
    state_directory : str
        Of the daemon.
    configured : dict
        Registrations from the daemon's configuration, which win.
    """

    def __init__(self, state_directory: str, configured: dict[str, Registration]) -> None:
        self._path = os.path.join(state_directory, _FILE)
        self._configured = configured
        self._made = self._load()

    def _load(self) -> dict[str, Registration]:
        try:
            with open(self._path, "rb") as file:
                return msgspec.json.decode(file.read(), type=dict[str, Registration])
        except FileNotFoundError:
            return {}
        except (msgspec.DecodeError, msgspec.ValidationError) as exc:
            raise ConfigError(f"{self._path}: not a site index: {exc}", hint="restore it from a backup") from None

    def names(self) -> list[str]:
        """Return all registered names, sorted."""
        return sorted(self._made.keys() | self._configured.keys())

    def get(self, name: str) -> Registration | None:
        """Return a registration, or None."""
        made = self._made.get(name)
        return made if made is not None and made.remains is not None else self._configured.get(name) or made

    def configured(self, name: str) -> Registration | None:
        """Return what the configuration says of a name, or None."""
        return self._configured.get(name)

    def add(self, name: str, registration: Registration) -> None:
        """Register a name; `ConflictError` if it is taken."""
        if self.get(name) is not None:
            raise ConflictError(f"a repository is registered by the name {name!r} already", hint="choose another name")
        self._made[name] = registration
        self._store()

    def replace(self, name: str, registration: Registration) -> None:
        """Put a registration in the place of the one of this name, durably."""
        self._made[name] = registration
        self._store()

    def remove(self, name: str) -> None:
        """Forget a name that `add` registered."""
        if self._made.pop(name, None) is not None:
            self._store()

    def _store(self) -> None:
        temporary = self._path + ".new"
        # It may hold a registry's password.
        fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        with os.fdopen(fd, "wb") as file:
            file.write(msgspec.json.format(msgspec.json.encode(self._made), indent=2))
            file.flush()
            os.fsync(file.fileno())
        os.rename(temporary, self._path)
