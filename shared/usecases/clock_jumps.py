"""After the wall clock went back: what was put off too far is due again, so that nothing waits for longer than a bound.

A clock that goes forward makes everything due at once, and owners are overtaken; their fences keep that harmless. One
that goes back leaves times far ahead of what they can be. Rows beyond that are due now; leases end when one taken now
would.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any, Final

import structlog
from sqlalchemy import update
from sqlalchemy.orm import Session

from shared.config.settings import Settings
from shared.domain import circuits
from shared.domain.quiet_hours import LONGEST_WAIT
from shared.domain.webhooks import JITTER
from shared.models import (
    Acquisition,
    Balancer,
    Deployment,
    Job,
    Listener,
    Notice,
    PeriodicRun,
    Reminder,
    SourceCatalogue,
    WebhookDelivery,
    WebhookLane,
    WebhookReplay,
    leases,
)
from shared.models.leases import Farthest, LeasedRow
from shared.usecases.periodic import Periodic
from shared.usecases.webhook_delivery import lease_of

log = structlog.get_logger(__name__)

SKEW: Final = timedelta(seconds=30)
"""Clocks of several machines may differ by so much before it counts as a jump."""

PAUSE: Final = timedelta(minutes=10)
"""The longest pause of jobs, mail and untried rows; regions may be told to wait for longer (``retry.cap``)."""


def pull_back(session: Session, settings: Settings, *, now: datetime) -> int:
    """Make due what a clock that went back has put off too far; returns how many rows. Part of every sweep.

    When the last sweep lies ahead of now, the clock went back for certain, and every waiting row is looked at; without
    that only what lies beyond any possible time, which costs one look into an index.
    """
    last = session.get(PeriodicRun, Periodic.SWEEP)
    is_certain = last is not None and last.last_run_at > now + SKEW
    _shorten_rests(session, settings, now=now)
    moved = sum(
        leases.pull_back(session, model, limit, now=now, is_certain=is_certain)
        for model, limit in farthest(settings, is_certain=is_certain).items()
    )
    if is_certain or moved:
        log.warning("clock_went_back", count=moved)
    return moved


def farthest(settings: Settings, *, is_certain: bool) -> dict[type[LeasedRow], Farthest]:
    """How far ahead the times of each kind of row can lie.

    Reminders may wait for the end of a quiet window. When the clock went back for certain they are due at once all the
    same: whoever mails them asks the window again.
    """
    pause = max([PAUSE, *(region.retry.cap for region in settings.regions.values())])
    ours = Farthest(lease=settings.lease, pause=pause, first=PAUSE)
    longest = max(settings.webhook_retry_schedule, default=PAUSE) * (1 + JITTER)
    sent = Farthest(lease=lease_of(settings), pause=longest, first=leases.WAKE_AGAIN)
    between = max(PAUSE, settings.sources_every)
    listed = Farthest(lease=settings.lease, pause=between, first=between)
    return {
        Job: ours,
        Deployment: ours,
        Listener: ours,
        Reminder: ours if is_certain else replace(ours, first=LONGEST_WAIT),
        Notice: ours,
        WebhookDelivery: sent,
        WebhookReplay: ours,
        Acquisition: ours,
        SourceCatalogue: listed,
    }


def _shorten_rests(session: Session, settings: Settings, *, now: datetime) -> None:
    """The leases on whole regions, and how long those and receivers that do not answer are left alone: a row each."""
    table: Any = Balancer
    lanes: Any = WebhookLane
    for model, column, farthest in (
        (table, table.lease_until, settings.lease),
        (table, table.circuit_retry_at, circuits.LONGEST_PAUSE),
        (lanes, lanes.rests_until, settings.webhook_rest),
    ):
        statement = update(model).where(column > now + farthest).values({column: now + farthest})
        session.execute(statement.execution_options(synchronize_session=False))
