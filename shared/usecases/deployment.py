"""Work in one region: stage or retire certificates there, each once, and write down how it went.

Three steps, so that no transaction waits for a load balancer: claim and plan (one transaction), act (none), settle
(one transaction, only where our fence is still the newest). Several that are due go through the steps together: what a
transaction costs is paid once for all of them.
"""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import structlog
from sqlalchemy import select
from sqlalchemy.orm import Session

from shared.domain.certificates import Material
from shared.domain.retries import after_failure, is_retryable, must_read_first
from shared.domain.rollout import DeploymentState, Intent, JobState
from shared.errors import Corrupt, DriverError, OutcomeUnknown
from shared.events import log as events
from shared.events.catalogue import EventType
from shared.models import Certificate, Deployment, Job, JobDeployment, leases
from shared.telemetry import describe_exception
from shared.usecases import attempts, jobs, settlement, switching
from shared.usecases.attempts import error_document
from shared.usecases.context import Context
from shared.usecases.driver import Driver, ObjectName, Ref, Staged, StagesMany
from shared.usecases.material import material_of, materials_of, owner_of
from shared.usecases.region_tools import Site, Superseded
from shared.usecases.switching import Owned, Switch
from shared.usecases.undoing import Begun, undo_deployment
from shared.wakeups import Task, WakeUp

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Plan:
    """What was claimed, and what is to be done with it."""

    deployment_id: str
    fence: int
    job_id: str
    intent: Intent
    remote_id: str | None
    certificate: Certificate
    """Read, not tracked: its content never changes."""
    is_last: bool
    """No attempt is left after this one."""
    is_exhausted: bool
    """No attempt is left, and the last one never answered: it took its worker with it."""
    must_read_first: bool
    """Nobody knows what the last attempt changed: it never answered, or its answer was lost."""
    switch: Switch | None
    """What the certificate replaces in this region, and which listeners move to it."""
    is_cancelled: bool
    """Nothing more is to be tried; what ``attempt`` attempts may have left is undone."""
    attempt: int

    @property
    def is_attempt(self) -> bool:
        """One more is being made."""
        return not self.is_exhausted and not self.is_cancelled

    @property
    def is_plain(self) -> bool:
        """Only to be staged: nothing is replaced, removed or given up."""
        return self.is_attempt and self.intent is Intent.DEPLOY and self.switch is None


@dataclass(frozen=True, slots=True, kw_only=True)
class _Result:
    remote_id: str | None = None
    evidence: dict[str, Any] | None = None


def work_on_deployments(context: Context, site: Site, *, limit: int) -> int:
    """Deploy to, or remove from, the region whatever is due there, at most ``limit``. Safe to call at any time.

    Returns:
        How many were claimed; what is due after the first listener that is due waits for it.
    """
    with context.transaction() as session:
        plans = _claim(context, session, site, limit=limit)
    plain = [plan for plan in plans if plan.is_plain]
    results = _stage_together(context, site, plain) if len(plain) > 1 else {}
    _record_staged(context, site, [(plan, results[plan.deployment_id]) for plan in plain if results])
    for plan in plans:
        if plan.deployment_id not in results:
            _work_on(context, site, plan)
    return len(plans)


def _work_on(context: Context, site: Site, plan: _Plan) -> None:
    if plan.is_cancelled:
        undo_deployment(context, site, _begun(plan))
        return
    try:
        result = _act(context, site, plan)
    except Superseded:
        log.info("deployment_superseded", deployment_id=plan.deployment_id, fence=plan.fence)
    except Exception as error:  # noqa: BLE001 - whatever a driver raises, the region must get an answer
        _record_failure(context, site, plan, error)
    else:
        if plan.is_plain:
            _record_staged(context, site, [(plan, result)])
        else:
            _record_success(context, site, plan, result)


def _claim(context: Context, session: Session, site: Site, *, limit: int) -> list[_Plan]:
    now = site.tools.clock()
    claimed = leases.claim_due_in_region(
        session, site.region_id, writer=site.fence, now=now, lease=context.settings.lease, limit=limit
    )
    if not claimed:
        return []
    jobs_of, certificates = _jobs_and_certificates(session, claimed)
    ready = []
    for deployment in claimed:
        if jobs_of[deployment.job_id].state == JobState.DEPLOYING:
            ready.append(deployment)
        else:
            leases.due(deployment, now + jobs.NOT_BEFORE_VALIDATION)
    plans = [
        _plan(session, site, row, job=jobs_of[row.job_id], certificate=certificates[row.certificate_id])
        for row in ready
    ]
    _announce(session, [row for row, plan in zip(ready, plans, strict=True) if plan.is_attempt], now=now)
    return plans


def _jobs_and_certificates(
    session: Session, deployments: Sequence[Deployment]
) -> tuple[dict[str, Job], dict[str, Certificate]]:
    statement = (
        select(Job, Certificate)
        .join(Deployment, Deployment.job_id == Job.id)
        .join(Certificate, Certificate.id == Deployment.certificate_id)
        .where(Deployment.id.in_([deployment.id for deployment in deployments]))
    )
    rows = session.execute(statement).all()
    return {job.id: job for job, _ in rows}, {certificate.id: certificate for _, certificate in rows}


def _plan(session: Session, site: Site, deployment: Deployment, *, job: Job, certificate: Certificate) -> _Plan:
    now = site.tools.clock()
    max_attempts = site.retry_limits.max_attempts
    is_exhausted = deployment.attempt >= max_attempts
    is_cancelled = job.cancel_requested_at is not None and not _has_moved(deployment)
    is_lost = bool(deployment.attempt) and attempts.lost(session, deployment, now=now)
    if not is_exhausted and not is_cancelled:
        _begin(deployment, now=now)
    intent = Intent(deployment.intent)
    replaces = intent is Intent.DEPLOY and certificate.replaces_id is not None
    return _Plan(
        deployment_id=deployment.id,
        fence=deployment.fence,
        job_id=deployment.job_id,
        certificate=certificate,
        intent=intent,
        remote_id=deployment.remote_id,
        is_last=deployment.attempt >= max_attempts,
        is_exhausted=is_exhausted,
        must_read_first=is_lost or must_read_first((deployment.error or {}).get("code")),
        switch=switching.plan_switch(session, deployment) if replaces else None,
        is_cancelled=is_cancelled,
        attempt=deployment.attempt,
    )


def _has_moved(deployment: Deployment) -> bool:
    """Whether clients have the new certificate already, and only retiring the old one is left: that is finished."""
    return deployment.attempt > 0 and deployment.intent == Intent.DEPLOY and deployment.remote_id is not None


def _begun(plan: _Plan) -> Begun:
    return Begun(
        deployment_id=plan.deployment_id,
        fence=plan.fence,
        job_id=plan.job_id,
        certificate=plan.certificate,
        intent=plan.intent,
        attempt=plan.attempt,
        switch=plan.switch,
    )


def _begin(deployment: Deployment, *, now: datetime) -> None:
    deployment.attempt += 1
    deployment.updated_at = now
    if deployment.intent == Intent.DEPLOY:
        deployment.state = DeploymentState.DEPLOYING


def _announce(session: Session, deployments: Iterable[Deployment], *, now: datetime) -> None:
    facts, begun = defaultdict(list), defaultdict(list)
    for deployment in deployments:
        facts[deployment.account_id].append(jobs.region_fact(EventType.DEPLOYMENT_STARTED, deployment))
        begun[deployment.account_id].append(attempts.of_deployment(deployment, now=now))
    for account_id in sorted(facts):
        events.append(session, account_id, facts[account_id], now=now, beside=begun[account_id])


def _stage_together(context: Context, site: Site, plans: Sequence[_Plan]) -> dict[str, _Result]:
    """All of them in one change, where the driver can; empty where it cannot, or one of them stands in the way."""
    try:
        driver = site.driver()
        if not isinstance(driver, StagesMany):
            return {}
        with context.transaction() as session:
            materials = materials_of(context, session, [plan.certificate for plan in plans])
        wanted = [(material, owner_of(plan.certificate)) for material, plan in zip(materials, plans, strict=True)]
        staged = driver.stage_all(wanted)
    except Exception as error:  # noqa: BLE001 - each is tried by itself next, and answers for itself
        log.info("not_staged_together", region=site.region_id, count=len(plans), exception=describe_exception(error))
        return {}
    checked_at = site.tools.clock()
    return {
        plan.deployment_id: _staged(driver, one, material, checked_at=checked_at)
        for plan, material, one in zip(plans, materials, staged, strict=True)
    }


def _staged(driver: Driver, staged: Staged, material: Material, *, checked_at: datetime) -> _Result:
    evidence = {
        "object": staged.ref.name.label,
        "fingerprint_sha256": material.fingerprint_sha256,
        "readback": driver.capabilities.readback,
        "checked_at": checked_at.isoformat(),
    }
    return _Result(remote_id=staged.ref.remote_id, evidence=evidence)


def _act(context: Context, site: Site, plan: _Plan) -> _Result:
    """Outside any transaction; the key lives only here, in memory, for the act's duration."""
    if plan.is_exhausted and not plan.switch:
        raise _worker_lost()
    driver = site.driver()
    with context.transaction() as session:
        material = material_of(context, session, plan.certificate)
    owner = owner_of(plan.certificate)
    name = ObjectName.of(material, owner)
    if plan.is_exhausted:
        raise _give_up(context, site, driver, plan, name)
    if plan.intent is Intent.REMOVE:
        switching.retire_named(driver, name, remote_id=plan.remote_id)
        return _Result()
    staged = _found(driver, name, material) if plan.must_read_first else None
    staged = staged or driver.stage(material, owner=owner)
    if plan.switch:
        own = Owned(deployment_id=plan.deployment_id, fence=plan.fence)
        _replace(context, site, driver, plan.switch, own=own, staged=staged.ref, is_last=plan.is_last)
    return _staged(driver, staged, material, checked_at=site.tools.clock())


def _found(driver: Driver, name: ObjectName, material: Material) -> Staged | None:
    """What an attempt that never answered has staged after all; a balancer that tells no fingerprint is asked again."""
    held = driver.snapshot().find(name)
    is_same = held is not None and held.fingerprint_sha256 == material.fingerprint_sha256
    return Staged(ref=held.ref, created=False) if held is not None and is_same else None


def _give_up(context: Context, site: Site, driver: Driver, plan: _Plan, name: ObjectName) -> OutcomeUnknown:
    """No attempt is left and nobody knows how far the last one came: a replacement is undone as far as it may have."""
    error = _worker_lost()
    if plan.switch and plan.remote_id is None:
        switching.undo(context, site, driver, plan.switch)
        switching.discard(driver, name, error)
    return error


def _worker_lost() -> OutcomeUnknown:
    return OutcomeUnknown("Every worker that tried died at it.", code="worker_lost")


def _replace(
    context: Context, site: Site, driver: Driver, switch: Switch, *, own: Owned, staged: Ref, is_last: bool
) -> None:
    """The listeners first, proven; then the old object. A region that cannot keeps the old one, and only it."""
    try:
        switching.move(context, site, driver, switch, own=own, staged=staged)
    except DriverError as error:
        if is_last or not is_retryable(error):
            switching.discard(driver, staged.name, error)
        raise
    switching.retire(driver, switch)


def _record_staged(context: Context, site: Site, done: Sequence[tuple[_Plan, _Result]]) -> None:
    """The answers of what was staged, together or alone, in one transaction."""
    if not done:
        return
    now = site.tools.clock()
    results = {plan.deployment_id: result for plan, result in done}
    with context.transaction() as session, session.no_autoflush:
        owned = leases.owned_deployments(session, {plan.deployment_id: plan.fence for plan, _ in done})
        for deployment in owned:
            _note_staged(deployment, results[deployment.id], now=now)
        attempts.succeeded(session, Deployment, {row.id: row.fence for row in owned}, now=now)
        site.fuse.note(session, None, now=now)
        facts = settlement.succeed_all(session, owned, now=now)
        settlement.settle_regions(session, facts, now=now)
    if len(owned) < len(done):
        log.info("deployments_superseded", region=site.region_id, count=len(done) - len(owned))


def _note_staged(deployment: Deployment, result: _Result, *, now: datetime) -> None:
    deployment.remote_id = result.remote_id
    deployment.evidence = result.evidence
    deployment.deployed_at = now


def _record_success(context: Context, site: Site, plan: _Plan, result: _Result) -> None:
    now = site.tools.clock()
    with context.transaction() as session:
        if plan.intent is Intent.REMOVE:  # the last removal may end the certificate, whose row comes before deployments
            session.get_one(Certificate, plan.certificate.id, with_for_update={"key_share": True})
        if plan.switch:
            switching.lock_certificates(session, plan.switch)
        deployment = leases.owned(session, Deployment, plan.deployment_id, fence=plan.fence)
        if deployment is None:
            log.info("deployment_superseded", deployment_id=plan.deployment_id, fence=plan.fence)
            return
        if plan.intent is Intent.DEPLOY:
            _note_staged(deployment, result, now=now)
        attempts.succeeded(session, Deployment, {deployment.id: deployment.fence}, now=now)
        site.fuse.note(session, None, now=now)
        facts = [settlement.succeed(session, deployment, now=now)]
        if plan.switch:
            facts += switching.finish(session, plan.switch, deployment, now=now)
        settlement.settle_region(session, plan.job_id, *facts, now=now)


def _record_failure(context: Context, site: Site, plan: _Plan, error: Exception) -> None:
    tell = log.error if isinstance(error, Corrupt) else log.warning
    tell(
        "deployment_attempt_failed",
        deployment_id=plan.deployment_id,
        region=site.region_id,
        exception=describe_exception(error),
    )
    now = site.tools.clock()
    with context.transaction() as session:
        session.get_one(Certificate, plan.certificate.id, with_for_update={"key_share": True})
        deployment = leases.owned(session, Deployment, plan.deployment_id, fence=plan.fence)
        if deployment is None:
            log.info("deployment_superseded", deployment_id=plan.deployment_id, fence=plan.fence)
            return
        site.fuse.note(session, error, now=now)
        _retry_or_fail(session, site, deployment, plan, error)


def _retry_or_fail(session: Session, site: Site, deployment: Deployment, plan: _Plan, error: Exception) -> None:
    now = site.tools.clock()
    decision = after_failure(
        error,
        attempt=deployment.attempt,
        chance=random.random(),  # noqa: S311 - jitter, not a secret
        limits=site.retry_limits,
        elapsed=attempts.elapsed(session, deployment, now=now),
    )
    is_cancelled = decision.retry and _is_cancelled(session, plan)
    is_over = not decision.retry or (is_cancelled and _has_moved(deployment))
    document = error_document(error, retryable=not is_over)
    if is_over:
        fact = settlement.fail(session, deployment, document, keeps_slot=_may_be_there(deployment, error), now=now)
        attempts.failed(session, deployment, now=now)
        settlement.settle_region(session, plan.job_id, fact, now=now)
        return
    next_attempt_at = now if is_cancelled else now + decision.after
    deployment.error = {**document, "next_attempt_at": next_attempt_at.isoformat().replace("+00:00", "Z")}
    deployment.state = DeploymentState.REMOVING if plan.intent is Intent.REMOVE else DeploymentState.PENDING
    leases.due(deployment, next_attempt_at)
    attempts.failed(session, deployment, now=now)
    answer = session.get_one(JobDeployment, (plan.job_id, deployment.id))
    answer.attempt = deployment.attempt
    if is_cancelled:
        events.wake(session, WakeUp(Task.REGION, deployment.region))
        return
    events.append(
        session, deployment.account_id, [jobs.region_fact(EventType.DEPLOYMENT_RETRYING, deployment)], now=now
    )


def _is_cancelled(session: Session, plan: _Plan) -> bool:
    """By the job's row, locked: whoever cancels it after us finds the deployment waiting, and not us at work."""
    job = session.get_one(Job, plan.job_id, with_for_update={"key_share": True})
    return job.cancel_requested_at is not None


def _may_be_there(deployment: Deployment, error: Exception) -> bool:
    """Whether the balancer may hold the object: then it goes on counting against the quota."""
    if deployment.intent == Intent.REMOVE or deployment.remote_id is not None:
        return True
    return isinstance(error, DriverError) and error.may_have_happened
