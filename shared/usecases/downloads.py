"""Take a certificate out again, with its key: the only way that a private key leaves."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime

from sqlalchemy.orm import Session

from shared.domain.certificates import CertificateState
from shared.errors import Conflict
from shared.usecases import audit
from shared.usecases.browsing import find_certificate
from shared.usecases.context import Context
from shared.usecases.material import material_of
from shared.usecases.tokens import Caller


@dataclass(frozen=True, slots=True, kw_only=True)
class Download:
    """Canonical PEM: the chain leaf first, and for a server certificate its key."""

    name: str
    certificate_pem: str
    private_key_pem: str | None = field(repr=False)


def download_certificate(
    context: Context, session: Session, caller: Caller, certificate_id: str, *, now: datetime
) -> Download:
    """The content as it is sent to load balancers; who took it is written down.

    Raises:
        NotFound: none of that id in this account.
        Conflict: it is not valid (yet, or any more).
    """
    certificate = find_certificate(session, caller, certificate_id)
    if certificate.state != CertificateState.VALID or certificate.chain_pem is None:
        raise Conflict(
            f"The certificate is {certificate.state}; only a valid one can be downloaded.",
            code="certificate_not_valid",
            hint="Wait until its job has validated it, or look at its findings.",
        )
    content = material_of(context, session, certificate)
    audit.note(session, caller, "certificate.downloaded", certificate.id, now=now)
    return Download(
        name=certificate.name, certificate_pem=content.certificate_pem, private_key_pem=content.private_key_pem
    )
