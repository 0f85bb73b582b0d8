"""Ownership of rows: claim with a lease and a fence, give back, find what is due and unowned."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any, Final, TypeVar

from sqlalchemy import or_, select, update
from sqlalchemy.orm import Session

from shared.models.jobs import Deployment, Job
from shared.models.listeners import Listener
from shared.models.reminders import Reminder
from shared.models.webhooks import WebhookDelivery

LeasedRow = Job | Deployment | Listener | WebhookDelivery | Reminder
Row = TypeVar("Row", Job, Deployment, Listener, WebhookDelivery, Reminder)

WAKE_AGAIN: Final = timedelta(seconds=30)
"""How long the sweep gives a wake-up before it sends another: a backlog must not multiply its own messages."""


def claim(session: Session, model: type[LeasedRow], row_id: str, *, now: datetime, lease: timedelta) -> int | None:
    """Own the row until ``now + lease`` if it is due and nobody owns it.

    Returns:
        The fencing number to write with, or ``None`` when there is nothing to do here.
    """
    table: Any = model
    statement = (
        update(table)
        .where(
            table.id == row_id,
            table.next_attempt_at <= now,
            or_(table.lease_until.is_(None), table.lease_until <= now),
        )
        .values(fence=table.fence + 1, lease_until=now + lease, next_wake_at=now + lease)
        .returning(table.fence)
        .execution_options(synchronize_session=False)
    )
    return session.execute(statement).scalar_one_or_none()


def owned(session: Session, model: type[Row], row_id: str, *, fence: int) -> Row | None:
    """The row, locked for the transaction, if ``fence`` is still the newest; else ``None`` (a stale owner)."""
    statement = (
        select(model)
        .where(model.id == row_id, model.fence == fence)
        .with_for_update()
        .execution_options(populate_existing=True)
    )
    return session.execute(statement).scalar_one_or_none()


def due(row: LeasedRow, at: datetime, *, wake_at: datetime | None = None) -> None:
    """Give the row back: due at ``at``; the sweep wakes it then, or at ``wake_at`` when a wake-up is being sent now."""
    row.next_attempt_at = at
    row.next_wake_at = wake_at or at
    row.lease_until = None


def finished(row: LeasedRow) -> None:
    """The row is final: never due again."""
    row.next_attempt_at = None
    row.next_wake_at = None
    row.lease_until = None


def take_unowned(session: Session, model: type[LeasedRow], *, now: datetime, limit: int) -> list[str]:
    """Ids of rows that are due and unowned, oldest first; each is not named again for ``WAKE_AGAIN``.

    Any number of sweeps may run at once: rows are skipped while another sweep holds them.
    """
    table: Any = model
    found = (
        select(table.id)
        .where(table.next_wake_at <= now)
        .order_by(table.next_wake_at)
        .limit(limit)
        .with_for_update(skip_locked=True)
        .scalar_subquery()
    )
    statement = (
        update(table)
        .where(table.id.in_(found))
        .values(next_wake_at=now + WAKE_AGAIN)
        .returning(table.id)
        .execution_options(synchronize_session=False)
    )
    return list(session.execute(statement).scalars())
