"""What a repository's rules allow whom."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from pantry.daemon.server.identity import Identity
from pantry.errors import PermissionDeniedError, RepositoryNotFoundError


class AccessRules(msgspec.Struct, frozen=True, kw_only=True):
    """Who may read and write; the owner may always do both.

    Attributes
    ----------
    owner : str
        User name or number of who made it.
    readers, writers : tuple of str
        User names or numbers, ``@group``, or ``*`` for everybody. Writers may read.
    """

    owner: str
    readers: tuple[str, ...] = ()
    writers: tuple[str, ...] = ()

    def may_write(self, who: Identity) -> bool:
        """Whether ``who`` may add datasets, types, collections and records."""
        return who.uid == 0 or who.matches((self.owner, *self.writers))

    def may_read(self, who: Identity) -> bool:
        """Whether ``who`` may know what the repository holds, and read it."""
        return who.matches(self.readers) or self.may_write(who)

    def require_read(self, who: Identity, repository: str) -> None:
        """Raise `PermissionDeniedError` unless ``who`` may read."""
        if not self.may_read(who):
            raise PermissionDeniedError(
                f"user {who.user_name} may not read the repository {repository!r}",
                hint=f"its owner is {self.owner}; "
                f"they can add you to 'readers' in its pantry.yaml, read when the daemon starts",
            )

    def require_write(self, who: Identity, repository: str) -> None:
        """Raise `PermissionDeniedError` unless ``who`` may write."""
        self.require_read(who, repository)
        if not self.may_write(who):
            raise PermissionDeniedError(
                f"user {who.user_name} may not write to the repository {repository!r}",
                hint=f"its owner is {self.owner}; "
                f"they can add you to 'writers' in its pantry.yaml, read when the daemon starts",
            )

    def require_owner(self, who: Identity, repository: str) -> None:
        """Raise `PermissionDeniedError` unless ``who`` may remove the repository."""
        if who.uid != 0 and not who.matches((self.owner,)):
            self.require_read(who, repository)
            raise PermissionDeniedError(
                f"user {who.user_name} may not remove the repository {repository!r}",
                hint=f"its owner is {self.owner}; only they can",
            )


def unknown_repository(name: str) -> RepositoryNotFoundError:
    """Make the error for a name that is not registered."""
    return RepositoryNotFoundError(
        f"no repository is registered by the name {name!r}", hint="`pantry repo list` shows those that you may read"
    )


def being_removed(name: str, keep_files_of: Sequence[str] = ()) -> RepositoryNotFoundError:
    """Make the error for a repository of which only a part is left."""
    command = " ".join(["pantry repo remove", name, *(f"--keep-files-of {other}" for other in keep_files_of)])
    return RepositoryNotFoundError(
        f"the repository {name!r} is being removed", hint=f"its owner goes on with `{command}`"
    )
