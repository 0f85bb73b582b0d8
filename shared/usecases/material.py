"""What is sent to load balancers: a valid certificate's canonical content, with its key opened."""

from __future__ import annotations

from sqlalchemy.orm import Session

from shared.crypto.vault import Binding, Vault
from shared.domain.certificates import CertificateType, Material
from shared.models import Certificate, Purpose, Secret
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
    key = session.get(Secret, (certificate.id, Purpose.PRIVATE_KEY)) if has_key(certificate) else None
    return opened(context.vault, certificate, key)


def has_key(certificate: Certificate) -> bool:
    """Whether a private key belongs to it."""
    return certificate.type == CertificateType.SERVER


def opened(vault: Vault, certificate: Certificate, key: Secret | None) -> Material:
    """As :func:`material_of` from what was read before: the key as it is kept.

    Raises:
        NotFound, CannotOpen: as there.
    """
    clear = secrets.opened(vault, key_binding(certificate), key) if has_key(certificate) else None
    return Material(
        type=CertificateType(certificate.type),
        certificate_pem=certificate.chain_pem or "",
        private_key_pem=clear.decode() if clear else None,
        fingerprint_sha256=certificate.fingerprint_sha256 or "",
    )


def owner_of(certificate: Certificate) -> Owner:
    """Whose it is, as drivers name objects by it."""
    return Owner(account_id=certificate.account_id, certificate_id=certificate.id)
