"""Repairs: what somebody changed by hand is put back, a few times; how often is kept in the deployment's evidence.

There, so that a recovery does not make us forget them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Final

import structlog
from sqlalchemy import select
from sqlalchemy.orm import Session

from shared.domain.repairs import may_repair, recent_repairs
from shared.domain.retries import is_retryable
from shared.domain.rollout import DeploymentState
from shared.errors import Unreachable
from shared.models import Certificate, Deployment, Listener
from shared.telemetry import describe_exception
from shared.usecases.binding import repair_listener
from shared.usecases.context import Context
from shared.usecases.driver import Driver
from shared.usecases.material import material_of, owner_of
from shared.usecases.region_tools import Site

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


def put_object_right(context: Context, site: Site, driver: Driver, *, deployment_id: str) -> int:
    """Stage the deployment's object again, unless that was done too often; how many were: one or none.

    One that cannot be put right keeps no other from it. What the balancer refuses for good counts as a repair: it is
    tried a few times an hour.

    Raises:
        Superseded: somebody else holds the region by now.
        Unreachable: nobody answers there, so the others need not be tried.
    """
    site.stay()
    now = site.tools.clock()
    try:
        return _stage_again(context, site, driver, deployment_id=deployment_id, now=now)
    except Exception as error:  # whatever a driver raises, or a key that does not open
        if is_retryable(error):
            _give_back(context, deployment_id, taken_at=now)
        if isinstance(error, Unreachable):
            raise
        exception = describe_exception(error)
        log.warning("object_not_repaired", deployment_id=deployment_id, region=site.region_id, exception=exception)
        return 0


def _stage_again(context: Context, site: Site, driver: Driver, *, deployment_id: str, now: datetime) -> int:
    with context.transaction() as session:
        rows = still_deployed(session, [deployment_id])
        if not rows:
            return 0
        if not take_repair(rows[0], OBJECT, now=now):
            log.warning("repair_held_back", deployment_id=deployment_id, region=site.region_id)
            return 0
        certificate = session.get_one(Certificate, rows[0].certificate_id)
        material = material_of(context, session, certificate)
    driver.stage(material, owner=owner_of(certificate))
    log.info("object_repaired", deployment_id=deployment_id, region=site.region_id)
    return 1


def _give_back(context: Context, deployment_id: str, *, taken_at: datetime) -> None:
    with context.transaction() as session:
        for row in still_deployed(session, [deployment_id]):
            give_repair_back(row, OBJECT, taken_at=taken_at)


def still_deployed(session: Session, deployment_ids: Sequence[str]) -> list[Deployment]:
    """In order of id, those that are still deployed."""
    if not deployment_ids:
        return []
    statement = (
        select(Deployment)
        .where(Deployment.id.in_(deployment_ids), Deployment.state == DeploymentState.DEPLOYED)
        .order_by(Deployment.id)
        .with_for_update(key_share=True)
        .execution_options(populate_existing=True)
    )
    return list(session.execute(statement).scalars())


def take_repair(deployment: Deployment, thing: str, *, now: datetime) -> bool:
    """Whether ``thing`` may be put right once more now; counts it. The caller holds the deployment's row."""
    evidence = deployment.evidence or {}
    if "object" not in evidence:
        return False
    known = {key: recent_repairs(times, now=now) for key, times in _read(evidence).items()}
    made = known.get(thing, [])
    if not may_repair(made, now=now):
        return False
    _write(deployment, {**known, thing: [*made, now]})
    return True


def give_repair_back(deployment: Deployment, thing: str, *, taken_at: datetime) -> None:
    """The balancer was busy or away, and nothing was put right: the next patrol may try. The caller holds the row."""
    known = _read(deployment.evidence or {})
    if taken_at in known.get(thing, []):
        known[thing].remove(taken_at)
        _write(deployment, known)


def _read(evidence: Mapping[str, Any]) -> dict[str, list[datetime]]:
    return {key: [datetime.fromisoformat(at) for at in times] for key, times in evidence.get("repairs", {}).items()}


def _write(deployment: Deployment, repairs: dict[str, list[datetime]]) -> None:
    written = {key: [at.isoformat() for at in times] for key, times in repairs.items() if times}
    deployment.evidence = {**(deployment.evidence or {}), "repairs": written}
