"""Who did what: written in the transaction of the deed."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy.orm import Session

from shared.domain.identifiers import new_id
from shared.models import AuditEntry
from shared.usecases.tokens import Caller


def note(
    session: Session, caller: Caller, action: str, target: str, *, now: datetime, details: dict[str, Any] | None = None
) -> None:
    """Remember a deed; ``action`` is ``noun.verb_past``, ``target`` an id."""
    session.add(
        AuditEntry(
            id=new_id("aud"),
            account_id=caller.account_id,
            actor=caller.token_id,
            action=action,
            target=target,
            details=details or {},
            at=now,
        )
    )
