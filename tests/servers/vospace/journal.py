"""What came, for tests to look at from outside."""

from __future__ import annotations

import collections
import itertools
import threading

import msgspec

_MAX_ENTRIES = 20_000


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
    document : str
        The XML that was sent, if documents are kept.
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
    document: str = ""


class Journal:
    """The latest requests since the last `clear`.

    Attributes
    ----------
    keeps_documents : bool
        Whether entries have what was sent.
    """

    def __init__(self) -> None:
        self.keeps_documents = False
        self._entries: collections.deque[Entry] = collections.deque(maxlen=_MAX_ENTRIES)
        self._numbers = itertools.count(1)
        self._lock = threading.Lock()

    def begin(self, entry: Entry) -> Entry:
        with self._lock:
            self._entries.append(entry)
            entry.number = next(self._numbers)
        return entry

    def entries(self) -> list[Entry]:
        with self._lock:
            return list(self._entries)

    def clear(self, *, keep_documents: bool) -> None:
        with self._lock:
            self._entries.clear()
            self.keeps_documents = keep_documents
