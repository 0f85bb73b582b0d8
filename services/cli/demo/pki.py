"""The demo's small PKI: a root that clients trust, server certificates below it, a CA for clients, a stranger's CA."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

_FOR_SERVERS: Final = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH])
_FOR_CLIENTS: Final = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH])


@dataclass(frozen=True, slots=True, kw_only=True)
class Authority:
    """A CA that issues."""

    certificate: x509.Certificate
    key: rsa.RSAPrivateKey = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair:
    """What is uploaded: PEM, leaf first; the fingerprint of the leaf."""

    certificate: str
    private_key: str | None = field(repr=False)
    fingerprint_sha256: str


@dataclass(frozen=True, slots=True, kw_only=True)
class DemoPki:
    """All that the demo uploads, and what its clients carry.

    Attributes:
        root: PEM of the root; clients trust it, nobody uploads it.
        server: for both listeners' names.
        successor: new content for the same names, with a key of its own.
        client_ca: its clients are let in.
        customer: a client of it.
        stranger: a client of another CA.
        expiring: has six days left.
    """

    root: str
    server: Pair
    successor: Pair
    client_ca: Pair
    customer: Pair
    stranger: Pair
    expiring: Pair


def build(now: datetime) -> DemoPki:
    """A fresh PKI each time."""
    root = _authority("Demo Root CA", None, now=now)
    issuing = _authority("Demo Issuing CA", root, now=now)
    clients = _authority("Demo Client CA", None, now=now)
    names = ("www.example.com", "api.example.com")
    return DemoPki(
        root=_pem(root.certificate),
        server=_server(names, issuing, days=60, now=now),
        successor=_server(names, issuing, days=90, now=now),
        client_ca=Pair(
            certificate=_pem(clients.certificate), private_key=None, fingerprint_sha256=_digest(clients.certificate)
        ),
        customer=_client("a customer", clients, now=now),
        stranger=_client("a stranger", _authority("Somebody's CA", None, now=now), now=now),
        expiring=_server(("shop.example.com",), issuing, days=6, now=now),
    )


def _authority(name: str, issuer: Authority | None, *, now: datetime) -> Authority:
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    builder = _builder(name, key, issuer.certificate.subject if issuer else None)
    builder = builder.not_valid_before(now - timedelta(days=1)).not_valid_after(now + timedelta(days=3650))
    builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
    return Authority(certificate=builder.sign(issuer.key if issuer else key, hashes.SHA256()), key=key)


def _server(names: tuple[str, ...], issuer: Authority, *, days: int, now: datetime) -> Pair:
    """A 90-day certificate with ``days`` left."""
    end = now + timedelta(days=days, hours=1)
    sans = x509.SubjectAlternativeName([x509.DNSName(name) for name in names])
    return _issued(names[0], issuer, begin=end - timedelta(days=90, hours=2), end=end, extensions=(_FOR_SERVERS, sans))


def _client(name: str, issuer: Authority, *, now: datetime) -> Pair:
    begin, end = now - timedelta(days=1), now + timedelta(days=30)
    return _issued(name, issuer, begin=begin, end=end, extensions=(_FOR_CLIENTS,))


def _issued(
    name: str, issuer: Authority, *, begin: datetime, end: datetime, extensions: tuple[x509.ExtensionType, ...]
) -> Pair:
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    builder = _builder(name, key, issuer.certificate.subject).not_valid_before(begin).not_valid_after(end)
    builder = builder.add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
    for extension in extensions:
        builder = builder.add_extension(extension, critical=False)
    leaf = builder.sign(issuer.key, hashes.SHA256())
    pem = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.TraditionalOpenSSL, serialization.NoEncryption()
    )
    return Pair(
        certificate=_pem(leaf) + _pem(issuer.certificate), private_key=pem.decode(), fingerprint_sha256=_digest(leaf)
    )


def _builder(name: str, key: rsa.RSAPrivateKey, issuer: x509.Name | None) -> x509.CertificateBuilder:
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer or subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
    )


def _pem(certificate: x509.Certificate) -> str:
    return certificate.public_bytes(serialization.Encoding.PEM).decode()


def _digest(certificate: x509.Certificate) -> str:
    return certificate.fingerprint(hashes.SHA256()).hex()
