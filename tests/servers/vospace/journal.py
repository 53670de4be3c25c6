"""What came, for tests to look at from outside."""

from __future__ import annotations

import threading

import msgspec


class Entry(msgspec.Struct, kw_only=True):
    """One request.

    Attributes
    ----------
    number : int
        From 1, in the order of arrival.
    listener : str
        "service" or "data", and "+tls".
    path : str
        As sent, with its query.
    endpoint : str
        First segment below the service.
    user, method_of_user : str
        Who asked, and by what; empty and "anonymous" if nobody said.
    has_credentials : bool
        Whether an Authorization header came, valid or not.
    status : int
        0 as long as nothing has been answered.
    received_bytes, sent_bytes : int
        Of the bodies.
    """

    number: int = 0
    listener: str
    method: str
    path: str
    endpoint: str = ""
    range: str = ""
    user: str = ""
    method_of_user: str = "anonymous"
    has_credentials: bool = False
    user_agent: str = ""
    status: int = 0
    received_bytes: int = 0
    sent_bytes: int = 0


class Journal:
    """All requests since the last `clear`."""

    def __init__(self) -> None:
        self._entries: list[Entry] = []
        self._lock = threading.Lock()

    def begin(self, entry: Entry) -> Entry:
        with self._lock:
            self._entries.append(entry)
            entry.number = len(self._entries)
        return entry

    def entries(self) -> list[Entry]:
        with self._lock:
            return list(self._entries)

    def clear(self) -> None:
        with self._lock:
            self._entries.clear()
