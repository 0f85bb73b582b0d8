"""Who did what: written in the transaction of the deed, listed for the account."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from shared.domain.identifiers import new_id
from shared.models import AuditEntry
from shared.usecases.paging import Order, Page, PageRequest, read_page
from shared.usecases.tokens import Caller


def note(
    session: Session, caller: Caller, action: str, target: str, *, now: datetime, details: dict[str, Any] | None = None
) -> None:
    """Remember a deed; ``action`` is ``noun.verb_past``, ``target`` an id."""
    session.add(entry(caller, action, target, now=now, details=details))


def entry(
    caller: Caller, action: str, target: str, *, now: datetime, details: dict[str, Any] | None = None
) -> AuditEntry:
    """The same, for whoever stores it together with other rows."""
    return AuditEntry(
        id=new_id("aud"),
        account_id=caller.account_id,
        actor=caller.token_id,
        action=action,
        target=target,
        details=details or {},
        at=now,
    )


def list_entries(session: Session, caller: Caller, page: PageRequest) -> Page[AuditEntry]:
    """Who did what in this account, newest first.

    Raises:
        Rejected: the cursor does not belong to this list.
    """
    statement = select(AuditEntry).where(AuditEntry.account_id == caller.account_id)
    return read_page(session, statement, Order(id=AuditEntry.id, descending=True), page)
