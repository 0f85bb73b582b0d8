"""The sweep: wakes whatever is due and unowned, from any number of beats at once."""

from __future__ import annotations

from datetime import datetime
from typing import Final

from sqlalchemy import select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from shared.events.log import wake
from shared.models import Deployment, Job, Listener, PeriodicRun, Reminder, WebhookDelivery, leases
from shared.usecases.context import Context
from shared.usecases.idempotency import forget_old
from shared.wakeups import Task, WakeUp

BATCH: Final = 500
"""Rows of each kind a sweep; the next one takes the rest."""

_WAKES: Final = ((Job, Task.VALIDATE), (WebhookDelivery, Task.DELIVER), (Reminder, Task.MAIL))
_OF_REGIONS: Final = (Deployment, Listener)
"""Whoever is woken for a region does all that is due there: one message for all its rows."""


def sweep(context: Context, *, now: datetime) -> int:
    """Wake what is due and unowned, forget what is no longer needed; returns how many wake-ups were sent."""
    with context.transaction() as session:
        wake_ups = [
            WakeUp(task, row_id)
            for model, task in _WAKES
            for row_id in leases.take_unowned(session, model, now=now, limit=BATCH)
        ]
        wake_ups += [WakeUp(Task.REGION, region) for region in _regions(session, now=now)]
        wake(session, *wake_ups)
        forget_old(session, now=now)
        note_run(session, "sweep", now=now, count=len(wake_ups))
    return len(wake_ups)


def _regions(session: Session, *, now: datetime) -> list[str]:
    """Where something is due and unowned."""
    found: set[str] = set()
    for model in _OF_REGIONS:
        ids = leases.take_unowned(session, model, now=now, limit=BATCH)
        found.update(session.execute(select(model.region).where(model.id.in_(ids)).distinct()).scalars())
    return sorted(found)


def note_run(session: Session, name: str, *, now: datetime, count: int) -> None:
    """Remember that a periodic task ran: what catches a silent scheduler."""
    statement = insert(PeriodicRun).values(name=name, last_run_at=now, last_count=count)
    session.execute(
        statement.on_conflict_do_update(
            index_elements=[PeriodicRun.name], set_={"last_run_at": now, "last_count": count}
        )
    )
