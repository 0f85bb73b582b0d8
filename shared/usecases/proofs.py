"""Proofs: knock at a listener, judge, write down what clients really get, and tell when that drifts or recovers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Final

from sqlalchemy import ColumnElement, and_, case, func, or_, select
from sqlalchemy.orm import Session

from shared.config.regions import Region
from shared.domain.drift import DriftCode, Finding, Witness, is_news, with_finding
from shared.domain.listeners import ListenerState
from shared.domain.rollout import ServedState
from shared.domain.served import Client, Expected, Handshake, Verdict, judge, worst
from shared.events.catalogue import EventType
from shared.events.log import Fact
from shared.models import Certificate, Deployment, Listener
from shared.usecases import jobs
from shared.usecases.proof import Prober, knock

GIVE_UP_AFTER: Final = 2
"""Handshakes in a row that brought no certificate: the other host names of the listener are not waited for, too."""

_CODES: Final = {
    ServedState.MISMATCH: DriftCode.SERVED_MISMATCH,
    ServedState.UNREACHABLE: DriftCode.UNREACHABLE,
}


def expected_of(server: Certificate, ca: Certificate | None) -> Expected:
    """What clients of a listener with these valid certificates should meet."""
    return Expected(
        chain=tuple(str(one["fingerprint_sha256"]) for one in server.chain),
        client_ca_names=tuple(str(one["subject"]) for one in ca.chain) if ca else (),
    )


def prove(prober: Prober, region: Region, hosts: Sequence[str], expected: Expected) -> Verdict:
    """Knock at every host name and judge; outside any transaction, it may take seconds.

    ``unreachable`` is said only when a second round finds the same. A region without ``listener_address`` cannot be
    knocked at: ``not_checked``.
    """
    if region.listener_address is None:
        message = "The region has no listener_address to knock at; the operator sets it in the regions file."
        return Verdict(state=ServedState.NOT_CHECKED, message=message)
    verdict = _round(prober, region.listener_address, hosts, expected)
    if verdict.state is ServedState.UNREACHABLE:
        verdict = _round(prober, region.listener_address, hosts, expected)
    return verdict


def hold(session: Session, listener_id: str) -> Listener | None:
    """The listener, locked, after the deployments that :func:`record` will write: in the order that everybody keeps.

    Its certificates may have been changed while the locks were waited for: compare ``revision`` with the one proven.
    """
    statement = select(Listener.region, Listener.server_certificate_id, Listener.ca_certificate_id)
    known = session.execute(statement.where(Listener.id == listener_id)).one_or_none()
    if known is None:
        return None
    region, *certificates = known
    _deployments(session, region, certificates)
    return session.get(Listener, listener_id, with_for_update={"key_share": True}, populate_existing=True)


def record(session: Session, listener: Listener, verdict: Verdict, *, now: datetime, every: timedelta) -> list[Fact]:
    """Write the verdict down, and what it means for the certificates in that region.

    The caller holds the listener's row, and before it, in order of id, the deployments of its certificates in that
    region (:func:`hold` does both). The same verdict again brings no second fact.

    Returns:
        What has to be told; the caller appends it as the last thing of its transaction.
    """
    is_proof = verdict.state is not ServedState.NOT_CHECKED
    listener.served = verdict.state
    listener.served_fingerprint_sha256 = verdict.fingerprint_sha256
    listener.served_message = verdict.message
    listener.served_checked_at = now if is_proof else None
    listener.next_probe_at = now + every
    certificates = [listener.server_certificate_id, listener.ca_certificate_id]
    return _roll_up(session, listener.region, certificates, now=now)


def refresh(session: Session, certificate_id: str, region: str, *, now: datetime) -> list[Fact]:
    """What the region's listeners of this certificate now show, added up anew: for one whose listeners moved away."""
    return _roll_up(session, region, [certificate_id], now=now)


def note_drift(deployment: Deployment, witness: Witness, finding: Finding | None, *, now: datetime) -> list[Fact]:
    """Write down what this witness says of the deployment (locked by the caller); the fact, if it is news."""
    before, after = deployment.drift, with_finding(deployment.drift, witness, finding, now=now)
    if after != before:
        deployment.drift = after
    if not is_news(before, after):
        return []
    if after is None:
        return [_fact(EventType.DEPLOYMENT_RECOVERED, deployment)]
    error = {"code": after["code"], "message": after["message"], "retryable": False}
    return [_fact(EventType.DEPLOYMENT_DRIFTED, deployment, error=error)]


@dataclass(slots=True)
class _ShortOfPatience:
    """A prober that stops knocking where nobody answers: a hundred names at five seconds each hold up a worker."""

    prober: Prober
    failures: list[Handshake] = field(default_factory=list)

    def handshake(self, address: str, *, host: str, client: Client, sni: bool = True) -> Handshake:
        if len(self.failures) >= GIVE_UP_AFTER:
            return Handshake(host=host, sni=sni, client=client, reached=False, error=self.failures[-1].error)
        made = self.prober.handshake(address, host=host, client=client, sni=sni)
        self.failures = [] if made.chain else [*self.failures, made]
        return made


def _round(prober: Prober, address: str, hosts: Sequence[str], expected: Expected) -> Verdict:
    made = knock(_ShortOfPatience(prober), address, hosts, is_mutual=expected.is_mutual)
    return judge(expected, made)


def _deployments(session: Session, region: str, certificates: Sequence[str | None]) -> list[Deployment]:
    """Locked, in order of id."""
    wanted = [each for each in certificates if each is not None]
    statement = (
        select(Deployment)
        .where(Deployment.certificate_id.in_(wanted), Deployment.region == region)
        .order_by(Deployment.id)
        .with_for_update(key_share=True)
        .execution_options(populate_existing=True)
    )
    return list(session.execute(statement).scalars())


def _roll_up(session: Session, region: str, certificates: Sequence[str | None], *, now: datetime) -> list[Fact]:
    """The deployments' rows are locked before the listeners are added up: whoever comes last sees all of them."""
    session.flush()
    facts: list[Fact] = []
    for deployment in _deployments(session, region, certificates):
        states = _states(session, deployment)
        deployment.served = worst(ServedState(state) for state in states)
        deployment.served_checked_at = min((at for at in states.values() if at is not None), default=None)
        facts += _tell_clients_view(session, deployment, now=now)
    return facts


def _states(session: Session, deployment: Deployment) -> dict[str, datetime | None]:
    """Of the listeners that show the certificate or ask for its clients: the states, and each one's oldest proof."""
    uses = or_(
        Listener.server_certificate_id == deployment.certificate_id,
        Listener.ca_certificate_id == deployment.certificate_id,
    )
    statement = select(Listener.served, func.min(Listener.served_checked_at)).where(_is_shown(deployment.region), uses)
    return dict(session.execute(statement.group_by(Listener.served)).all())


def _is_shown(region: str) -> ColumnElement[bool]:
    """Bound, or bound before and now being changed; not those that never were."""
    was_bound = or_(Listener.state == ListenerState.BOUND, Listener.served_checked_at.is_not(None))
    return and_(
        Listener.region == region, Listener.deleted_at.is_(None), Listener.state != ListenerState.FAILED, was_bound
    )


def _tell_clients_view(session: Session, deployment: Deployment, *, now: datetime) -> list[Fact]:
    """Only as a server certificate; a listener that is not checked neither raises nor ends a drift."""
    statement = (
        select(Listener.served, Listener.name, Listener.served_message)
        .where(
            _is_shown(deployment.region),
            Listener.server_certificate_id == deployment.certificate_id,
            Listener.served != ServedState.MATCH,
        )
        .order_by(_SEVERITY, Listener.id)
        .limit(1)
    )
    worst_one = session.execute(statement).one_or_none()
    if worst_one is None:
        return note_drift(deployment, Witness.CLIENTS, None, now=now)
    code = _CODES.get(ServedState(worst_one.served))
    if code is None:
        return []
    finding = Finding(code=code, message=f"Listener {worst_one.name!r}: {worst_one.served_message}")
    return note_drift(deployment, Witness.CLIENTS, finding, now=now)


_SEVERITY: Final = case({ServedState.MISMATCH: 0, ServedState.UNREACHABLE: 1}, value=Listener.served, else_=2)


def _fact(event_type: EventType, deployment: Deployment, **more: Any) -> Fact:
    fact = jobs.region_fact(event_type, deployment)
    return Fact(type=event_type, data={**{k: v for k, v in fact.data.items() if k != "error"}, **more})
