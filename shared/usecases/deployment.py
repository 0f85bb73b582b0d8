"""Work in one region: stage or retire one certificate there, once, and write down how it went.

Three steps, so that no transaction waits for a load balancer: claim and plan (one transaction), act (none), settle
(one transaction, only if our fence is still the newest).
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import structlog
from sqlalchemy.orm import Session

from shared.config.regions import DEFAULT_MAX_ATTEMPTS
from shared.domain.retries import after_failure, is_retryable
from shared.domain.rollout import DeploymentState, Intent, JobState
from shared.errors import DriverError, OutcomeUnknown
from shared.events import log as events
from shared.events.catalogue import EventType
from shared.models import Certificate, Deployment, Job, JobDeployment, leases
from shared.telemetry import describe_exception
from shared.usecases import jobs, settlement, switching
from shared.usecases.attempts import error_document
from shared.usecases.context import Context
from shared.usecases.driver import Driver, ObjectName, Ref
from shared.usecases.material import material_of, owner_of
from shared.usecases.region_tools import Site, Superseded
from shared.usecases.switching import Owned, Switch

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Plan:
    """What was claimed, and what is to be done with it."""

    fence: int
    job_id: str
    certificate_id: str
    intent: Intent
    remote_id: str | None
    is_last: bool
    """No attempt is left after this one."""
    is_exhausted: bool
    """No attempt is left, and the last one never answered: it took its worker with it."""
    switch: Switch | None
    """What the certificate replaces in this region, and which listeners move to it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Result:
    remote_id: str | None = None
    evidence: dict[str, Any] | None = None


def work_on_deployment(context: Context, site: Site, deployment_id: str) -> None:
    """Deploy to, or remove from, the region, if it is due and nobody else is at it. Safe to call at any time."""
    clock = site.tools.clock
    with context.transaction() as session:
        plan = _claim(context, session, deployment_id, now=clock())
    if plan is None:
        return
    try:
        result = _act(context, site, deployment_id, plan)
    except Superseded:
        log.info("deployment_superseded", deployment_id=deployment_id, fence=plan.fence)
    except Exception as error:  # noqa: BLE001 - whatever a driver raises, the region must get an answer
        _record_failure(context, site, deployment_id, plan, error)
    else:
        _record_success(context, deployment_id, plan, result, now=clock())


def _claim(context: Context, session: Session, deployment_id: str, *, now: datetime) -> _Plan | None:
    fence = leases.claim(session, Deployment, deployment_id, now=now, lease=context.settings.lease)
    if fence is None:
        return None
    deployment = session.get_one(Deployment, deployment_id)
    job = session.get_one(Job, deployment.job_id)
    if job.state != JobState.DEPLOYING:
        leases.due(deployment, now + jobs.NOT_BEFORE_VALIDATION)
        return None
    max_attempts = _max_attempts(context, deployment)
    is_exhausted = deployment.attempt >= max_attempts
    if not is_exhausted:
        _begin(session, deployment, now=now)
    intent = Intent(deployment.intent)
    return _Plan(
        fence=fence,
        job_id=deployment.job_id,
        certificate_id=deployment.certificate_id,
        intent=intent,
        remote_id=deployment.remote_id,
        is_last=deployment.attempt >= max_attempts,
        is_exhausted=is_exhausted,
        switch=switching.plan_switch(session, deployment) if intent is Intent.DEPLOY else None,
    )


def _begin(session: Session, deployment: Deployment, *, now: datetime) -> None:
    deployment.attempt += 1
    deployment.updated_at = now
    if deployment.intent == Intent.DEPLOY:
        deployment.state = DeploymentState.DEPLOYING
    events.append(session, deployment.account_id, [jobs.region_fact(EventType.DEPLOYMENT_STARTED, deployment)], now=now)


def _max_attempts(context: Context, deployment: Deployment) -> int:
    region = context.settings.regions.get(deployment.region)
    return region.max_attempts if region else DEFAULT_MAX_ATTEMPTS


def _act(context: Context, site: Site, deployment_id: str, plan: _Plan) -> _Result:
    """Outside any transaction; the key lives only here, in memory, for the act's duration."""
    if plan.is_exhausted and not plan.switch:
        raise _worker_lost()
    driver = site.driver()
    with context.transaction() as session:
        certificate = session.get_one(Certificate, plan.certificate_id)
        material = material_of(context, session, certificate)
    name = ObjectName.of(material, owner_of(certificate))
    if plan.is_exhausted:
        raise _give_up(context, site, driver, plan, name)
    if plan.intent is Intent.REMOVE:
        switching.retire_named(driver, name, remote_id=plan.remote_id)
        return _Result()
    staged = driver.stage(material, owner=owner_of(certificate))
    if plan.switch:
        own = Owned(deployment_id=deployment_id, fence=plan.fence)
        _replace(context, site, driver, plan.switch, own=own, staged=staged.ref, is_last=plan.is_last)
    evidence = {
        "object": staged.ref.name.label,
        "fingerprint_sha256": material.fingerprint_sha256,
        "readback": driver.capabilities.readback,
        "checked_at": site.tools.clock().isoformat(),
    }
    return _Result(remote_id=staged.ref.remote_id, evidence=evidence)


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


def _record_success(context: Context, deployment_id: str, plan: _Plan, result: _Result, *, now: datetime) -> None:
    with context.transaction() as session:
        if plan.intent is Intent.REMOVE:  # the last removal may end the certificate, whose row comes before deployments
            session.get_one(Certificate, plan.certificate_id, with_for_update={"key_share": True})
        if plan.switch:
            switching.lock_certificates(session, plan.switch)
        deployment = leases.owned(session, Deployment, deployment_id, fence=plan.fence)
        if deployment is None:
            log.info("deployment_superseded", deployment_id=deployment_id, fence=plan.fence)
            return
        if plan.intent is Intent.DEPLOY:
            deployment.remote_id = result.remote_id
            deployment.evidence = result.evidence
            deployment.deployed_at = now
        facts = [settlement.succeed(session, deployment, now=now)]
        if plan.switch:
            facts += switching.finish(session, plan.switch, deployment, now=now)
        settlement.settle_region(session, plan.job_id, *facts, now=now)


def _record_failure(context: Context, site: Site, deployment_id: str, plan: _Plan, error: Exception) -> None:
    log.warning(
        "deployment_attempt_failed",
        deployment_id=deployment_id,
        region=site.region_id,
        exception=describe_exception(error),
    )
    now = site.tools.clock()
    with context.transaction() as session:
        deployment = leases.owned(session, Deployment, deployment_id, fence=plan.fence)
        if deployment is None:
            log.info("deployment_superseded", deployment_id=deployment_id, fence=plan.fence)
            return
        _retry_or_fail(context, session, deployment, plan, error, now=now)


def _retry_or_fail(
    context: Context, session: Session, deployment: Deployment, plan: _Plan, error: Exception, *, now: datetime
) -> None:
    decision = after_failure(
        error,
        attempt=deployment.attempt,
        max_attempts=_max_attempts(context, deployment),
        chance=random.random(),  # noqa: S311 - jitter, not a secret
    )
    document = error_document(error, retryable=decision.retry)
    if not decision.retry:
        fact = settlement.fail(session, deployment, document, keeps_slot=_may_be_there(deployment, error), now=now)
        settlement.settle_region(session, plan.job_id, fact, now=now)
        return
    next_attempt_at = now + decision.after
    deployment.error = {**document, "next_attempt_at": next_attempt_at.isoformat().replace("+00:00", "Z")}
    deployment.state = DeploymentState.REMOVING if plan.intent is Intent.REMOVE else DeploymentState.PENDING
    leases.due(deployment, next_attempt_at)
    answer = session.get_one(JobDeployment, (plan.job_id, deployment.id))
    answer.attempt = deployment.attempt
    events.append(
        session, deployment.account_id, [jobs.region_fact(EventType.DEPLOYMENT_RETRYING, deployment)], now=now
    )


def _may_be_there(deployment: Deployment, error: Exception) -> bool:
    """Whether the balancer may hold the object: then it goes on counting against the quota."""
    if deployment.intent == Intent.REMOVE or deployment.remote_id is not None:
        return True
    return isinstance(error, DriverError) and error.may_have_happened
