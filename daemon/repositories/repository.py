"""An open repository: its storage, its registry and its rules."""

from __future__ import annotations

from pantry.backends.contract import ObjectBackend
from pantry.daemon.cache.object_id import ObjectId
from pantry.daemon.cache.partial import Source
from pantry.daemon.registry import Registry
from pantry.daemon.repositories.access import AccessRules
from pantry.daemon.repositories.description import RepositoryDescription
from pantry.daemon.server.identity import Identity
from pantry.daemon.transfers.origin import Origin
from pantry.model.datasets import StoredFile
from pantry.model.repository import RepositoryInfo


class Repository:
    """One repository that the daemon has open.

    Parameters
    ----------
    name : str
        By which it is registered here.
    description : RepositoryDescription
        Its ``pantry.yaml``.
    origin : Origin
        Its storage, with its copies; `backend` is the one that is written to.
    registry : Registry
        Its registry.
    registry_url : str
        For people, without secrets.
    """

    def __init__(
        self,
        name: str,
        description: RepositoryDescription,
        origin: Origin,
        registry: Registry,
        *,
        registry_url: str,
    ) -> None:
        self.name = name
        self.uuid = description.uuid
        self.description = description
        self.origin = origin
        self.backend: ObjectBackend = origin.primary
        self.registry = registry
        self.realm = description.realm or description.uuid
        self._registry_url = registry_url

    @property
    def access(self) -> AccessRules:
        """Who may do what."""
        return self.description.access

    def info(self, who: Identity) -> RepositoryInfo:
        """Describe the repository to a user."""
        return RepositoryInfo(
            name=self.name,
            uuid=self.uuid,
            root=self.backend.location,
            registry=self._registry_url,
            version=self.description.version,
            writable=self.access.may_write(who),
        )

    def object_id(self, file: StoredFile) -> ObjectId:
        """Return by which name the cache knows a file's content."""
        return ObjectId(self.realm, file.hash)

    def source(self, file: StoredFile) -> Source:
        """Return where a file can be fetched from."""
        return Source(self.origin, file.path)
