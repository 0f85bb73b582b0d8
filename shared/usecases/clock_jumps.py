"""After the wall clock went back: what was put off too far is due again, so that nothing waits for longer than a bound.

A clock that goes forward makes everything due at once, and owners are overtaken; their fences keep that harmless. One
that goes back leaves times far ahead of what they can be. Rows beyond that are due now; leases end when one taken now
would.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any, Final

import structlog
from sqlalchemy import update
from sqlalchemy.orm import Session

from shared.config.settings import Settings
from shared.domain.webhooks import JITTER
from shared.models import Balancer, Deployment, Job, Listener, PeriodicRun, Reminder, WebhookDelivery, leases
from shared.models.leases import Farthest, LeasedRow
from shared.usecases.periodic import Periodic
from shared.usecases.webhook_delivery import lease_of

log = structlog.get_logger(__name__)

SKEW: Final = timedelta(seconds=30)
"""Clocks of several machines may differ by so much before it counts as a jump."""

PAUSE: Final = timedelta(minutes=10)
"""The longest pause of jobs, deployments, listeners and mail (shared/domain/retries.py, shared/usecases/jobs.py)."""


def pull_back(session: Session, settings: Settings, *, now: datetime) -> int:
    """Make due what a clock that went back has put off too far; returns how many rows. Part of every sweep.

    When the last sweep lies ahead of now, the clock went back for certain, and every waiting row is looked at; without
    that only what lies beyond any possible time, which costs one look into an index.
    """
    last = session.get(PeriodicRun, Periodic.SWEEP)
    is_certain = last is not None and last.last_run_at > now + SKEW
    moved = sum(
        leases.pull_back(session, model, limit, now=now, is_certain=is_certain)
        for model, limit in farthest(settings).items()
    )
    _shorten_regions(session, now + settings.lease)
    if is_certain or moved:
        log.warning("clock_went_back", count=moved)
    return moved


def farthest(settings: Settings) -> dict[type[LeasedRow], Farthest]:
    """How far ahead the times of each kind of row can lie."""
    ours = Farthest(lease=settings.lease, pause=PAUSE, first=PAUSE)
    longest = max(settings.webhook_retry_schedule, default=PAUSE) * (1 + JITTER)
    sent = Farthest(lease=lease_of(settings), pause=longest, first=leases.WAKE_AGAIN)
    return {Job: ours, Deployment: ours, Listener: ours, Reminder: ours, WebhookDelivery: sent}


def _shorten_regions(session: Session, until: datetime) -> None:
    """The leases on whole regions: one row each."""
    table: Any = Balancer
    session.execute(update(table).where(table.lease_until > until).values(lease_until=until))
