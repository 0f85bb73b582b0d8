"""The sweep: wakes whatever is due and unowned, from any number of beats at once."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Final

from sqlalchemy import select
from sqlalchemy.orm import Session

from shared.events.log import wake
from shared.models import (
    Acquisition,
    Deployment,
    Job,
    Listener,
    Notice,
    Reminder,
    SourceCatalogue,
    WebhookDelivery,
    WebhookReplay,
    leases,
)
from shared.usecases.clock_jumps import pull_back
from shared.usecases.context import Context
from shared.usecases.idempotency import forget_old
from shared.usecases.periodic import Periodic, note_run
from shared.wakeups import Task, WakeUp

BATCH: Final = 500
"""Rows of each kind in one transaction."""

MOST_BATCHES: Final = 10
"""Transactions a sweep; the next sweep takes the rest."""

WAKES: Final = (
    (Job, Task.VALIDATE),
    (WebhookDelivery, Task.DELIVER),
    (WebhookReplay, Task.REPLAY),
    (Reminder, Task.MAIL),
    (Notice, Task.NOTICE),
    (Acquisition, Task.ACQUIRE),
    (SourceCatalogue, Task.CATALOGUE),
)
OF_REGIONS: Final = (Deployment, Listener)
"""Whoever is woken for a region does all that is due there: one message for all its rows."""


def sweep(context: Context, *, now: datetime) -> int:
    """Wake what is due and unowned, forget what is no longer needed; returns how many wake-ups were sent.

    While a batch is full the next one follows at once, up to ``MOST_BATCHES``: each is a transaction of its own, whose
    wake-ups are on their way before the next begins.
    """
    with context.transaction() as session:
        pull_back(session, context.settings, now=now)
    woken = 0
    for _ in range(MOST_BATCHES):
        batch = _wake_batch(context, now=now)
        woken += batch.woken
        if not batch.is_full:
            break
    with context.transaction() as session:
        forget_old(session, now=now)
        note_run(session, Periodic.SWEEP, now=now, count=woken)
    return woken


@dataclass(frozen=True, slots=True, kw_only=True)
class _Batch:
    woken: int
    is_full: bool


def _wake_batch(context: Context, *, now: datetime) -> _Batch:
    is_full = False
    with context.transaction() as session:
        wake_ups = []
        for model, task in WAKES:
            ids = leases.take_unowned(session, model, now=now, limit=BATCH)
            wake_ups += [WakeUp(task, row_id) for row_id in ids]
            is_full |= len(ids) == BATCH
        regions: set[str] = set()
        for region_row in OF_REGIONS:
            ids = leases.take_unowned(session, region_row, now=now, limit=BATCH)
            regions |= _regions_of(session, region_row, ids)
            is_full |= len(ids) == BATCH
        wake_ups += [WakeUp(Task.REGION, region) for region in sorted(regions)]
        wake(session, *wake_ups)
    return _Batch(woken=len(wake_ups), is_full=is_full)


def _regions_of(session: Session, model: type[Deployment | Listener], ids: list[str]) -> set[str]:
    return set(session.execute(select(model.region).where(model.id.in_(ids)).distinct()).scalars())
