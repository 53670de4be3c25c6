"""Sessions of requests: what goes with every request, and what never does. Only `_blocking` modules import it."""

from __future__ import annotations

import base64
import http.cookiejar
import logging
import os
import ssl
from typing import Any

from pantry.backends.credentials import BasicAuth, BearerToken, ClientCertificate, Credential, Secret
from pantry.backends.timed_heads import TimedAnswer
from pantry.errors import BackendAccessError


def make_session(credential: Credential | None, *, ca_file: str | None, max_connections: int) -> Any:
    """Make a session that sends ``credential`` with each request; no cookies, no proxies, no ``.netrc``.

    Parameters
    ----------
    credential : Credential or None
        Whoever follows a redirect to another host uses another session there.
    ca_file : str or None
        Path of the certificates that servers' may be signed by, in place of the usual ones.
    max_connections : int
        Connections kept to each host.
    """
    import requests

    # At DEBUG it logs the paths of all requests.
    logger = logging.getLogger("urllib3")
    logger.setLevel(max(logger.level, logging.INFO))
    session = requests.Session()
    # Else the environment's .netrc would add a password of its own.
    session.trust_env = False
    session.cookies.set_policy(http.cookiejar.DefaultCookiePolicy(allowed_domains=[]))
    session.headers["User-Agent"] = "butler-pantry"
    session.headers["Accept-Encoding"] = "identity"
    if ca_file:
        session.verify = ca_file
    match credential:
        case BearerToken(token=token):
            session.headers["Authorization"] = f"Bearer {token.reveal()}"
        case BasicAuth(username=name, password=password):
            pair = base64.b64encode(f"{name}:{password.reveal()}".encode()).decode()
            session.headers["Authorization"] = f"Basic {pair}"
    pem = credential.pem if isinstance(credential, ClientCertificate) else None
    adapter = _adapter(max_connections, _context(pem, ca_file) if pem is not None else None)
    session.mount("http://", adapter)
    session.mount("https://", adapter)
    return session


def _adapter(max_connections: int, context: ssl.SSLContext | None) -> Any:
    from requests.adapters import HTTPAdapter
    from urllib3 import HTTPConnectionPool, HTTPSConnectionPool

    class Connection(HTTPConnectionPool.ConnectionCls):  # type: ignore[misc, valid-type]
        response_class = TimedAnswer

    class SecureConnection(HTTPSConnectionPool.ConnectionCls):  # type: ignore[misc, valid-type]
        response_class = TimedAnswer

    class Pool(HTTPConnectionPool):
        ConnectionCls = Connection

    class SecurePool(HTTPSConnectionPool):
        ConnectionCls = SecureConnection

    class Adapter(HTTPAdapter):
        """Keeps connections, shows the client certificate, and waits for no head for ever."""

        def init_poolmanager(self, *args: Any, **more: Any) -> None:
            if context is not None:
                more["ssl_context"] = context
            super().init_poolmanager(*args, **more)
            self.poolmanager.pool_classes_by_scheme = {"http": Pool, "https": SecurePool}

    return Adapter(pool_connections=8, pool_maxsize=max_connections, max_retries=0)


def _context(pem: Secret, ca_file: str | None) -> ssl.SSLContext:
    """Make the TLS settings with a client certificate, which never lies in a file that has a name."""
    # Only these, else: whoever says which certificates are trusted means no others.
    context = ssl.create_default_context(cafile=ca_file or None)
    fd = os.memfd_create("certificate", os.MFD_CLOEXEC)
    try:
        os.write(fd, pem.reveal().encode())
        context.load_cert_chain(f"/proc/self/fd/{fd}", password=_no_password)
    except (ssl.SSLError, OSError, ValueError):
        raise BackendAccessError(
            "the client certificate cannot be used",
            hint="It must be PEM: the certificate, its chain, and its private key without a pass phrase.",
        ) from None
    finally:
        os.close(fd)
    return context


def _no_password() -> str:
    # Else OpenSSL would ask at the terminal.
    raise ValueError("the key has a pass phrase")
