"""Throw-away certificates: an authority, a server, people, and proxies of people (RFC 5280, RFC 3820)."""

from __future__ import annotations

import datetime
import ipaddress
import os
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID, ObjectIdentifier

_PROXY_INFO = ObjectIdentifier("1.3.6.1.5.5.7.1.14")
# ProxyCertInfo: SEQUENCE { ProxyPolicy: SEQUENCE { policyLanguage: id-ppl-inheritAll } }, in DER.
_INHERIT_ALL = bytes.fromhex("300c300a06082b06010505071501")
_SLACK = datetime.timedelta(minutes=5)
_LIFE = datetime.timedelta(days=30)


class Identity(NamedTuple):
    """A key and its certificate, with those that it needs to be believed."""

    key: ec.EllipticCurvePrivateKey
    certificate: x509.Certificate
    chain: tuple[x509.Certificate, ...] = ()

    @property
    def distinguished_name(self) -> str:
        return self.certificate.subject.rfc4514_string()

    def write(self, path: Path) -> Path:
        """Key, certificate and chain in one PEM file, for its owner only."""
        private = self.key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        chain = (self.certificate, *self.chain)
        text = b"".join(each.public_bytes(serialization.Encoding.PEM) for each in chain) + private
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(text)
        return path


class Authority:
    """Signs certificates that nobody outside a test believes."""

    def __init__(self) -> None:
        key = ec.generate_private_key(ec.SECP256R1())
        name = _name("the test's authority")
        usage = x509.KeyUsage(False, False, False, False, False, True, True, False, False)
        certificate = _sign(
            name, key, name, key, [(x509.BasicConstraints(ca=True, path_length=None), True), (usage, True)]
        )
        self.identity = Identity(key, certificate)

    def write_certificate(self, path: Path) -> Path:
        path.write_bytes(self.identity.certificate.public_bytes(serialization.Encoding.PEM))
        return path

    def server(self, addresses: Sequence[str]) -> Identity:
        """For a server at these IP addresses, and localhost."""
        names: list[x509.GeneralName] = [x509.IPAddress(ipaddress.ip_address(each)) for each in addresses]
        alternatives = x509.SubjectAlternativeName([*names, x509.DNSName("localhost")])
        return self._issue("server", [(alternatives, False), _usage(ExtendedKeyUsageOID.SERVER_AUTH)])

    def person(self, name: str) -> Identity:
        """For a person."""
        return self._issue(name, [_usage(ExtendedKeyUsageOID.CLIENT_AUTH)])

    def _issue(self, name: str, extensions: list[tuple[x509.ExtensionType, bool]]) -> Identity:
        key = ec.generate_private_key(ec.SECP256R1())
        own = [(x509.BasicConstraints(ca=False, path_length=None), True), (_SIGNING, True), *extensions]
        issuer = self.identity
        return Identity(key, _sign(_name(name), key, issuer.certificate.subject, issuer.key, own))


def proxy(holder: Identity, *, life: datetime.timedelta = _LIFE) -> Identity:
    """A proxy certificate: a new key that stands for the holder, for so long."""
    key = ec.generate_private_key(ec.SECP256R1())
    number = str(x509.random_serial_number())
    last = x509.RelativeDistinguishedName([x509.NameAttribute(NameOID.COMMON_NAME, number)])
    subject = x509.Name([*holder.certificate.subject.rdns, last])
    information = x509.UnrecognizedExtension(_PROXY_INFO, _INHERIT_ALL)
    extensions: list[tuple[x509.ExtensionType, bool]] = [(_SIGNING, True), (information, True)]
    certificate = _sign(subject, key, holder.certificate.subject, holder.key, extensions, life)
    return Identity(key, certificate, (holder.certificate, *holder.chain))


_SIGNING = x509.KeyUsage(True, False, False, False, False, False, False, False, False)


def _usage(which: ObjectIdentifier) -> tuple[x509.ExtensionType, bool]:
    return x509.ExtendedKeyUsage([which]), False


def _name(common_name: str) -> x509.Name:
    return x509.Name(
        [
            x509.NameAttribute(NameOID.COUNTRY_NAME, "XX"),
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, "Pantry tests"),
            x509.NameAttribute(NameOID.COMMON_NAME, common_name),
        ]
    )


def _sign(
    subject: x509.Name,
    key: ec.EllipticCurvePrivateKey,
    issuer: x509.Name,
    issuer_key: ec.EllipticCurvePrivateKey,
    extensions: Sequence[tuple[x509.ExtensionType, bool]],
    life: datetime.timedelta = _LIFE,
) -> x509.Certificate:
    now = datetime.datetime.now(datetime.UTC)
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _SLACK)
        .not_valid_after(now + life)
    )
    for extension, critical in extensions:
        builder = builder.add_extension(extension, critical)
    return builder.sign(issuer_key, hashes.SHA256())
