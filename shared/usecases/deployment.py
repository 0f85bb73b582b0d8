"""Work in one region: stage or retire one certificate there, once, and write down how it went.

Three steps, so that no transaction waits for a load balancer: claim and plan (one transaction), act (none), settle
(one transaction, only if our fence is still the newest).
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

import structlog
from sqlalchemy.orm import Session

from shared.config.regions import DEFAULT_MAX_ATTEMPTS, Region
from shared.domain.certificates import CertificateType, Material
from shared.domain.retries import after_failure, is_retryable
from shared.domain.rollout import DeploymentState, Intent, JobState
from shared.errors import CertfleetError, DriverError, OutcomeUnknown, Unsupported
from shared.events import log as events
from shared.events.catalogue import EventType
from shared.models import Certificate, Deployment, Job, JobDeployment, leases
from shared.telemetry import describe_exception
from shared.usecases import jobs, secrets, settlement
from shared.usecases.context import Context
from shared.usecases.driver import Driver, ObjectName, Owner, Ref
from shared.usecases.validation import key_binding

log = structlog.get_logger(__name__)

DriverFor = Callable[[Region], Driver]
Clock = Callable[[], datetime]

UNEXPECTED: Final = "The region's driver failed unexpectedly; the operator finds the place in the worker's log."


@dataclass(frozen=True, slots=True, kw_only=True)
class _Plan:
    """What was claimed, and what is to be done with it."""

    fence: int
    job_id: str
    certificate_id: str
    region: Region | None
    intent: Intent
    remote_id: str | None
    is_exhausted: bool
    """No attempt is left, and the last one never answered: it took its worker with it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Result:
    remote_id: str | None = None
    evidence: dict[str, Any] | None = None


def work_in_region(context: Context, driver_for: DriverFor, deployment_id: str, *, clock: Clock) -> None:
    """Deploy to, or remove from, the region, if it is due and nobody else is at it. Safe to call at any time."""
    with context.transaction() as session:
        plan = _claim(context, session, deployment_id, now=clock())
    if plan is None:
        return
    try:
        result = _act(context, driver_for, plan, clock=clock)
    except Exception as error:  # noqa: BLE001 - whatever a driver raises, the region must get an answer
        _record_failure(context, deployment_id, plan, error, now=clock())
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
    is_exhausted = deployment.attempt >= _max_attempts(context, deployment)
    if not is_exhausted:
        _begin(session, deployment, now=now)
    return _Plan(
        fence=fence,
        job_id=deployment.job_id,
        certificate_id=deployment.certificate_id,
        region=context.settings.regions.get(deployment.region),
        intent=Intent(deployment.intent),
        remote_id=deployment.remote_id,
        is_exhausted=is_exhausted,
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


def material_of(context: Context, session: Session, certificate: Certificate) -> Material:
    """The canonical content of a valid certificate, with its key opened."""
    key = None
    if certificate.type == CertificateType.SERVER:
        key = secrets.read(session, context.vault, key_binding(certificate)).decode()
    return Material(
        type=CertificateType(certificate.type),
        certificate_pem=certificate.chain_pem or "",
        private_key_pem=key,
        fingerprint_sha256=certificate.fingerprint_sha256 or "",
    )


def _act(context: Context, driver_for: DriverFor, plan: _Plan, *, clock: Clock) -> _Result:
    """Outside any transaction; the key lives only here, in memory, for the act's duration."""
    if plan.is_exhausted:
        raise OutcomeUnknown("Every worker that tried died at it.", code="worker_lost")
    if plan.region is None:
        raise Unsupported(
            "The operator no longer declares this region.",
            code="unknown_region",
            hint="Declare it again in the regions file, then retry.",
        )
    with context.transaction() as session:
        certificate = session.get_one(Certificate, plan.certificate_id)
        material = material_of(context, session, certificate)
    owner = Owner(account_id=certificate.account_id, certificate_id=certificate.id)
    driver = driver_for(plan.region)
    if plan.intent is Intent.REMOVE:
        _retire(driver, ObjectName.of(material, owner), remote_id=plan.remote_id)
        return _Result()
    staged = driver.stage(material, owner=owner)
    evidence = {
        "object": staged.ref.name.label,
        "fingerprint_sha256": material.fingerprint_sha256,
        "readback": driver.capabilities.readback,
        "checked_at": clock().isoformat(),
    }
    return _Result(remote_id=staged.ref.remote_id, evidence=evidence)


def _retire(driver: Driver, name: ObjectName, *, remote_id: str | None) -> None:
    """Also when we never learnt the remote id: the balancer is asked for the object's name, which is computed."""
    if remote_id is None:
        held = driver.snapshot().find(name)
        if held is None:
            return
        remote_id = held.ref.remote_id
    driver.retire(Ref(name=name, remote_id=remote_id))


def _record_success(context: Context, deployment_id: str, plan: _Plan, result: _Result, *, now: datetime) -> None:
    with context.transaction() as session:
        if plan.intent is Intent.REMOVE:  # the last removal may end the certificate, whose row comes before deployments
            session.get_one(Certificate, plan.certificate_id, with_for_update={"key_share": True})
        deployment = leases.owned(session, Deployment, deployment_id, fence=plan.fence)
        if deployment is None:
            log.info("deployment_superseded", deployment_id=deployment_id, fence=plan.fence)
            return
        if plan.intent is Intent.DEPLOY:
            deployment.remote_id = result.remote_id
            deployment.evidence = result.evidence
            deployment.deployed_at = now
        fact = settlement.succeed(session, deployment, now=now)
        settlement.settle_region(session, plan.job_id, fact, now=now)


def _record_failure(context: Context, deployment_id: str, plan: _Plan, error: Exception, *, now: datetime) -> None:
    log.warning(
        "deployment_attempt_failed",
        deployment_id=deployment_id,
        region=plan.region.id if plan.region else None,
        exception=describe_exception(error),
    )
    with context.transaction() as session:
        deployment = leases.owned(session, Deployment, deployment_id, fence=plan.fence)
        if deployment is None:
            log.info("deployment_superseded", deployment_id=deployment_id, fence=plan.fence)
            return
        _retry_or_fail(session, deployment, plan, error, now=now)


def _retry_or_fail(session: Session, deployment: Deployment, plan: _Plan, error: Exception, *, now: datetime) -> None:
    decision = after_failure(
        error,
        attempt=deployment.attempt,
        max_attempts=plan.region.max_attempts if plan.region else DEFAULT_MAX_ATTEMPTS,
        chance=random.random(),  # noqa: S311 - jitter, not a secret
    )
    document = error_document(error, retryable=decision.retry)
    if not decision.retry:
        fact = settlement.fail(session, deployment, document, keeps_slot=_may_be_there(plan, error), now=now)
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


def _may_be_there(plan: _Plan, error: Exception) -> bool:
    """Whether the balancer may hold the object: then it goes on counting against the quota."""
    if plan.intent is Intent.REMOVE or plan.remote_id is not None:
        return True
    return isinstance(error, DriverError) and error.may_have_happened


def error_document(error: Exception, *, retryable: bool) -> dict[str, Any]:
    """An error as users see it. A foreign exception's text stays out: nobody knows what it quotes."""
    if not isinstance(error, CertfleetError):
        return {"code": "internal_error", "message": UNEXPECTED, "retryable": retryable}
    document = {"code": error.code, "message": error.message, "retryable": retryable}
    if error.hint:
        document["hint"] = error.hint
    if is_retryable(error) and not retryable:
        document["message"] = f"{error.message} All attempts are used up."
    return document
