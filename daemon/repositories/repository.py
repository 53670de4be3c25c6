"""An open repository: its storage, its registry and its rules."""

from __future__ import annotations

from pantry.backends.contract import ObjectBackend
from pantry.daemon.cache.flights import Source
from pantry.daemon.cache.object_id import ObjectId, plain_realm, users_realm
from pantry.daemon.registry import Registry
from pantry.daemon.repositories.access import AccessRules
from pantry.daemon.repositories.description import RepositoryDescription
from pantry.daemon.repositories.removals import FileNames, Removals
from pantry.daemon.server.identity import Identity
from pantry.daemon.transfers.origin import Origin
from pantry.errors import InvalidRequestError
from pantry.model.datasets import StoredFile
from pantry.model.remote_files import remote_file
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
    attached : bool
        Whether it is one of the Gen3 Butler, read where it is.
    uid : int, optional
        Of a user's own view: whose.

    Attributes
    ----------
    removals : Removals
        Those whose files this daemon is to delete; `Repositories` gives it those of the name.
    names : FileNames
        Of the files that are written or deleted now.
    """

    def __init__(
        self,
        name: str,
        description: RepositoryDescription,
        origin: Origin,
        registry: Registry,
        *,
        registry_url: str,
        attached: bool = False,
        uid: int | None = None,
    ) -> None:
        self.name = name
        self.uuid = description.uuid
        self.description = description
        self.origin = origin
        self.backend: ObjectBackend = origin.primary
        self.registry = registry
        # Of files whose content nobody has registered, only the version at the origin is known.
        realm = plain_realm(description.uuid) if attached else description.realm or description.uuid
        self.realm = realm if uid is None else users_realm(realm, uid)
        self.uid = uid
        self.is_attached = attached
        self._registry_url = registry_url
        self.removals = Removals()
        self.names = FileNames()

    def seen_by(self, uid: int, description: RepositoryDescription, origin: Origin) -> Repository:
        """Return a user's view: as he has read its description, and reads its files."""
        return Repository(
            self.name,
            description,
            origin,
            self.registry,
            registry_url=self._registry_url,
            attached=self.is_attached,
            uid=uid,
        )

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
            writable=self.access.may_write(who)
            and not self.is_attached
            and self.uid is None
            and self.backend.capabilities.writable,
            view_of=tuple(sorted(self.registry.holders.values())),
            formats=self.description.formats,
            templates=self.description.templates,
        )

    def object_id(self, file: StoredFile) -> ObjectId:
        """Return by which name the cache knows a file's content.

        Raises
        ------
        InvalidRequestError
            If nobody has registered what the content is.
        """
        if (remote := remote_file(file.path)) is not None:
            raise InvalidRequestError(
                f"{remote.url} lies in another archive, and its content is not registered",
                hint="such files are cached as they are read, but cannot be prefetched, pinned or verified",
            )
        if not file.hash:
            raise InvalidRequestError(
                f"the content of {file.path} is not registered, as in every attached repository",
                hint="such files are cached as they are read, but cannot be prefetched, pinned or verified",
            )
        return ObjectId(self.realm, file.hash)

    def source(self, file: StoredFile) -> Source:
        """Return where a file can be fetched from."""
        return Source(self.origin, file.path)
