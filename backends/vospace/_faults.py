"""The standard's faults (VOSpace 2.1, section 5.5), as services tell them, and what each means here."""

from __future__ import annotations

import re
from collections.abc import Mapping

from pantry.backends.retry_after import telling_when
from pantry.backends.vospace._documents import read_error
from pantry.errors import (
    BackendAccessError,
    BackendError,
    ObjectExistsError,
    ObjectNotFoundError,
    TransientBackendError,
)

_MISSING = frozenset({"NodeNotFound", "ContainerNotFound", "UnreadableNode"})
_FULL = frozenset({"QuotaExceeded", "ContainerQuotaExceeded", "NoSpace", "OutOfSpace"})
_NO_ACCESS = frozenset({"PermissionDenied", "NotAuthenticated", "AuthenticationFailed"})
_PASSING = frozenset({"NodeBusy", "ServiceBusy", "InternalFault", "TransferFailed", "InsufficientServerResources"})
_NAMES = ("DuplicateNode", "LinkFound", *sorted(_MISSING | _FULL | _NO_ACCESS | _PASSING))
_BY_STATUS = {
    401: "NotAuthenticated",
    403: "PermissionDenied",
    404: "NodeNotFound",
    409: "DuplicateNode",
    413: "QuotaExceeded",
    507: "QuotaExceeded",
}
_SAID_CHARACTERS = 200


def fault_name(status: int, body: bytes) -> str:
    """Name the fault of an answer: the body's word if it is one of the standard's, else by the HTTP status."""
    said = fault_in(_readable(body))
    return said or _BY_STATUS.get(status, "")


def fault_in(text: str) -> str:
    """Find the name of a fault at the beginning of a text, also one in words ("Node Not Found"); else empty."""
    letters = re.sub(r"[^A-Za-z]+", "", text[:_SAID_CHARACTERS]).lower()
    return next((name for name in _NAMES if name.lower() in letters), "")


def fault(name: str, key: str, said: str, *, status: int = 0, headers: Mapping[str, str] = {}) -> BackendError:
    """Make the error for a fault of the service about ``key``."""
    told = f"the VOSpace service answered {name or status} for {key!r}"
    if name in _MISSING:
        return ObjectNotFoundError(f"no object {key!r}", key=key)
    if name == "DuplicateNode":
        return ObjectExistsError(f"{key!r} exists already", key=key)
    if name in _NO_ACCESS:
        return BackendAccessError(
            told,
            hint="Check the credential of this storage root (token, or username and password, or certificate), "
            "whether it has expired, and the rights of the node.",
            key=key,
        )
    if name in _FULL:
        return BackendError(told, hint="The quota of this space is used up: free room, or ask who runs it.", key=key)
    if name == "LinkFound":
        return BackendError(told, hint="A link to a container stands in the path: name where it leads to.", key=key)
    if name in _PASSING or status >= 500 or status in (408, 425, 429):
        return telling_when(TransientBackendError(told, key=key), headers)
    detail = " ".join(said.split())[:_SAID_CHARACTERS]
    return BackendError(f"{told}: {detail}" if detail else told, key=key)


def answered(status: int, headers: Mapping[str, str], body: bytes, key: str) -> BackendError:
    """Make the error for an HTTP answer that is none of success."""
    return fault(fault_name(status, body), key, _readable(body), status=status, headers=headers)


def _readable(body: bytes) -> str:
    try:
        return read_error(body)
    except BackendError:
        return ""
