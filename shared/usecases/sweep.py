"""The sweep: wakes whatever is due and unowned, from any number of beats at once."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Final

from sqlalchemy import select, text
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
    (WebhookReplay, Task.REPLAY),
    (Reminder, Task.MAIL),
    (Notice, Task.NOTICE),
    (Acquisition, Task.ACQUIRE),
    (SourceCatalogue, Task.CATALOGUE),
)
OF_REGIONS: Final = (Deployment, Listener)
"""Whoever is woken for a region does all that is due there: one message for all its rows."""

OF_LANES: Final = (WebhookDelivery,)
"""And so does whoever is woken for a lane."""


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
        for lane_row in OF_LANES:
            ids = leases.take_unowned(session, lane_row, now=now, limit=BATCH)
            wake_ups += [WakeUp(Task.LANE, lane) for lane in sorted(_lanes_of(session, ids))]
            is_full |= len(ids) == BATCH
        wake(session, *wake_ups)
    return _Batch(woken=len(wake_ups), is_full=is_full)


def _regions_of(session: Session, model: type[Deployment | Listener], ids: list[str]) -> set[str]:
    return set(session.execute(select(model.region).where(model.id.in_(ids)).distinct()).scalars())


_FIND_LANES: Final = text("""
    UPDATE webhook_deliveries AS delivery SET lane = coalesce(nullif(endpoint.lane, ''), endpoint.id)
    FROM webhook_endpoints AS endpoint
    WHERE delivery.id = ANY(:ids) AND delivery.lane = '' AND endpoint.id = delivery.endpoint_id
""")
"""What a release has written that knew of no lanes."""


def _lanes_of(session: Session, ids: list[str]) -> set[str]:
    asked = select(WebhookDelivery.lane).where(WebhookDelivery.id.in_(ids)).distinct()
    lanes = set(session.execute(asked).scalars())
    if "" not in lanes:
        return lanes
    session.execute(_FIND_LANES, {"ids": ids})
    return set(session.execute(asked).scalars())
