"""Change what is said about a certificate: its name, contacts, tags, and whether anybody is reminded."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Final

from sqlalchemy.orm import Session

from shared.domain.certificates import CertificateState
from shared.errors import Conflict
from shared.models import Certificate
from shared.models.certificates import LOOK_NOW
from shared.usecases import audit
from shared.usecases.browsing import find_certificate
from shared.usecases.tokens import Caller

_DECIDE_ABOUT_NOTICES: Final = ("contacts", "reminder_thresholds")
"""Not ``reminders_muted``: the scan passes muted ones over, and finds what became due meanwhile."""


def edit_certificate(
    session: Session, caller: Caller, certificate_id: str, changes: dict[str, Any], *, now: datetime
) -> Certificate:
    """Set what may be edited (``CertificatePatchIn``), as far as given; lists and maps as a whole.

    Raises:
        NotFound: none of that id in this account.
        Conflict: it is being deleted.
    """
    certificate = find_certificate(session, caller, certificate_id, lock=True)
    if certificate.state == CertificateState.DELETING:
        raise Conflict("The certificate is being deleted.", code="being_deleted", hint="Nothing to do.")
    if "contacts" in changes:
        changes = {**changes, "contacts": list(dict.fromkeys(changes["contacts"]))}
    if changes.get("reminder_thresholds") is not None:
        changes = {**changes, "reminder_thresholds": sorted(changes["reminder_thresholds"], reverse=True)}
    if not changes.keys().isdisjoint(_DECIDE_ABOUT_NOTICES):
        certificate.next_notice_at = LOOK_NOW
    for name in sorted(changes):
        setattr(certificate, name, changes[name])
    if changes:
        audit.note(session, caller, "certificate.edited", certificate.id, now=now, details={"fields": sorted(changes)})
    return certificate
