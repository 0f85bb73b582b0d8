"""The ledger of reminders, as people read it: who was told of what, when, or why not."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from shared.domain.reminder_decisions import NOBODY
from shared.models import Certificate, Reminder
from shared.usecases.paging import Order, Page, PageRequest, read_page
from shared.usecases.tokens import Caller

Document = dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class ReminderFilters:
    """Which notices to show."""

    certificate: str | None = None
    state: str | None = None


def list_reminders(session: Session, caller: Caller, filters: ReminderFilters, page: PageRequest) -> Page[Document]:
    """The account's notices, newest first, in the words of ``ReminderOut``.

    Raises:
        Rejected: the cursor does not belong to this list.
    """
    statement = select(Reminder).where(Reminder.account_id == caller.account_id)
    if filters.certificate is not None:
        statement = statement.where(Reminder.certificate_id == filters.certificate)
    if filters.state is not None:
        statement = statement.where(Reminder.state == filters.state)
    found = read_page(session, statement, Order(id=Reminder.id, descending=True), page)
    names = _names(session, {row.certificate_id for row in found.items})
    return Page(items=[_document(row, names[row.certificate_id]) for row in found.items], next_cursor=found.next_cursor)


def _names(session: Session, certificate_ids: set[str]) -> dict[str, str]:
    statement = select(Certificate.id, Certificate.name).where(Certificate.id.in_(certificate_ids))
    return {row.id: row.name for row in session.execute(statement)}


def _document(row: Reminder, name: str) -> Document:
    fields = ("id", "certificate_id", "not_after", "threshold", "state", "attempt", "error", "created_at", "sent_at")
    return {
        **{field: getattr(row, field) for field in fields},
        "name": name,
        "recipient": None if row.recipient == NOBODY else row.recipient,
        "next_attempt_at": row.next_attempt_at,
    }
