"""What a region's balancer says of the listeners that are bound there, compared with our rows."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from sqlalchemy import and_, select
from sqlalchemy.orm import Session

from shared.domain.drift import DriftCode, Finding
from shared.domain.listeners import ListenerState
from shared.domain.rollout import DeploymentState
from shared.models import Deployment, Listener
from shared.usecases.driver import Snapshot


@dataclass(frozen=True, slots=True, kw_only=True)
class BoundListener:
    """A listener that the balancer should have, and the deployment of its server certificate there."""

    listener_id: str
    account_id: str
    name: str
    deployment_id: str


def bound_listeners(session: Session, region_id: str) -> list[BoundListener]:
    """Those that are bound and not being changed."""
    its_deployment = and_(
        Deployment.certificate_id == Listener.server_certificate_id, Deployment.region == Listener.region
    )
    statement = (
        select(Listener.id, Listener.account_id, Listener.name, Deployment.id)
        .join(Deployment, its_deployment)
        .where(
            Listener.region == region_id,
            Listener.state == ListenerState.BOUND,
            Deployment.state == DeploymentState.DEPLOYED,
        )
        .order_by(Listener.id)
    )
    return [
        BoundListener(listener_id=listener_id, account_id=account_id, name=name, deployment_id=deployment_id)
        for listener_id, account_id, name, deployment_id in session.execute(statement).all()
    ]


def listener_findings(snapshot: Snapshot, bound: Iterable[BoundListener]) -> dict[str, Finding]:
    """By listener id: an anomaly that names it, else that the balancer does not list it."""
    anomalies = {(one.account_id, one.subject): one for one in snapshot.anomalies}
    listed = {(one.account_id, one.listener_id) for one in snapshot.listeners}
    found: dict[str, Finding] = {}
    for one in bound:
        key = (one.account_id, one.listener_id)
        if key in anomalies:
            message = f"Listener {one.name!r}: {anomalies[key].message}"
            found[one.listener_id] = Finding(code=anomalies[key].kind.value, message=message)
        elif key not in listed:
            message = f"Listener {one.name!r}: the load balancer's own configuration does not have it any more."
            found[one.listener_id] = Finding(code=DriftCode.MISSING, message=message)
    return found
