"""Replaced certificates: what is known, region by region, of the old ones and of what took their place."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import or_, select
from sqlalchemy.orm import Session

from shared.domain.certificates import CertificateState
from shared.domain.listeners import ListenerState
from shared.domain.rollout import ACTIVE_DEPLOYMENTS, DeploymentState, ServedState
from shared.domain.served import worst
from shared.domain.succession import Place, Remainder, remainders
from shared.models import Certificate, Deployment, Listener


@dataclass(frozen=True, slots=True, kw_only=True)
class Replaced:
    """A certificate, what replaced it, and how its own content is recognised in a handshake."""

    certificate_id: str
    successor_id: str
    fingerprint_sha256: str | None


def read_remainders(session: Session, replaced: Collection[Replaced]) -> dict[str, tuple[Remainder, ...]]:
    """What lacks for each one's successor to be served in its place, by the old one's id. Three statements."""
    if not replaced:
        return {}
    ids = {one.certificate_id for one in replaced} | {one.successor_id for one in replaced}
    states = _states(session, {one.successor_id for one in replaced})
    deployments, listeners = _deployments(session, ids), _listeners(session, ids)
    return {
        one.certificate_id: remainders(states[one.successor_id], _places(one, deployments, listeners))
        for one in replaced
    }


def _states(session: Session, certificate_ids: Collection[str]) -> dict[str, CertificateState]:
    statement = select(Certificate.id, Certificate.state).where(Certificate.id.in_(certificate_ids))
    return {row.id: CertificateState(row.state) for row in session.execute(statement)}


_Deployments = Mapping[str, Mapping[str, Any]]
_Listeners = Mapping[str, Sequence[Any]]


def _deployments(session: Session, certificate_ids: Collection[str]) -> _Deployments:
    """By certificate and region."""
    statement = select(Deployment.certificate_id, Deployment.region, Deployment.state, Deployment.holds_slot).where(
        Deployment.certificate_id.in_(certificate_ids)
    )
    found: dict[str, dict[str, Any]] = defaultdict(dict)
    for row in session.execute(statement):
        found[row.certificate_id][row.region] = row
    return found


def _listeners(session: Session, certificate_ids: Collection[str]) -> _Listeners:
    """Those that show, or ask clients for, one of the certificates, by certificate; not those that never were bound."""
    statement = select(
        Listener.region,
        Listener.server_certificate_id,
        Listener.ca_certificate_id,
        Listener.served,
        Listener.served_fingerprint_sha256,
    ).where(
        or_(Listener.server_certificate_id.in_(certificate_ids), Listener.ca_certificate_id.in_(certificate_ids)),
        Listener.deleted_at.is_(None),
        Listener.state != ListenerState.FAILED,
    )
    found: dict[str, list[Any]] = defaultdict(list)
    for row in session.execute(statement):
        for certificate_id in {row.server_certificate_id, row.ca_certificate_id} - {None}:
            found[certificate_id].append(row)
    return found


def _places(one: Replaced, deployments: _Deployments, listeners: _Listeners) -> list[Place]:
    """Only regions where the old one ever was: where its successor came beside that has nothing to do with it."""
    old, new = deployments.get(one.certificate_id, {}), deployments.get(one.successor_id, {})
    naming_old = {row.region for row in listeners.get(one.certificate_id, ())}
    of_new = listeners.get(one.successor_id, ())
    return [
        Place(
            region=region,
            holds_old=region in old and _is_there(old[region]),
            serves_old=region in naming_old or any(_shows(row, one) for row in of_new if row.region == region),
            new_state=DeploymentState(new[region].state) if region in new else None,
            new_served=worst(ServedState(row.served) for row in of_new if row.region == region),
        )
        for region in sorted({*old, *naming_old})
    ]


def _is_there(deployment: Any) -> bool:
    is_active = deployment.state in ACTIVE_DEPLOYMENTS or deployment.state == DeploymentState.DEPLOYED
    return is_active or bool(deployment.holds_slot)


def _shows(listener: Any, one: Replaced) -> bool:
    is_wrong: bool = listener.served == ServedState.MISMATCH
    return is_wrong and bool(listener.served_fingerprint_sha256 == one.fingerprint_sha256)
