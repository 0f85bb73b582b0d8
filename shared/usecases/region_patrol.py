"""The patrol of a region: what its balancer itself says, compared with our rows; repairs, and leftovers taken away."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

import structlog
from sqlalchemy import null, or_, select, tuple_, update
from sqlalchemy.orm import Session

from shared.config.regions import Region
from shared.domain.circuits import Circuit
from shared.domain.drift import DriftCode, Finding, Witness
from shared.domain.listeners import ListenerState
from shared.domain.rollout import ACTIVE_DEPLOYMENTS, DeploymentState
from shared.errors import DriverError
from shared.events import log as events
from shared.events.log import Fact
from shared.models import Balancer, Certificate, Deployment, Listener
from shared.telemetry import describe_exception
from shared.usecases import balancers, proofs
from shared.usecases import driver as drivers
from shared.usecases.attempts import error_document
from shared.usecases.circuits import Fuse
from shared.usecases.context import Context
from shared.usecases.driver import AnomalyKind, Driver, ObjectName, Ref, Snapshot, StagedObject
from shared.usecases.listener_findings import BoundListener, bound_listeners, listener_findings
from shared.usecases.patrol import Writer, look_soon, writer_of
from shared.usecases.region_tools import RegionTools, Site, Superseded
from shared.usecases.repairs import put_listener_right, put_object_right, still_deployed

log = structlog.get_logger(__name__)

_BALANCERS: Final[Any] = Balancer
_REPAIRABLE: Final = frozenset({DriftCode.MISSING.value, DriftCode.ALTERED.value})

Found = dict[str, Finding]
"""By the id of a deployment or of a listener."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Report:
    """What the balancer itself says is wrong: with objects, by deployment, and with listeners, by listener."""

    objects: Found
    listeners: Found


@dataclass(frozen=True, slots=True, kw_only=True)
class _Held:
    """What a deployment's row says that its balancer holds."""

    deployment_id: str
    name: ObjectName
    certificate_name: str
    fingerprint_sha256: str | None
    is_drifting: bool


def look_at_region(context: Context, tools: RegionTools, region_id: str) -> None:
    """Ask the region's balancer what it holds and write down what is wrong. Safe to call at any time.

    Deployments whose object is missing or altered drift, and so does that of a listener's server certificate when the
    listener is; they recover once all is as it was. With ``region.repair`` the object is staged, the listener bound
    again, a few times an hour at most. Objects and listeners that our rows know to be gone are taken away. A
    balancer that does not answer says nothing about its deployments: ``patrolled_at`` stays behind, and is a gauge, and
    the region's health says so.
    """
    region = context.settings.regions.get(region_id)
    if region is None:
        return
    with context.transaction() as session:
        before = writer_of(session, region_id, now=tools.clock())
    if before.is_at_work:
        look_soon(context, region_id, now=tools.clock())
        return
    try:
        snapshot = tools.driver_for(region).snapshot()
    except Exception as error:  # noqa: BLE001 - whatever a driver raises, the next period asks again
        log.warning("region_not_patrolled", region=region_id, exception=describe_exception(error))
        _note_silence(context, region_id, error)
        return
    found = _compare(context, region_id, snapshot, before, now=tools.clock())
    if found is None:
        look_soon(context, region_id, now=tools.clock())
        return
    _put_right(context, tools, region, snapshot, found)


def _note_silence(context: Context, region_id: str, error: Exception) -> None:
    """For every account to see, so in words of our own: a driver's may name what is another account's."""
    code = error_document(error, retryable=True)["code"]
    told = {"code": code, "message": "The load balancer could not be asked what it holds.", "retryable": True}
    with context.transaction() as session:
        statement = update(_BALANCERS).where(_BALANCERS.region == region_id)
        session.execute(statement.values(patrol_error=told))


def _compare(context: Context, region_id: str, snapshot: Snapshot, before: Writer, *, now: datetime) -> _Report | None:
    """Write down what is wrong; ``None``: somebody wrote to the balancer meanwhile, so nothing can be said."""
    with context.transaction() as session:
        held = _held(session, region_id)
        objects = _findings(session, snapshot, held)
        bound = bound_listeners(session, region_id)
        listeners = listener_findings(snapshot, bound)
        found = _by_deployment(objects, bound, listeners)
        concerned = [one.deployment_id for one in held if one.is_drifting or one.deployment_id in found]
        if writer_of(session, region_id, now=now) != before:
            return None
        rows = still_deployed(session, concerned)
        if writer_of(session, region_id, now=now) != before:
            return None
        facts: dict[str, list[Fact]] = defaultdict(list)
        for row in rows:
            told = proofs.note_drift(row, Witness.BALANCER, found.get(row.id), now=now)
            facts[row.account_id] += told
        for account_id, told in sorted(facts.items()):
            events.append(session, account_id, told, now=now)
    with context.transaction() as session:
        statement = update(_BALANCERS).where(_BALANCERS.region == region_id)
        session.execute(statement.values(patrolled_at=now, patrol_error=null()))
    _log_anomalies(region_id, snapshot, held, listeners)
    return _Report(objects={row.id: objects[row.id] for row in rows if row.id in objects}, listeners=listeners)


def _by_deployment(objects: Found, bound: Iterable[BoundListener], listeners: Found) -> Found:
    """One finding each: an object that is lost or altered before its listeners, and these before what is lesser."""
    found = {one.deployment_id: listeners[one.listener_id] for one in bound if one.listener_id in listeners}
    grave = {each: finding for each, finding in objects.items() if finding.code in _REPAIRABLE}
    return {**objects, **found, **grave}


def _held(session: Session, region_id: str) -> list[_Held]:
    statement = (
        select(
            Deployment.id,
            Deployment.account_id,
            Deployment.evidence["object"].astext,
            Deployment.drift["code"].astext.is_not(None),
            Certificate.name,
            Certificate.fingerprint_sha256,
        )
        .join(Certificate, Certificate.id == Deployment.certificate_id)
        .where(
            Deployment.region == region_id,
            Deployment.state == DeploymentState.DEPLOYED,
            Deployment.evidence["object"].astext.is_not(None),
        )
    )
    return [
        _Held(
            deployment_id=deployment_id,
            name=ObjectName.parse(label, account_id=account_id),
            certificate_name=name,
            fingerprint_sha256=fingerprint,
            is_drifting=is_drifting,
        )
        for deployment_id, account_id, label, is_drifting, name, fingerprint in session.execute(statement).all()
    ]


def _findings(session: Session, snapshot: Snapshot, held: Iterable[_Held]) -> Found:
    objects = {one.ref.name: one for one in snapshot.objects}
    told = _anomalies_by_object(snapshot)
    found = {one.deployment_id: _finding(one, objects.get(one.name), told.get(one.name)) for one in held}
    named = {each: finding for each, finding in found.items() if finding is not None}
    strangers = _strangers(session, held, objects, named)
    return {
        each: Finding(code=finding.code, message=f"{finding.message}{strangers.get(each, '')}")
        for each, finding in named.items()
    }


def _anomalies_by_object(snapshot: Snapshot) -> dict[ObjectName, drivers.Anomaly]:
    """The gravest of each object; a driver names the object, or a file that is called after it."""
    gravity = {kind: place for place, kind in enumerate(AnomalyKind)}
    found: dict[ObjectName, drivers.Anomaly] = {}
    for anomaly in sorted(snapshot.anomalies, key=lambda one: gravity[one.kind], reverse=True):
        name = _name_in(anomaly)
        if name is not None:
            found[name] = anomaly
    return found


def _name_in(anomaly: drivers.Anomaly) -> ObjectName | None:
    if anomaly.account_id is None:
        return None
    label = anomaly.subject.rpartition("/")[2].partition(".")[0]
    try:
        return ObjectName.parse(label, account_id=anomaly.account_id)
    except ValueError:
        return None


def _finding(held: _Held, there: StagedObject | None, anomaly: drivers.Anomaly | None) -> Finding | None:
    what = f"{held.name.label} ({held.certificate_name}, SHA-256 {held.fingerprint_sha256})"
    if anomaly is not None:
        return Finding(code=anomaly.kind.value, message=f"{what}: {anomaly.message}")
    if there is None:
        return Finding(code=DriftCode.MISSING, message=f"{what}: the load balancer does not hold it any more.")
    if there.fingerprint_sha256 not in (None, held.fingerprint_sha256):
        return Finding(code=DriftCode.ALTERED, message=f"{what}: the load balancer holds another certificate.")
    return None


def _strangers(
    session: Session, held: Iterable[_Held], objects: dict[ObjectName, StagedObject], found: Found
) -> dict[str, str]:
    """For each object that holds another certificate: which one, by name if the account has it."""
    shown = {
        one.deployment_id: (one.name.account_id, fingerprint)
        for one in held
        if one.deployment_id in found
        and one.name in objects
        and (fingerprint := objects[one.name].fingerprint_sha256) not in (None, one.fingerprint_sha256)
    }
    if not shown:
        return {}
    wanted = tuple_(Certificate.account_id, Certificate.fingerprint_sha256).in_(set(shown.values()))
    statement = select(Certificate.account_id, Certificate.fingerprint_sha256, Certificate.subject).where(wanted)
    known = {(account, fingerprint): subject for account, fingerprint, subject in session.execute(statement).all()}
    return {
        each: f" There is now: {known.get(key) or 'a certificate that we do not know'}, SHA-256 {key[1]}."
        for each, key in shown.items()
    }


def _log_anomalies(region_id: str, snapshot: Snapshot, held: Iterable[_Held], listeners: Found) -> None:
    ours = {one.name for one in held}
    left = [one for one in snapshot.anomalies if _name_in(one) not in ours and one.subject not in listeners]
    if left:
        kinds = ", ".join(sorted({one.kind.value for one in left}))
        log.warning("region_anomalies", region=region_id, code=kinds, count=len(left))


def _put_right(context: Context, tools: RegionTools, region: Region, snapshot: Snapshot, report: _Report) -> None:
    """What the region wants put right; then look again soon."""
    changes = _put_objects_right(context, tools, region, snapshot, report.objects)
    for listener_id in _repairable(region, report.listeners):
        changes += _bind_again(context, listener_id, now=tools.clock())
    if changes:
        look_soon(context, region.id, now=tools.clock())


def _repairable(region: Region, found: Found) -> list[str]:
    return [each for each, finding in found.items() if region.repair and finding.code in _REPAIRABLE]


def _put_objects_right(context: Context, tools: RegionTools, region: Region, snapshot: Snapshot, found: Found) -> int:
    """Take the region for ourselves if something is to be done there; how many things were."""
    broken = _repairable(region, found)
    with context.transaction() as session:
        leftovers = _leftovers(session, region.id, snapshot)
    if not broken and not leftovers:
        return 0
    with balancers.writing(context, region.id, clock=tools.clock) as fence:
        if fence is None:
            return 0
        site = _site(context, tools, region, fence)
        try:
            driver = site.driver()
            changes = sum([put_object_right(context, site, driver, deployment_id=each) for each in broken])
            return changes + _clear(context, site, driver)
        except Superseded:
            log.warning("region_taken_over", region=region.id, fence=fence)
            return 0
        except Exception as error:  # noqa: BLE001 - whatever a driver raises, the next period tries again
            log.warning("region_not_put_right", region=region.id, exception=describe_exception(error))
            return 0


def _bind_again(context: Context, listener_id: str, *, now: datetime) -> int:
    """By whoever is woken to bind it, as after a client found the fault; somebody who changes it does that anyway."""
    with context.transaction() as session:
        listener = proofs.hold(session, listener_id)
        if listener is None or listener.state != ListenerState.BOUND:
            return 0
        return int(put_listener_right(session, listener, now=now))


def _site(context: Context, tools: RegionTools, region: Region, fence: int) -> Site:
    """Held for as long as the work takes: a hundred objects of a slow balancer may take longer than one lease."""
    return Site(
        region_id=region.id,
        region=region,
        fence=fence,
        tools=tools,
        fuse=Fuse(region=region.id, fence=fence, circuit=Circuit()),
        renew=lambda: balancers.renew(context, region.id, fence, now=tools.clock()),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Leftovers:
    """What a worker left behind that died at the wrong moment: rows say that it is gone, the balancer has it."""

    listeners: tuple[drivers.Listener, ...]
    objects: tuple[Ref, ...]

    def __bool__(self) -> bool:
        return bool(self.listeners or self.objects)


def _leftovers(session: Session, region_id: str, snapshot: Snapshot) -> _Leftovers:
    """Only what our rows know to have ended: what no row knows may be another installation's, and is left alone."""
    ended = _ended_listeners(session, region_id, [one.listener_id for one in snapshot.listeners])
    return _Leftovers(
        listeners=tuple(one for one in snapshot.listeners if (one.account_id, one.listener_id) in ended),
        objects=_ended_objects(session, region_id, snapshot),
    )


def _ended_listeners(session: Session, region_id: str, listener_ids: Sequence[str]) -> set[tuple[str, str]]:
    statement = select(Listener.account_id, Listener.id).where(
        Listener.id.in_(listener_ids),
        Listener.region == region_id,
        Listener.state.in_([ListenerState.DELETED, ListenerState.FAILED]),
    )
    return set(session.execute(statement).all())


def _ended_objects(session: Session, region_id: str, snapshot: Snapshot) -> tuple[Ref, ...]:
    wanted = {one.ref.name.certificate_id for one in snapshot.objects}
    if not wanted:
        return ()
    known = select(Certificate.account_id, Certificate.id).where(Certificate.id.in_(wanted))
    needed = select(Deployment.account_id, Deployment.certificate_id).where(
        Deployment.certificate_id.in_(wanted),
        Deployment.region == region_id,
        or_(Deployment.holds_slot, Deployment.state.in_([*ACTIVE_DEPLOYMENTS, DeploymentState.DEPLOYED])),
    )
    ended = set(session.execute(known).all()) - set(session.execute(needed).all())
    return tuple(one.ref for one in snapshot.objects if (one.ref.name.account_id, one.ref.name.certificate_id) in ended)


def _clear(context: Context, site: Site, driver: Driver) -> int:
    """As the region's only writer: look again, for work may have ended since, then take the leftovers away."""
    site.stay()
    snapshot = driver.snapshot()
    with context.transaction() as session:
        leftovers = _leftovers(session, site.region_id, snapshot)
    count = sum([_done(site, driver.unbind, one) for one in leftovers.listeners])
    count += sum([_done(site, driver.retire, one) for one in leftovers.objects])
    if count:
        log.warning("leftovers_removed", region=site.region_id, count=count)
    return count


def _done(site: Site, verb: Any, argument: drivers.Listener | Ref) -> int:
    site.stay()
    try:
        return int(verb(argument))
    except DriverError as error:
        log.warning("leftover_not_removed", region=site.region_id, code=error.code)
        return 0
