"""Change what is said about a certificate: its name, contacts, tags, and whether anybody is reminded."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy.orm import Session

from shared.domain.certificates import CertificateState
from shared.errors import Conflict
from shared.models import Certificate
from shared.usecases import audit
from shared.usecases.browsing import find_certificate
from shared.usecases.tokens import Caller


def edit_certificate(
    session: Session, caller: Caller, certificate_id: str, changes: dict[str, Any], *, now: datetime
) -> Certificate:
    """Set ``name``, ``contacts``, ``tags``, ``reminders_muted``, ``auto_renew``, ``renew_before_days`` as far as given.

    Lists and maps as a whole.

    Raises:
        NotFound: none of that id in this account.
        Conflict: it is being deleted.
    """
    certificate = find_certificate(session, caller, certificate_id, lock=True)
    if certificate.state == CertificateState.DELETING:
        raise Conflict("The certificate is being deleted.", code="being_deleted", hint="Nothing to do.")
    if "contacts" in changes:
        changes = {**changes, "contacts": list(dict.fromkeys(changes["contacts"]))}
    for name in sorted(changes):
        setattr(certificate, name, changes[name])
    if changes:
        audit.note(session, caller, "certificate.edited", certificate.id, now=now, details={"fields": sorted(changes)})
    return certificate
