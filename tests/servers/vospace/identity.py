"""Who asks: basic authentication, bearer tokens, X.509 certificates and their proxies (SSO 2.0)."""

from __future__ import annotations

import base64
import binascii
import hmac
import ssl
from email.message import Message

from cryptography import x509
from tests.servers.vospace.config import Account
from tests.servers.vospace.faults import Fault
from tests.servers.vospace.service import Service

_PROXY_INFO = x509.ObjectIdentifier("1.3.6.1.5.5.7.1.14")  # RFC 3820, section 3.8
CHALLENGES = ('Basic realm="vospace"', "Bearer")


def identify(service: Service, headers: Message, connection: object) -> Account | None:
    """The account of a request; None for anonymous. Credentials that prove nothing are a fault, not anonymous."""
    header = headers.get("Authorization")
    if header is not None:
        scheme, _, credentials = header.strip().partition(" ")
        if scheme.lower() == "basic":
            return _by_password(service, credentials.strip())
        if scheme.lower() == "bearer":
            return _by_token(service, credentials.strip())
        raise Fault("NotAuthenticated", f"nothing is known of {scheme}")
    if isinstance(connection, ssl.SSLSocket) and (certificate := connection.getpeercert(binary_form=True)):
        return _by_certificate(service, certificate)
    return None


def method_of(headers: Message, connection: object, account: Account | None) -> str:
    """For the log: "basic", "bearer", "certificate" or "anonymous"."""
    if account is None:
        return "anonymous"
    header = headers.get("Authorization")
    return header.split(" ")[0].lower() if header is not None else "certificate"


def _by_password(service: Service, credentials: str) -> Account:
    try:
        name, _, password = base64.b64decode(credentials, validate=True).decode().partition(":")
    except (binascii.Error, UnicodeDecodeError):
        raise Fault("NotAuthenticated", "not Basic authentication") from None
    account = service.account(name)
    if account is None or not account.password or not _same(account.password, password):
        raise Fault("NotAuthenticated", "unknown user or wrong password")
    return account


def _by_token(service: Service, token: str) -> Account:
    for account in service.accounts:
        if account.token and _same(account.token, token):
            return account
    raise Fault("NotAuthenticated", "the token is not valid")


def _by_certificate(service: Service, certificate: bytes) -> Account:
    """TLS has verified the chain; a proxy stands for whoever its name begins with (RFC 3820, section 3.4)."""
    parsed = x509.load_der_x509_certificate(certificate)
    subject = parsed.subject
    candidates = [subject]
    if any(extension.oid == _PROXY_INFO for extension in parsed.extensions):
        # A proxy's subject is its issuer's with one more CN; an issuer may be a proxy itself.
        while len(subject.rdns) > 1:
            subject = x509.Name(subject.rdns[:-1])
            candidates.append(subject)
    for account in service.accounts:
        if account.distinguished_name and account.distinguished_name in [each.rfc4514_string() for each in candidates]:
            return account
    raise Fault("NotAuthenticated", f"nobody here is {parsed.subject.rfc4514_string()}")


def _same(one: str, other: str) -> bool:
    return hmac.compare_digest(one.encode(), other.encode())
