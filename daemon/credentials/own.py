"""Options of backends that are asked with a user's own credential."""

from __future__ import annotations

from collections.abc import Mapping

import trio

from pantry.backends.credentials import NOT_FOR_USERS
from pantry.daemon.config import DaemonConfig
from pantry.daemon.config.secrets import Options, has_sources
from pantry.daemon.credentials.held import HeldCredentials, covers
from pantry.daemon.credentials.renewed import Made
from pantry.errors import ConfigError

REFUSED = "your credential does not permit it there; `pantry credentials list` shows which are held of you"
"""What to do if an origin refuses a user."""


class OwnOptions:
    """Options of an origin with the credential that a user has for it at present.

    Parameters
    ----------
    options : Options
        As configured; whatever says who the node is itself does not count.
    uri : str
        Of the origin.
    uid : int
        The user.
    held : HeldCredentials
        Has it.
    """

    def __init__(self, options: Options, uri: str, uid: int, held: HeldCredentials) -> None:
        plain = {name: value for name, value in options.items() if name not in NOT_FOR_USERS}
        if has_sources(plain):
            raise ConfigError(
                f"the options of {uri}: only a credential can be a secret, and there it is the user's own"
            )
        self._options: Mapping[str, object] = plain
        self._uri = uri
        self._uid = uid
        self._held = held

    def stand_in(self) -> Made:
        """As of `OptionSource`."""
        return self._options

    async def now(self) -> Made:
        """Return the options with the present credential; raises as `HeldCredentials.for_origin`."""
        await trio.lowlevel.checkpoint()
        return {**self._options, **self._held.for_origin(self._uid, self._uri).options}


def is_for_users(config: DaemonConfig, uri: str) -> bool:
    """Whether anything of the configuration that is asked with users' own rights is at or below a URI, or around it."""
    matches = [one.match for one in config.storage if one.rights == "user"]
    roots = [one.root for one in config.services.values() if one.rights == "user"]
    return any(uri.startswith(one) or covers(uri, one) for one in matches) or any(covers(uri, one) for one in roots)
