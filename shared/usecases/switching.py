"""Replace a certificate in one region: its listeners move to the new one, proven one by one; then the old one goes.

The listeners' rows are changed in one transaction, after every one of them was proven and before the old object is
retired. Killed before it, the next attempt (or the last one's undoing) starts from rows that name the old certificate;
killed after it, only the retiring is left to do.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

import structlog
from sqlalchemy import or_, select
from sqlalchemy.orm import Session

from shared.domain.listeners import ListenerShape, ListenerState
from shared.domain.rollout import ACTIVE_DEPLOYMENTS, DeploymentState, ServedState
from shared.domain.served import Verdict
from shared.errors import DriverError
from shared.events import log as events
from shared.events.catalogue import EventType
from shared.events.log import Fact
from shared.models import Certificate, Deployment, Job, Listener, leases
from shared.telemetry import describe_exception
from shared.usecases import jobs, proofs, serving
from shared.usecases.context import Context
from shared.usecases.driver import Driver, ObjectName, Ref
from shared.usecases.region_tools import Site, Superseded
from shared.usecases.serving import Change, Shelf

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Incumbent:
    """The old certificate in this region."""

    deployment_id: str
    certificate_id: str
    ref: Ref | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Switch:
    """From which certificates to which one, and the listeners that have to move before."""

    certificate_id: str
    incumbents: tuple[Incumbent, ...]
    changes: tuple[Change, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Owned:
    """The new certificate's deployment, and the fence under which we work on it."""

    deployment_id: str
    fence: int


def plan_switch(session: Session, deployment: Deployment) -> Switch | None:
    """What the deployment's certificate replaces in its region; ``None`` when it replaces nothing there."""
    ancestors = _ancestors(session, deployment.certificate_id)
    if not ancestors:
        return None
    statement = select(Deployment).where(
        Deployment.certificate_id.in_(ancestors),
        Deployment.region == deployment.region,
        Deployment.state == DeploymentState.DEPLOYED,
    )
    incumbents = [
        Incumbent(deployment_id=row.id, certificate_id=row.certificate_id, ref=serving.ref_of(row))
        for row in session.execute(statement.order_by(Deployment.id)).scalars()
    ]
    old = {incumbent.certificate_id for incumbent in incumbents}
    users = [listener for listener in _users(session, deployment.region, old) if listener.revision]
    return Switch(
        certificate_id=deployment.certificate_id,
        incumbents=tuple(incumbents),
        changes=tuple(
            serving.plan_change(session, user, _moved(serving.shape_of(user), old, deployment.certificate_id))
            for user in users
            if old.intersection(serving.certificates_of(serving.shape_of(user)))
        ),
    )


def move(context: Context, site: Site, driver: Driver, switch: Switch, *, own: Owned, staged: Ref) -> None:
    """Bind every listener to the new certificate, prove each, write it down. All of them, or none.

    Raises:
        Superseded: somebody else owns the deployment by now.
        DriverError: what was served before was put back.
    """
    shelf = _shelf(context, site, driver, switch)
    shelf.put(switch.certificate_id, staged)
    proven: list[tuple[Change, Verdict]] = []
    try:
        for change in switch.changes:
            verdict = serving.bind_and_prove(site, driver, shelf, change)
            proven.append((change, verdict))
    except Superseded:
        raise
    except Exception:
        for change in reversed(switch.changes[: len(proven) + 1]):
            serving.put_back(driver, shelf, change)
        raise
    with context.transaction() as session:
        _write_down(context, session, switch, proven, own=own, staged=staged, now=site.tools.clock())


def undo(context: Context, site: Site, driver: Driver, switch: Switch) -> None:
    """Serve the old certificates again, after attempts whose outcome nobody knows. Never raises."""
    shelf = _shelf(context, site, driver, switch)
    for change in switch.changes:
        serving.put_back(driver, shelf, change)


def discard(driver: Driver, name: ObjectName, error: Exception) -> None:
    """Take the new object away again after the last attempt failed with ``error``; then it holds no quota slot.

    Never raises: an object that cannot be removed now is counted until a retry or a removal ends it.
    """
    try:
        retire_named(driver, name, remote_id=None)
    except Exception as failure:  # noqa: BLE001 - already on the way out with the error that matters
        log.warning("not_discarded", object=name.label, exception=describe_exception(failure))
        return
    if isinstance(error, DriverError):
        error.may_have_happened = False


def retire_named(driver: Driver, name: ObjectName, *, remote_id: str | None) -> None:
    """Also when we never learnt the remote id: the balancer is asked for the object's name, which is computed.

    One that is not there is retired all the same: whoever was overtaken here and is still on his way to stage it meets
    our fencing number at the balancer, which a look alone does not leave there.
    """
    if remote_id is None:
        held = driver.snapshot().find(name)
        remote_id = held.ref.remote_id if held else name.label
    driver.retire(Ref(name=name, remote_id=remote_id))


def retire(driver: Driver, switch: Switch) -> None:
    """Remove the old objects, which nobody serves any more.

    Raises:
        DriverError: as ``Driver.retire`` raises it.
    """
    for incumbent in switch.incumbents:
        if incumbent.ref is not None:
            driver.retire(incumbent.ref)


def finish(session: Session, switch: Switch, deployment: Deployment, *, now: datetime) -> list[Fact]:
    """Write down that the old certificates are gone from the region; the caller holds their certificates' rows."""
    facts: list[Fact] = []
    for incumbent in switch.incumbents:
        row = session.get_one(
            Deployment, incumbent.deployment_id, with_for_update={"key_share": True}, populate_existing=True
        )
        if row.state != DeploymentState.DEPLOYED:
            continue
        row.state = DeploymentState.REMOVED
        row.holds_slot = False
        row.job_id = deployment.job_id
        row.remote_id = row.evidence = row.drift = None
        row.served, row.served_checked_at = ServedState.NOT_CHECKED, None
        row.updated_at = now
        facts.append(jobs.region_fact(EventType.DEPLOYMENT_REMOVED, row))
        session.flush()
        facts += succeed_predecessor(session, incumbent.certificate_id, switch.certificate_id, job_id=deployment.job_id)
    return facts


def lock_certificates(session: Session, switch: Switch) -> None:
    """Take the old certificates' rows: of several regions that finish at once, the last one sees all others."""
    ids = sorted(incumbent.certificate_id for incumbent in switch.incumbents)
    statement = select(Certificate).where(Certificate.id.in_(ids)).order_by(Certificate.id)
    session.execute(statement.with_for_update(key_share=True)).all()


def succeed_predecessor(session: Session, certificate_id: str, successor_id: str, *, job_id: str) -> list[Fact]:
    """Say that a certificate has been replaced, once it is nowhere any more. The caller holds its row."""
    certificate = session.get_one(Certificate, certificate_id)
    certificate.replaced_by_id = certificate.replaced_by_id or successor_id
    anywhere = select(Deployment.id).where(
        Deployment.certificate_id == certificate_id,
        Deployment.state.in_([*ACTIVE_DEPLOYMENTS, DeploymentState.DEPLOYED]),
    )
    if session.execute(anywhere.limit(1)).first() is not None:
        return []
    data = {"certificate_id": certificate_id, "replaced_by": successor_id, "job_id": job_id}
    return [Fact(type=EventType.CERTIFICATE_REPLACED, data=data)]


def succeed_predecessor_nowhere(session: Session, job: Job) -> list[Fact]:
    """The same for a certificate that was in no region when it was replaced."""
    successor = session.get_one(Certificate, job.certificate_id)
    if successor.replaces_id is None:
        return []
    return succeed_predecessor(session, successor.replaces_id, successor.id, job_id=job.id)


def served_hosts(session: Session, certificate_id: str, regions: Iterable[str]) -> list[tuple[str, tuple[str, ...]]]:
    """The host names that listeners of these regions serve with what the certificate replaces, by listener's name."""
    ancestors = set(_ancestors(session, certificate_id))
    found = []
    for region in sorted(regions) if ancestors else ():
        for listener in _users(session, region, ancestors):
            shapes = [serving.shape_of(listener), serving.wanted_shape(listener)]
            hosts = {host for shape in shapes if shape.server_certificate_id in ancestors for host in shape.hosts}
            if hosts:
                found.append((listener.name, tuple(sorted(hosts))))
    return found


def _write_down(
    context: Context,
    session: Session,
    switch: Switch,
    proven: Iterable[tuple[Change, Verdict]],
    *,
    own: Owned,
    staged: Ref,
    now: datetime,
) -> None:
    _lock_deployments(session, switch, own)
    deployment = leases.owned(session, Deployment, own.deployment_id, fence=own.fence)
    if deployment is None:
        raise Superseded
    deployment.remote_id = staged.remote_id
    deployment.evidence = {"object": staged.name.label}
    old = {incumbent.certificate_id for incumbent in switch.incumbents}
    users = _users(session, deployment.region, old, lock=True)
    verdicts = {change.listener_id: (change, verdict) for change, verdict in proven}
    facts: list[Fact] = []
    for listener in users:
        _follow(listener, old, switch.certificate_id)
        if listener.id not in verdicts:
            continue
        change, verdict = verdicts[listener.id]
        listener.server_certificate_id = change.wanted.server_certificate_id
        listener.ca_certificate_id = change.wanted.ca_certificate_id
        listener.revision += 1
        listener.updated_at = now
        session.flush()
        facts += proofs.record(session, listener, verdict, now=now, every=context.settings.patrol_every)
        facts.append(listener_fact(listener, "changed"))
    for certificate_id in old:
        facts += proofs.refresh(session, certificate_id, deployment.region, now=now)
    events.append(session, deployment.account_id, facts, now=now)


def _lock_deployments(session: Session, switch: Switch, own: Owned) -> None:
    """All that the listeners' proofs are added up in, before any listener, in order of id: as the patrol takes them."""
    shapes = [shape for change in switch.changes for shape in (change.before, change.wanted) if shape is not None]
    used = {switch.certificate_id, *(incumbent.certificate_id for incumbent in switch.incumbents)}
    used.update(one for shape in shapes for one in serving.certificates_of(shape))
    region = select(Deployment.region).where(Deployment.id == own.deployment_id).scalar_subquery()
    statement = select(Deployment.id).where(Deployment.certificate_id.in_(sorted(used)), Deployment.region == region)
    session.execute(statement.order_by(Deployment.id).with_for_update(key_share=True)).all()


def listener_fact(listener: Listener, change: str) -> Fact:
    """``listener.changed``: ``change`` is created, changed or deleted."""
    data: dict[str, Any] = {
        "listener_id": listener.id,
        "job_id": listener.job_id,
        "certificate_id": listener.server_certificate_id,
        "region": listener.region,
        "change": change,
    }
    return Fact(type=EventType.LISTENER_CHANGED, data=data)


def _ancestors(session: Session, certificate_id: str) -> list[str]:
    """What the certificate replaces, and what that replaced, and so on."""
    first = select(Certificate.replaces_id).where(Certificate.id == certificate_id).cte("ancestors", recursive=True)
    older = select(Certificate.replaces_id).join(first, Certificate.id == first.c.replaces_id)
    ancestors = first.union(older)
    statement = select(ancestors.c.replaces_id).where(ancestors.c.replaces_id.is_not(None))
    return [str(found) for found in session.execute(statement).scalars()]


def _users(session: Session, region: str, certificate_ids: set[str], *, lock: bool = False) -> list[Listener]:
    """The region's listeners that show, or shall show, one of the certificates."""
    ids = sorted(certificate_ids)
    statement = select(Listener).where(
        Listener.region == region,
        Listener.deleted_at.is_(None),
        Listener.state != ListenerState.UNBINDING,
        or_(
            Listener.server_certificate_id.in_(ids),
            Listener.ca_certificate_id.in_(ids),
            Listener.change["server_certificate_id"].astext.in_(ids),
            Listener.change["ca_certificate_id"].astext.in_(ids),
        ),
    )
    statement = statement.order_by(Listener.id)
    if lock:
        statement = statement.with_for_update(key_share=True).execution_options(populate_existing=True)
    return list(session.execute(statement).scalars())


def _moved(shape: ListenerShape, old: set[str], new: str) -> ListenerShape:
    return replace(
        shape,
        server_certificate_id=new if shape.server_certificate_id in old else shape.server_certificate_id,
        ca_certificate_id=new if shape.ca_certificate_id in old else shape.ca_certificate_id,
    )


def _follow(listener: Listener, old: set[str], new: str) -> None:
    """A listener that is not bound yet, or a change that waits, gets the new one instead of the old."""
    if not listener.revision:
        shape = _moved(serving.shape_of(listener), old, new)
        listener.server_certificate_id, listener.ca_certificate_id = (
            shape.server_certificate_id,
            shape.ca_certificate_id,
        )
    if listener.change:
        listener.change = serving.shape_document(_moved(serving.shape_from(listener.change), old, new))


def _shelf(context: Context, site: Site, driver: Driver, switch: Switch) -> Shelf:
    shelf = Shelf(context, site, driver)
    for incumbent in switch.incumbents:
        if incumbent.ref is not None:
            shelf.put(incumbent.certificate_id, incumbent.ref)
    return shelf
