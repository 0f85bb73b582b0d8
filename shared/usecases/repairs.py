"""Repairs: what somebody changed by hand is put back, a few times; how often is kept in the deployment's evidence.

There, so that a recovery does not make us forget them.
"""

from __future__ import annotations

from datetime import datetime
from typing import Final

import structlog
from sqlalchemy import select
from sqlalchemy.orm import Session

from shared.domain.repairs import may_repair, recent_repairs
from shared.models import Deployment, Listener
from shared.usecases.binding import repair_listener

log = structlog.get_logger(__name__)

OBJECT: Final = "object"
"""The key of repairs of the staged object itself; those of a listener stand under its id."""


def put_listener_right(session: Session, listener: Listener, *, now: datetime) -> bool:
    """Have a bound listener bound and proven again, unless that was done too often; whether it will be.

    The caller holds the rows of the listener and, before it, of its certificates' deployments (``proofs.hold``).
    """
    statement = select(Deployment).where(
        Deployment.certificate_id == listener.server_certificate_id, Deployment.region == listener.region
    )
    deployment = session.execute(statement).scalar_one_or_none()
    if deployment is None or not take_repair(deployment, listener.id, now=now):
        log.warning("repair_held_back", listener_id=listener.id, region=listener.region)
        return False
    log.info("listener_repaired", listener_id=listener.id, region=listener.region)
    repair_listener(session, listener, now=now)
    return True


def take_repair(deployment: Deployment, thing: str, *, now: datetime) -> bool:
    """Whether ``thing`` may be put right once more now; counts it. The caller holds the deployment's row."""
    evidence = deployment.evidence or {}
    if "object" not in evidence:
        return False
    known = {key: _recent(times, now=now) for key, times in evidence.get("repairs", {}).items()}
    made = known.get(thing, [])
    if not may_repair(made, now=now):
        return False
    _write(deployment, {**known, thing: [*made, now]})
    return True


def give_repair_back(deployment: Deployment, thing: str, *, taken_at: datetime) -> None:
    """The balancer was busy or away, and nothing was put right: the next patrol may try. The caller holds the row."""
    repairs = (deployment.evidence or {}).get("repairs", {})
    known = {key: [datetime.fromisoformat(at) for at in times] for key, times in repairs.items()}
    if taken_at in known.get(thing, []):
        known[thing].remove(taken_at)
        _write(deployment, known)


def _write(deployment: Deployment, repairs: dict[str, list[datetime]]) -> None:
    written = {key: [at.isoformat() for at in times] for key, times in repairs.items() if times}
    deployment.evidence = {**(deployment.evidence or {}), "repairs": written}


def _recent(times: list[str], *, now: datetime) -> list[datetime]:
    return recent_repairs((datetime.fromisoformat(at) for at in times), now=now)
