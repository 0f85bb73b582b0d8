"""What a certificate is to us: its kinds, its states, and the facts that people read on a list."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum


class CertificateType(StrEnum):
    """``server``: a chain and its private key. ``ca``: one or more CA certificates, no key (mutual TLS)."""

    SERVER = "server"
    CA = "ca"


class CertificateSource(StrEnum):
    """``third_party``: uploaded. ``managed``: picked from a certificate service; server only."""

    THIRD_PARTY = "third_party"
    MANAGED = "managed"


class CertificateState(StrEnum):
    """``validating`` until the worker has looked, then ``valid`` or ``rejected``; ``deleting``, then ``deleted``."""

    VALIDATING = "validating"
    VALID = "valid"
    REJECTED = "rejected"
    DELETING = "deleting"
    DELETED = "deleted"


def title_of(common_name: str | None, names: Sequence[str], name: str) -> str:
    """What a certificate is called where people act on it: the common name, if clients go by it.

    They go by ``names`` (RFC 9525 §2: the common name is no identity), which are ASCII; a common name that is not among
    them can say anything, in any letters. What has no names (a CA) is called by its common name, or as its owner does.
    """
    if not names:
        return common_name or name
    return common_name if common_name is not None and common_name in names else names[0]


@dataclass(frozen=True, slots=True, kw_only=True)
class CertificateFacts:
    """What one X.509 certificate says of itself. No key material.

    ``serial`` is lower-case hex without separators; fingerprints are lower-case hex of the DER (RFC 5280);
    ``names`` are the subjectAltName DNS names and IP addresses, the common name only where there is no SAN;
    ``key_algorithm`` is spelled as in a region's key policy (``rsa-2048``, ``ec-p256``).
    """

    common_name: str | None
    names: tuple[str, ...]
    subject: str
    issuer: str
    serial: str
    not_before: datetime
    not_after: datetime
    key_algorithm: str
    signature_hash: str | None
    fingerprint_sha1: str
    fingerprint_sha256: str
    is_ca: bool | None
    """basicConstraints cA; ``None`` when the extension is absent."""
    is_self_signed: bool
    for_server_auth: bool
    """True without an extendedKeyUsage, or with serverAuth or anyExtendedKeyUsage in it (RFC 5280 §4.2.1.12)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Material:
    """What is sent to a load balancer: canonical PEM, re-encoded from DER, never the user's bytes.

    ``certificate_pem``: leaf first, LF, 64 columns, no text, no blank lines (for ``ca``: the CA certificates).
    ``private_key_pem``: unencrypted PKCS#1 for RSA, PKCS#8 otherwise; ``None`` for ``ca``.
    """

    type: CertificateType
    certificate_pem: str
    private_key_pem: str | None = None
    fingerprint_sha256: str

    def __repr__(self) -> str:
        """Never the key, also in a traceback's locals."""
        return f"Material({self.type}, {self.fingerprint_sha256})"
