"""What is waiting, over all accounts: a few counts that cost next to nothing, for operators' gauges."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from shared.domain.circuits import CircuitState
from shared.models import (
    Acquisition,
    Balancer,
    Deployment,
    Job,
    Listener,
    Notice,
    Reminder,
    SourceCatalogue,
    WebhookDelivery,
    WebhookReplay,
)
from shared.usecases.circuits import circuit_of
from shared.usecases.periodic import Periodic, last_runs
from shared.usecases.webhook_lag import Lag, farthest_behind

WAITING: Final[dict[str, Any]] = {
    "job": Job,
    "deployment": Deployment,
    "listener": Listener,
    "delivery": WebhookDelivery,
    "replay": WebhookReplay,
    "reminder": Reminder,
    "notice": Notice,
    "acquisition": Acquisition,
    "catalogue": SourceCatalogue,
}
"""Whatever workers own, in one word each."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """Counts by (kind, state) of rows that are not final; how late each kind is; when periodic tasks last ran.

    ``served``: listeners by what the last handshakes proved. ``drifting``: deployments that are not as deployed.
    ``patrol_age_seconds``: by region, since its balancer was last asked what it holds, and answered. ``circuits``: by
    region, whether it is left alone because its balancer does not answer. ``webhook_lags``: by endpoint, those
    farthest behind.
    """

    waiting: dict[tuple[str, str], int]
    overdue_seconds: dict[str, float]
    last_runs: dict[Periodic, datetime | None]
    served: dict[str, int]
    drifting: int
    patrol_age_seconds: dict[str, float]
    circuits: dict[str, CircuitState]
    webhook_lags: dict[str, Lag]


def read_figures(session: Session, *, now: datetime) -> Figures:
    """Only rows that are not final are looked at: each kind has a partial index of exactly these."""
    waiting: dict[tuple[str, str], int] = {}
    overdue: dict[str, float] = {}
    for kind, model in WAITING.items():
        counted = select(model.state, func.count()).where(model.next_wake_at.is_not(None)).group_by(model.state)
        waiting |= {(kind, state): count for state, count in session.execute(counted).all()}
        oldest = session.execute(select(func.min(model.next_wake_at))).scalar_one()
        overdue[kind] = max(0.0, (now - oldest).total_seconds()) if oldest else 0.0
    return Figures(
        waiting=waiting,
        overdue_seconds=overdue,
        last_runs=last_runs(session),
        served=_served(session),
        drifting=_drifting(session),
        patrol_age_seconds=_patrol_ages(session, now=now),
        webhook_lags=farthest_behind(session),
        circuits={row.region: circuit_of(row).state(now) for row in session.execute(select(Balancer)).scalars()},
    )


def _served(session: Session) -> dict[str, int]:
    counted = select(Listener.served, func.count()).where(Listener.deleted_at.is_(None)).group_by(Listener.served)
    return dict(session.execute(counted).all())


def _drifting(session: Session) -> int:
    """No drift is either SQL's null or JSON's."""
    counted = select(func.count()).where(Deployment.drift["code"].astext.is_not(None))
    return session.execute(counted).scalar_one()


def _patrol_ages(session: Session, *, now: datetime) -> dict[str, float]:
    patrolled = select(Balancer.region, Balancer.patrolled_at).where(Balancer.patrolled_at.is_not(None))
    return {region: max(0.0, (now - at).total_seconds()) for region, at in session.execute(patrolled) if at}
