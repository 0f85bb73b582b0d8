"""Work in one region: stage or retire certificates there, each once, and write down how it went.

Three steps, so that no transaction waits for a load balancer: claim and plan (``deployment_plans.py``), act
(:func:`work_on`), answer (:func:`answer`, only where our fence is still the newest). Several that are due go through
the steps together: what a transaction costs is paid once for all of them, and whoever answers claims with the same
transaction what comes next (``steps.py``).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from datetime import datetime

import structlog
from sqlalchemy.orm import Session

from shared.domain.certificates import Material
from shared.domain.retries import is_retryable
from shared.domain.rollout import DeploymentState, Intent
from shared.errors import Corrupt, DriverError, OutcomeUnknown
from shared.events import log as events
from shared.events.catalogue import EventType
from shared.events.log import Fact
from shared.models import Certificate, Deployment, Job, JobDeployment, leases
from shared.telemetry import describe_exception
from shared.usecases import attempts, jobs, settlement, switching
from shared.usecases.attempts import error_document
from shared.usecases.context import Context
from shared.usecases.deployment_plans import Plan, has_moved
from shared.usecases.driver import Driver, ObjectName, Ref, Staged, StagesMany
from shared.usecases.material import opened, owner_of
from shared.usecases.region_tools import Site, Superseded
from shared.usecases.settlement import Delivered
from shared.usecases.switching import Owned, Switch
from shared.usecases.undoing import undo_deployment
from shared.wakeups import Task, WakeUp

log = structlog.get_logger(__name__)


def work_on(context: Context, site: Site, plans: deque[Plan]) -> list[Delivered]:
    """Deploy to, or remove from, the region the first of these, or several in one change; they are taken off the list.

    Returns:
        What was delivered and is still to be answered (:func:`answer`); everything else has its answer.
    """
    plain = [plan for plan in plans if plan.is_plain]
    together = _stage_together(context, site, plain) if len(plain) > 1 else []
    if not together:
        return _work_on(context, site, plans.popleft())
    rest = [plan for plan in plans if not plan.is_plain]
    plans.clear()
    plans.extend(rest)
    return together


def answer(session: Session, delivered: Sequence[Delivered], *, now: datetime) -> list[Fact]:
    """Write down what was delivered, in any regions; the caller passes on to the jobs what is to be told of it."""
    owned = settlement.succeed_all(session, delivered, now=now)
    if len(owned) < len(delivered):
        log.info("deployments_superseded", count=len(delivered) - len(owned))
    return [jobs.region_fact(EventType.DEPLOYMENT_SUCCEEDED, deployment) for deployment in owned]


def _work_on(context: Context, site: Site, plan: Plan) -> list[Delivered]:
    if plan.is_cancelled:
        undo_deployment(context, site, plan)
        return []
    try:
        result = _act(context, site, plan)
    except Superseded:
        log.info("deployment_superseded", deployment_id=plan.deployment_id, fence=plan.fence)
    except Exception as error:  # noqa: BLE001 - whatever a driver raises, the region must get an answer
        _record_failure(context, site, plan, error)
    else:
        if plan.is_plain:
            return [result]
        _record_success(context, site, plan, result)
    return []


def _stage_together(context: Context, site: Site, plans: Sequence[Plan]) -> list[Delivered]:
    """All of them in one change, where the driver can; empty where it cannot, or one of them stands in the way."""
    try:
        driver = site.driver()
        if not isinstance(driver, StagesMany):
            return []
        materials = [opened(context.vault, plan.certificate, plan.key) for plan in plans]
        wanted = [(material, owner_of(plan.certificate)) for material, plan in zip(materials, plans, strict=True)]
        staged = driver.stage_all(wanted)
    except Exception as error:  # noqa: BLE001 - each is tried by itself next, and answers for itself
        log.info("not_staged_together", region=site.region_id, count=len(plans), exception=describe_exception(error))
        return []
    checked_at = site.tools.clock()
    return [
        _delivered(driver, plan, one, material, checked_at=checked_at)
        for plan, material, one in zip(plans, materials, staged, strict=True)
    ]


def _delivered(driver: Driver, plan: Plan, staged: Staged, material: Material, *, checked_at: datetime) -> Delivered:
    evidence = {
        "object": staged.ref.name.label,
        "fingerprint_sha256": material.fingerprint_sha256,
        "readback": driver.capabilities.readback,
        "checked_at": checked_at.isoformat(),
    }
    return Delivered(
        deployment_id=plan.deployment_id, fence=plan.fence, remote_id=staged.ref.remote_id, evidence=evidence
    )


def _act(context: Context, site: Site, plan: Plan) -> Delivered:
    """Outside any transaction; the key lives only here, in memory, for the act's duration."""
    if plan.is_exhausted and not plan.switch:
        raise _worker_lost()
    if plan.intent is Intent.REMOVE:
        _remove(context, site, plan)
        return Delivered(deployment_id=plan.deployment_id, fence=plan.fence, remote_id=None, evidence=None)
    driver = site.driver()
    material = opened(context.vault, plan.certificate, plan.key)
    owner = owner_of(plan.certificate)
    name = ObjectName.of(material, owner)
    if plan.is_exhausted:
        raise _give_up(context, site, driver, plan, name)
    staged = _found(driver, name, material) if plan.must_read_first else None
    staged = staged or driver.stage(material, owner=owner)
    if plan.switch:
        own = Owned(deployment_id=plan.deployment_id, fence=plan.fence)
        _replace(context, site, driver, plan.switch, own=own, staged=staged.ref, is_last=plan.is_last)
    return _delivered(driver, plan, staged, material, checked_at=site.tools.clock())


def _remove(context: Context, site: Site, plan: Plan) -> None:
    """By the name that it was staged under: a key that no longer opens keeps nobody from taking a certificate away."""
    if plan.certificate.chain_pem is None:  # it was rejected, and never sent anywhere
        return
    owner = owner_of(plan.certificate)
    if plan.label is not None:
        name = ObjectName.parse(plan.label, account_id=owner.account_id)
    else:
        name = ObjectName.of(opened(context.vault, plan.certificate, plan.key), owner)
    switching.retire_named(site.driver(), name, remote_id=plan.remote_id)


def _found(driver: Driver, name: ObjectName, material: Material) -> Staged | None:
    """What an attempt that never answered has staged after all; a balancer that tells no fingerprint is asked again."""
    held = driver.snapshot().find(name)
    is_same = held is not None and held.fingerprint_sha256 == material.fingerprint_sha256
    return Staged(ref=held.ref, created=False) if held is not None and is_same else None


def _give_up(context: Context, site: Site, driver: Driver, plan: Plan, name: ObjectName) -> OutcomeUnknown:
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


def _record_success(context: Context, site: Site, plan: Plan, result: Delivered) -> None:
    now = site.tools.clock()
    with context.transaction() as session:
        site.fuse.note(session, None, now=now)
        if plan.intent is Intent.REMOVE:  # the last removal may end the certificate, whose row comes before deployments
            session.get_one(Certificate, plan.certificate.id, with_for_update={"key_share": True})
        if plan.switch:
            switching.lock_certificates(session, plan.switch)
        deployment = leases.owned(session, Deployment, plan.deployment_id, fence=plan.fence)
        if deployment is None:
            log.info("deployment_superseded", deployment_id=plan.deployment_id, fence=plan.fence)
            return
        if plan.intent is Intent.DEPLOY:
            deployment.remote_id = result.remote_id
            deployment.evidence = result.evidence
            deployment.deployed_at = now
        attempts.succeeded(session, Deployment, {deployment.id: deployment.fence}, now=now)
        facts = [settlement.succeed(session, deployment, now=now)]
        if plan.switch:
            facts += switching.finish(session, plan.switch, deployment, now=now)
        settlement.settle_region(session, plan.job_id, *facts, now=now)


def _record_failure(context: Context, site: Site, plan: Plan, error: Exception) -> None:
    tell = log.error if isinstance(error, Corrupt) else log.warning
    tell(
        "deployment_attempt_failed",
        deployment_id=plan.deployment_id,
        region=site.region_id,
        exception=describe_exception(error),
    )
    now = site.tools.clock()
    with context.transaction() as session:
        site.fuse.note(session, error, now=now)
        session.get_one(Certificate, plan.certificate.id, with_for_update={"key_share": True})
        deployment = leases.owned(session, Deployment, plan.deployment_id, fence=plan.fence)
        if deployment is None:
            log.info("deployment_superseded", deployment_id=plan.deployment_id, fence=plan.fence)
            return
        _retry_or_fail(session, site, deployment, plan, error)


def _retry_or_fail(session: Session, site: Site, deployment: Deployment, plan: Plan, error: Exception) -> None:
    now = site.tools.clock()
    decision = attempts.decide(session, deployment, error, limits=site.retry_limits, now=now)
    is_cancelled = decision.retry and _is_cancelled(session, plan)
    is_over = not decision.retry or (is_cancelled and has_moved(deployment))
    document = error_document(error, retryable=not is_over)
    if is_over:
        fact = settlement.fail(session, deployment, document, keeps_slot=_may_be_there(deployment, error), now=now)
        attempts.failed(session, deployment, now=now)
        settlement.settle_region(session, plan.job_id, fact, now=now)
        return
    next_attempt_at = now if is_cancelled else now + decision.after
    deployment.error = attempts.postponed(document, next_attempt_at)
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


def _is_cancelled(session: Session, plan: Plan) -> bool:
    """By the job's row, locked: whoever cancels it after us finds the deployment waiting, and not us at work."""
    job = session.get_one(Job, plan.job_id, with_for_update={"key_share": True})
    return job.cancel_requested_at is not None


def _may_be_there(deployment: Deployment, error: Exception) -> bool:
    """Whether the balancer may hold the object: then it goes on counting against the quota."""
    if deployment.intent == Intent.REMOVE or deployment.remote_id is not None:
        return True
    return isinstance(error, DriverError) and error.may_have_happened
