"""Where an answer sends whoever asked: followed by us, never by a library, so that credentials stay at home."""

from __future__ import annotations

from urllib.parse import urljoin, urlsplit

from pantry.errors import BackendError

REDIRECTS = frozenset({301, 302, 303, 307, 308})
_PORTS = {"http": 80, "https": 443}


def redirected(url: str, location: str, key: str) -> str:
    """Return where ``location``, in the answer of ``url``, leads.

    Raises
    ------
    BackendError
        If that is no URL of a web server, or not encrypted where ``url`` is.
    """
    try:
        target = urljoin(url, location)
        after = urlsplit(target)
        _ = after.port
    except ValueError:
        raise BackendError(f"the server redirects {key!r} to no URL", key=key) from None
    if not location or after.scheme not in _PORTS or not after.hostname:
        raise BackendError(f"the server redirects {key!r} to what is no HTTP: refused", key=key)
    if urlsplit(url).scheme == "https" and after.scheme == "http":
        raise BackendError(f"the server redirects {key!r} from https to http: refused", key=key)
    return target


def server_of(url: str) -> tuple[str, str, int]:
    """Scheme, host and port of a URL; the port is 0 if there is none that could be meant."""
    parts = urlsplit(url)
    try:
        port = parts.port or _PORTS.get(parts.scheme, 0)
    except ValueError:
        port = 0
    return parts.scheme, (parts.hostname or "").lower(), port
