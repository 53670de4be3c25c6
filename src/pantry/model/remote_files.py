"""Files that a repository refers to where they are: a URL, and the version that the file had when it was registered."""

from __future__ import annotations

import re
from typing import NamedTuple
from urllib.parse import quote, unquote, urlsplit

from pantry.errors import InvalidRequestError

MAX_URL = 2048
"""Most characters of a URL."""

_PORTS = {"http": 80, "https": 443}
_NEVER = re.compile(r"[^\x21-\x7e]|[\\\"<>^`{|}]")
# No key of a storage has two slashes, so that none is ever taken for one of these.
_STORED = re.compile(r"@([A-Za-z0-9%._~-]+)@(https?://[^\s]+)\Z")


class RemoteFile(NamedTuple):
    """A file in another archive.

    Attributes
    ----------
    url : str
        As of `plain_url`.
    version : str
        What the server said of it: an ETag, or time of change and size.
    """

    url: str
    version: str

    @property
    def path(self) -> str:
        """What the registry records in place of a key; it ends like the URL, as suffixes matter."""
        return f"@{quote(self.version, safe='')}@{self.url}"


def remote_file(path: str) -> RemoteFile | None:
    """Return which file in another archive a stored path means; None for one in the repository's own storage."""
    if not path.startswith("@"):
        return None
    found = _STORED.match(path)
    return RemoteFile(found[2], unquote(found[1])) if found else None


def plain_url(text: str) -> str:
    """Return the URL of a file in the one form that URLs are compared in.

    Raises
    ------
    InvalidRequestError
        Why it cannot be the URL of such a file. What may be a secret is in no message.
    """
    if len(text) > MAX_URL or _NEVER.search(text):
        raise InvalidRequestError("the URL is too long, or has characters that no URL has")
    try:
        parts = urlsplit(text)
        port = parts.port
    except ValueError:
        raise InvalidRequestError("this is no URL") from None
    scheme, host = parts.scheme.lower(), (parts.hostname or "").lower()
    if scheme not in _PORTS or not host:
        raise InvalidRequestError("only http and https URLs can be registered")
    if parts.username is not None or parts.password is not None:
        raise InvalidRequestError("the URL has a user or password in it")
    if parts.query or parts.fragment or "?" in text or "#" in text:
        raise InvalidRequestError(
            "the URL has a query or fragment", hint="only URLs that are paths below a configured root can be registered"
        )
    path = _decoded(parts.path)
    where = f"[{host}]" if ":" in host else host
    return f"{scheme}://{where}" + (f":{port}" if port not in (None, _PORTS[scheme]) else "") + quote(path, safe="/")


def _decoded(path: str) -> str:
    lowered = path.lower()
    # A server may take an encoded slash for another thing than a slash.
    if "%2f" in lowered or "%00" in lowered or re.search(r"%(?![0-9a-fA-F]{2})", path):
        raise InvalidRequestError("the URL's path has '%2F', '%00' or a '%' that encodes nothing")
    try:
        decoded = unquote(path, errors="strict")
    except UnicodeDecodeError:
        raise InvalidRequestError("the URL's path is not UTF-8") from None
    if any(part in (".", "..") for part in decoded.split("/")) or "//" in decoded:
        raise InvalidRequestError("the URL's path has '.', '..' or '//' in it")
    return decoded


def key_below(root: str, url: str) -> str | None:
    """Return the key of a file below a root; None if it is not below it, or the root is no URL.

    Parameters
    ----------
    root : str
        Of a storage, as it is configured.
    url : str
        As of `plain_url`.
    """
    try:
        above = plain_url(root).rstrip("/") + "/"
    except InvalidRequestError:
        return None
    if not url.startswith(above) or url.endswith("/"):
        return None
    return unquote(url.removeprefix(above)) or None
