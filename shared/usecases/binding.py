"""Work on one listener: bind it as wanted and prove it, or unbind it, once, and write down how it went."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime

import structlog
from sqlalchemy import select
from sqlalchemy.orm import Session

from shared.domain.listeners import ListenerShape, ListenerState
from shared.domain.rollout import FINAL_JOBS, DeploymentState, JobState, ServedState
from shared.domain.served import Verdict
from shared.errors import CertfleetError, OutcomeUnknown, Unsupported
from shared.events import log as events
from shared.events.log import FIRST_WAKE, Fact
from shared.models import Certificate, Deployment, Job, JobListener, Listener, leases
from shared.telemetry import describe_exception
from shared.usecases import attempts, proofs, serving, settlement
from shared.usecases.attempts import error_document
from shared.usecases.context import Context
from shared.usecases.driver import Driver
from shared.usecases.listener_names import free_hosts
from shared.usecases.region_tools import Site, Superseded
from shared.usecases.serving import Change, Shelf
from shared.usecases.switching import listener_fact
from shared.wakeups import Task, WakeUp

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Plan:
    """What was claimed, and what is to be done with it."""

    fence: int
    change: Change
    is_unbinding: bool
    is_exhausted: bool
    """No attempt is left, and the last one never answered: it took its worker with it."""
    is_cancelled: bool
    """Nothing more is to be tried; what ``attempt`` attempts may have left is undone."""
    attempt: int


def repair_listener(session: Session, listener: Listener, *, now: datetime) -> None:
    """Bind it again as its row says, after somebody changed the balancer by hand. The caller holds the row.

    Its last job was answered before and stays as it is.
    """
    listener.state = ListenerState.PENDING
    listener.attempt = 0
    listener.error = None
    leases.due(listener, now, wake_at=now + FIRST_WAKE)
    events.wake(session, WakeUp(Task.REGION, listener.region))


def work_on_listener(context: Context, site: Site, listener_id: str) -> None:
    """Bind or unbind it, if it is due and nobody else is at it. Safe to call at any time."""
    with context.transaction() as session:
        plan = _claim(context, session, site, listener_id)
    if plan is None:
        return
    if plan.is_cancelled:
        _undo(context, site, plan)
        return
    try:
        verdict = _act(context, site, plan)
    except Superseded:
        log.info("listener_superseded", listener_id=listener_id, fence=plan.fence)
    except Exception as error:  # noqa: BLE001 - whatever a driver raises, the listener's job must get an answer
        _record_failure(context, site, plan, error)
    else:
        _record_success(context, site, plan, verdict)


def _claim(context: Context, session: Session, site: Site, listener_id: str) -> _Plan | None:
    now = site.tools.clock()
    fence = leases.claim(session, Listener, listener_id, now=now, lease=context.settings.lease)
    if fence is None:
        return None
    listener = session.get_one(Listener, listener_id)
    is_unbinding = listener.state == ListenerState.UNBINDING
    is_exhausted = listener.attempt >= site.retry_limits.max_attempts
    job = session.get_one(Job, listener.job_id, with_for_update={"key_share": True})
    is_cancelled = _is_cancelled(job)
    if listener.attempt:
        attempts.lost(session, listener, now=now)
    if not is_exhausted and not is_cancelled:
        _begin(session, listener, job, now=now)
    wanted = serving.wanted_shape(listener)
    if not is_unbinding:
        wanted = _current(session, wanted, listener.region)
    return _Plan(
        fence=fence,
        change=serving.plan_change(session, listener, wanted),
        is_unbinding=is_unbinding,
        is_exhausted=is_exhausted,
        is_cancelled=is_cancelled,
        attempt=listener.attempt,
    )


def _is_cancelled(job: Job) -> bool:
    """A job that is over has said its word: what is done to its listener now is a repair."""
    return job.cancel_requested_at is not None and job.state not in FINAL_JOBS


def _begin(session: Session, listener: Listener, job: Job, *, now: datetime) -> None:
    listener.attempt += 1
    listener.updated_at = now
    if listener.state != ListenerState.UNBINDING:
        listener.state = ListenerState.BINDING
    session.add(attempts.of_listener(session, listener, now=now))
    if job.state == JobState.QUEUED:
        job.state = JobState.DEPLOYING
        job.started_at = job.started_at or now


def _current(session: Session, shape: ListenerShape, region: str) -> ListenerShape:
    """The same with every certificate that was replaced in the region meanwhile by the one in its place."""
    ca = shape.ca_certificate_id
    return replace(
        shape,
        server_certificate_id=_in_place_of(session, shape.server_certificate_id, region),
        ca_certificate_id=_in_place_of(session, ca, region) if ca else None,
    )


def _in_place_of(session: Session, certificate_id: str, region: str) -> str:
    """The certificate itself while the region has it, else its successor; itself when none is there."""
    seen = [certificate_id]
    while not _is_deployed(session, seen[-1], region):
        successor = session.get_one(Certificate, seen[-1]).replaced_by_id
        if successor is None or successor in seen:
            return certificate_id
        seen.append(successor)
    return seen[-1]


def _is_deployed(session: Session, certificate_id: str, region: str) -> bool:
    statement = select(Deployment.id).where(
        Deployment.certificate_id == certificate_id,
        Deployment.region == region,
        Deployment.state == DeploymentState.DEPLOYED,
    )
    return session.execute(statement).first() is not None


def _undo(context: Context, site: Site, plan: _Plan) -> None:
    """The job is cancelled: serve what was served before it, and say so."""
    if plan.attempt:
        _serve_as_before(context, site, plan)
    with context.transaction() as session:
        listener = _owned(session, plan)
        if listener is None:
            return
        now = site.tools.clock()
        settlement.cancel_listener(session, listener, now=now)
        settlement.settle_region(session, listener.job_id, now=now)


def _serve_as_before(context: Context, site: Site, plan: _Plan) -> None:
    try:
        driver = site.driver()
    except CertfleetError as error:
        log.warning("not_put_back", listener_id=plan.change.listener_id, exception=describe_exception(error))
        return
    serving.put_back(driver, Shelf(context, site, driver), plan.change)


def _act(context: Context, site: Site, plan: _Plan) -> Verdict | None:
    """Outside any transaction. ``None``: it is unbound, there is nothing to prove."""
    driver = site.driver()
    shelf = Shelf(context, site, driver)
    if plan.is_exhausted:
        if not plan.is_unbinding:
            serving.put_back(driver, shelf, plan.change)
        raise OutcomeUnknown("Every worker that tried died at it.", code="worker_lost")
    if plan.is_unbinding:
        serving.unbind(driver, shelf, plan.change)
        return None
    return _bind(context, site, driver, shelf, plan.change)


def _bind(context: Context, site: Site, driver: Driver, shelf: Shelf, change: Change) -> Verdict:
    _must_be_there(context, site, change.wanted)
    try:
        return serving.bind_and_prove(site, driver, shelf, change)
    except Superseded:
        raise
    except Exception:
        serving.put_back(driver, shelf, change)
        raise


def _must_be_there(context: Context, site: Site, shape: ListenerShape) -> None:
    with context.transaction() as session:
        missing = [one for one in serving.certificates_of(shape) if not _is_deployed(session, one, site.region_id)]
    if missing:
        raise Unsupported(
            f"The region does not have the certificate {', '.join(missing)}.",
            code="certificate_not_in_region",
            hint="Deploy it there first: POST /v1/certificates/{id}/deployments.",
        )


def _record_success(context: Context, site: Site, plan: _Plan, verdict: Verdict | None) -> None:
    now = site.tools.clock()
    with context.transaction() as session:
        site.fuse.note(session, None, now=now)
        listener = _owned(session, plan)
        if listener is None:
            return
        attempts.succeeded(session, Listener, {listener.id: plan.fence}, now=now)
        facts = (
            _unbound(session, listener, now=now)
            if verdict is None
            else _bound(context, session, listener, plan, verdict, now=now)
        )
        _settle(session, listener, facts, is_failed=False, now=now)


def _owned(session: Session, plan: _Plan) -> Listener | None:
    """The listener's row, after those that the lock order puts before it; ``None`` when somebody else owns it."""
    before = plan.change.before
    used = {*serving.certificates_of(plan.change.wanted), *(serving.certificates_of(before) if before else ())}
    listener = session.get_one(Listener, plan.change.listener_id)
    statement = select(Deployment.id).where(Deployment.certificate_id.in_(used), Deployment.region == listener.region)
    session.execute(statement.order_by(Deployment.id).with_for_update(key_share=True)).all()
    owned = leases.owned(session, Listener, listener.id, fence=plan.fence)
    if owned is None:
        log.info("listener_superseded", listener_id=listener.id, fence=plan.fence)
    return owned


def _bound(
    context: Context, session: Session, listener: Listener, plan: _Plan, verdict: Verdict, *, now: datetime
) -> list[Fact]:
    wanted, before = plan.change.wanted, plan.change.before
    was_new = not listener.revision
    listener.hosts = list(wanted.hosts)
    listener.authentication = wanted.authentication
    listener.server_certificate_id = wanted.server_certificate_id
    listener.ca_certificate_id = wanted.ca_certificate_id
    listener.change = None
    listener.state = ListenerState.BOUND
    leases.finished(listener)
    listener.error = None
    listener.revision += 1
    free_hosts(session, listener, keep=wanted.hosts)
    session.flush()
    facts = proofs.record(session, listener, verdict, now=now, every=context.settings.patrol_every)
    left = {*serving.certificates_of(before)} - {*serving.certificates_of(wanted)} if before else set()
    for certificate_id in sorted(left):
        facts += proofs.refresh(session, certificate_id, listener.region, now=now)
    return [*facts, listener_fact(listener, "created" if was_new else "changed")]


def _unbound(session: Session, listener: Listener, *, now: datetime) -> list[Fact]:
    listener.state = ListenerState.DELETED
    leases.finished(listener)
    listener.deleted_at = now
    listener.change = None
    listener.error = None
    listener.served, listener.next_probe_at = ServedState.NOT_CHECKED, None
    free_hosts(session, listener, keep=())
    session.flush()
    facts: list[Fact] = []
    for certificate_id in serving.certificates_of(serving.shape_of(listener)):
        facts += proofs.refresh(session, certificate_id, listener.region, now=now)
    return [*facts, listener_fact(listener, "deleted")]


def _record_failure(context: Context, site: Site, plan: _Plan, error: Exception) -> None:
    now = site.tools.clock()
    log.warning(
        "listener_attempt_failed",
        listener_id=plan.change.listener_id,
        region=site.region_id,
        exception=describe_exception(error),
    )
    with context.transaction() as session:
        site.fuse.note(session, error, now=now)
        listener = _owned(session, plan)
        if listener is None:
            return
        decision = attempts.decide(session, listener, error, limits=site.retry_limits, now=now)
        listener.error = error_document(error, retryable=decision.retry)
        listener.updated_at = now
        if decision.retry:
            is_cancelled = _is_cancelled(session.get_one(Job, listener.job_id, with_for_update={"key_share": True}))
            at = now if is_cancelled else now + decision.after
            _try_again(session, listener, at, is_unbinding=plan.is_unbinding)
        attempts.failed(session, listener, now=now)
        if decision.retry:
            return
        _fail(session, listener, is_unbinding=plan.is_unbinding)
        _settle(session, listener, [], is_failed=True, now=now)


def _try_again(session: Session, listener: Listener, at: datetime, *, is_unbinding: bool) -> None:
    listener.error = attempts.postponed(listener.error or {}, at)
    listener.state = ListenerState.UNBINDING if is_unbinding else ListenerState.PENDING
    leases.due(listener, at)
    answer = session.get_one(JobListener, (listener.job_id, listener.id))
    if answer.state is None:
        answer.attempt = listener.attempt


def _fail(session: Session, listener: Listener, *, is_unbinding: bool) -> None:
    """A listener that was bound before still is, as it was; the error says what did not come of it."""
    listener.change = None
    listener.state = ListenerState.BOUND if listener.revision else ListenerState.FAILED
    leases.finished(listener)
    if not is_unbinding:
        free_hosts(session, listener, keep=listener.hosts)


def _settle(session: Session, listener: Listener, facts: list[Fact], *, is_failed: bool, now: datetime) -> None:
    listener.updated_at = now
    if settlement.answer_listener(session, listener, is_failed=is_failed, now=now):
        settlement.settle_region(session, listener.job_id, *facts, now=now)
    else:
        events.append(session, listener.account_id, facts, now=now)
