"""The storage of the configuration: which options, copies, limit and rights a root has."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial

from pantry.backends.admission import Admission
from pantry.backends.contract import ObjectBackend
from pantry.backends.loading import make_backend
from pantry.daemon.cache.counters import Counters
from pantry.daemon.config import DaemonConfig
from pantry.daemon.config.secrets import SecretSource, has_sources
from pantry.daemon.config.storage import entries_for, is_for_each, longest_for, replica_roots
from pantry.daemon.credentials.held import HeldCredentials
from pantry.daemon.credentials.own import REFUSED, OwnOptions
from pantry.daemon.credentials.renewed import NodeOptions, Renewed, RenewedBackend
from pantry.daemon.transfers.absent import AbsentKeys
from pantry.daemon.transfers.origin import Origin
from pantry.errors import PermissionDeniedError

OptionValue = str | int | float | bool


class Storage:
    """Makes the backends and origins of roots.

    Parameters
    ----------
    config : DaemonConfig
        Options, copies and limits.
    transfers : Admission
        Lets calls into threads.
    counters : Counters
        Where requests are counted.
    offline : Callable[[], bool]
        Whether no origin may be asked.
    held : HeldCredentials
        Users' own.
    """

    def __init__(
        self,
        config: DaemonConfig,
        transfers: Admission,
        counters: Counters,
        offline: Callable[[], bool],
        held: HeldCredentials,
    ) -> None:
        self._config = config
        self._transfers = transfers
        self._counters = counters
        self._offline = offline
        self._held = held
        self._limits: dict[str, Admission] = {}

    def is_for_each(self, root: str) -> bool:
        """Whether a root is read with each user's own rights."""
        return is_for_each(root, self._config.storage)

    def backend_for(self, root: str, options: Mapping[str, OptionValue], uid: int | None = None) -> ObjectBackend:
        """Make the backend of a root, with the configuration's options over the repository's.

        Parameters
        ----------
        root : str
            Its URI.
        options : Mapping
            The repository's.
        uid : int, optional
            The user with whose rights it is asked; the node's own by default.

        Raises
        ------
        PermissionDeniedError
            The root is read with users' own rights only, and no user was named.
        """
        merged: dict[str, OptionValue | SecretSource] = dict(options)
        for one in entries_for(root, self._config.storage):
            merged.update(one.options)
        if uid is None and self.is_for_each(root):
            raise PermissionDeniedError(
                f"{root} is only read here, with the rights of each user",
                hint="what the node does by itself, and writing, needs 'rights: node' in its configuration",
            )
        if uid is not None:
            own = OwnOptions(merged, root, uid, self._held)
            renewed = Renewed(own, lambda made: make_backend(root, made, self._transfers))
            self._held.watch(uid, root, renewed.forget)
            return RenewedBackend(renewed, refused=REFUSED)
        if not has_sources(merged):
            return make_backend(root, merged, self._transfers)
        source = NodeOptions(merged, f"the storage of {root}")
        return RenewedBackend(Renewed(source, lambda made: make_backend(root, made, self._transfers)))

    def origin_for(self, root: str, options: Mapping[str, OptionValue], uid: int | None = None) -> Origin:
        """Make the origin of a root: its backend, and those of its copies with the options of their own URIs.

        A user's own has his rights everywhere: else the root's refusal would lead to what a copy gives the node.
        """
        copies = replica_roots(root, self._config.storage)
        replicas = [self.backend_for(root, options, uid), *(self.backend_for(copy, {}, uid) for copy in copies)]
        return Origin(
            replicas,
            self._transfers,
            absent=AbsentKeys(self._config.cache.negative_ttl_s),
            counters=self._counters,
            stall_s=self._config.limits.stall_s,
            direct=any(one.direct for one in entries_for(root, self._config.storage)),
            offline=self._offline,
            limit=self._limit_for(root),
            rights=tuple if uid is None else partial(self._held.rights, uid, (root, *copies)),
        )

    def _limit_for(self, root: str) -> Admission | None:
        """Return the limit that a root shares with the others of its entry in the configuration."""
        longest = longest_for(root, self._config.storage, lambda one: one.max_concurrent)
        if longest is None:
            return None
        most = longest.max_concurrent
        return self._limits.setdefault(longest.match, Admission(user_limit=most, node_limit=most))
