"""What is sent to load balancers: a valid certificate's canonical content, with its key opened."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy.orm import Session

from shared.crypto.vault import Binding
from shared.domain.certificates import CertificateType, Material
from shared.models import Certificate, Purpose
from shared.usecases import secrets
from shared.usecases.context import Context
from shared.usecases.driver import Owner


def key_binding(certificate: Certificate) -> Binding:
    """Where the private key is kept."""
    return Binding(account_id=certificate.account_id, subject_id=certificate.id, purpose=Purpose.PRIVATE_KEY)


def material_of(context: Context, session: Session, certificate: Certificate) -> Material:
    """The content to stage; its key is in clear, so it lives for one act only.

    Raises:
        NotFound: the key was destroyed.
        CannotOpen: the vault has not its key-encryption key.
    """
    return materials_of(context, session, [certificate])[0]


def materials_of(context: Context, session: Session, certificates: Sequence[Certificate]) -> list[Material]:
    """As :func:`material_of` for each, the keys read at once."""
    servers = [each for each in certificates if each.type == CertificateType.SERVER]
    keys = secrets.read_all(session, context.vault, [key_binding(each) for each in servers]) if servers else {}
    return [_material(certificate, keys.get(certificate.id)) for certificate in certificates]


def _material(certificate: Certificate, key: bytes | None) -> Material:
    return Material(
        type=CertificateType(certificate.type),
        certificate_pem=certificate.chain_pem or "",
        private_key_pem=key.decode() if key else None,
        fingerprint_sha256=certificate.fingerprint_sha256 or "",
    )


def owner_of(certificate: Certificate) -> Owner:
    """Whose it is, as drivers name objects by it."""
    return Owner(account_id=certificate.account_id, certificate_id=certificate.id)
