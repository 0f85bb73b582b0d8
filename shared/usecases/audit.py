"""Who did what: written in the transaction of the deed, listed for the account."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import or_, select
from sqlalchemy.orm import Session

from shared.domain.identifiers import new_id
from shared.models import ApiToken, AuditEntry, Person
from shared.usecases.paging import Order, Page, PageRequest, read_page
from shared.usecases.tokens import Caller


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditFilters:
    """What to list. ``action``: a whole one, or its noun alone (``certificate``) for everything done to such things."""

    actor: str | None = None
    action: str | None = None
    target: str | None = None


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


def list_entries(session: Session, caller: Caller, filters: AuditFilters, page: PageRequest) -> Page[AuditEntry]:
    """Who did what in this account, newest first.

    Raises:
        Rejected: the cursor does not belong to this list.
    """
    statement = select(AuditEntry).where(AuditEntry.account_id == caller.account_id)
    if filters.actor is not None:
        statement = statement.where(AuditEntry.actor == filters.actor)
    if filters.action is not None:
        is_of_noun = AuditEntry.action.startswith(f"{filters.action}.", autoescape=True)
        statement = statement.where(or_(AuditEntry.action == filters.action, is_of_noun))
    if filters.target is not None:
        statement = statement.where(AuditEntry.target == filters.target)
    return read_page(session, statement, Order(id=AuditEntry.id, descending=True), page)


def names_of_actors(session: Session, caller: Caller, actors: Iterable[str]) -> dict[str, str]:
    """What people call them, by id: e-mail addresses of people, names of tokens. Who is neither is left out."""
    ids = set(actors)
    statement = (
        select(Person.id, Person.email)
        .where(Person.account_id == caller.account_id, Person.id.in_(ids))
        .union_all(
            select(ApiToken.id, ApiToken.name).where(ApiToken.account_id == caller.account_id, ApiToken.id.in_(ids))
        )
    )
    return {row[0]: row[1] for row in session.execute(statement).all()}
