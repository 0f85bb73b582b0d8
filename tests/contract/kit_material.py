"""What the driver kit stages and binds: certificates with keys, their owners, listeners."""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import Any, Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from shared.domain.certificates import CertificateType, Material
from shared.usecases.driver import Driver, Listener, ObjectName, Owner, Ref, Staged

BORN: Final = datetime(2026, 1, 1, tzinfo=UTC)
LIFETIME: Final = timedelta(days=3650)
"""Drivers do not look at dates, so a fixed instant never expires a test."""


def server_material(common_name: str = "shop.example", *, serial: int = 1) -> Material:
    """A self-signed leaf and its key; another serial is other content."""
    pem, key, fingerprint = _self_signed(common_name, serial, is_ca=False)
    return Material(
        type=CertificateType.SERVER, certificate_pem=pem, private_key_pem=key, fingerprint_sha256=fingerprint
    )


def ca_material(common_name: str = "Clients CA", *, certificates: int = 1) -> Material:
    """So many CA certificates in one object; the fingerprint is the first one's."""
    made = [_self_signed(f"{common_name} {number}", number + 1, is_ca=True) for number in range(certificates)]
    return Material(
        type=CertificateType.CA, certificate_pem="".join(pem for pem, _, _ in made), fingerprint_sha256=made[0][2]
    )


def owner(account_id: str = "acct_one", *, certificate_id: str = "cert_one") -> Owner:
    """Somebody's certificate."""
    return Owner(account_id=account_id, certificate_id=certificate_id)


def absent_ref(material: Material | None = None) -> Ref:
    """A well-formed reference to what nobody staged."""
    name = ObjectName.of(material or server_material(), owner(certificate_id="cert_absent"))
    return Ref(name=name, remote_id=name.label)


def listener_of(staged: Staged | Ref, **changes: Any) -> Listener:
    """A one-way listener of one host, with that server certificate; ``changes`` are fields of the listener."""
    server = staged.ref if isinstance(staged, Staged) else staged
    fields = {"account_id": server.name.account_id, "listener_id": "lsn_one", "hosts": ("shop.example",)}
    return Listener(**{**fields, "server": server, **changes})


def stage_server(driver: Driver, serial: int = 1, *, account_id: str = "acct_one") -> Ref:
    """A server certificate on the balancer; another ``serial`` is another certificate."""
    one = owner(account_id, certificate_id=f"cert_{serial}")
    return driver.stage(server_material(serial=serial), owner=one).ref


def stage_ca(driver: Driver, common_name: str = "Clients CA", *, account_id: str = "acct_one") -> Ref:
    """A CA certificate on the balancer."""
    one = owner(account_id, certificate_id=f"ca_{common_name.lower().replace(' ', '_')}")
    return driver.stage(ca_material(common_name), owner=one).ref


def leaf_of(serial: int = 1) -> str:
    """SHA-256 of the leaf that :func:`stage_server` staged."""
    return server_material(serial=serial).fingerprint_sha256


def key_lines(material: Material) -> set[str]:
    """The lines of a private key that nothing else has."""
    assert material.private_key_pem is not None
    return {line for line in material.private_key_pem.splitlines() if line and not line.startswith("-")}


@cache
def _self_signed(common_name: str, serial: int, *, is_ca: bool) -> tuple[str, str, str]:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])
    certificate = (
        x509.CertificateBuilder(subject_name=name, issuer_name=name, public_key=key.public_key(), serial_number=serial)
        .not_valid_before(BORN)
        .not_valid_after(BORN + LIFETIME)
        .add_extension(x509.BasicConstraints(ca=is_ca, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    pem = certificate.public_bytes(Encoding.PEM).decode()
    key_pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
    return pem, key_pem, hashlib.sha256(certificate.public_bytes(Encoding.DER)).hexdigest()
