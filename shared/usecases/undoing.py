"""Undo what a cancelled job's attempts may have left in one region, and settle it there as cancelled."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

import structlog
from sqlalchemy.orm import Session

from shared.domain.rollout import CANCELLED, DeploymentState, Intent
from shared.errors import OutcomeUnknown
from shared.models import Certificate, Deployment, JobDeployment, leases
from shared.telemetry import describe_exception
from shared.usecases import settlement, switching
from shared.usecases.attempts import error_document
from shared.usecases.context import Context
from shared.usecases.deployment_plans import Plan
from shared.usecases.driver import ObjectName, Ref
from shared.usecases.material import opened, owner_of
from shared.usecases.region_tools import Site, Superseded

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Left:
    """What is there now. ``is_there``: the balancer may hold the object; ``None``: as before the job."""

    is_there: bool | None = None
    held: Ref | None = None
    error: Exception | None = None
    """Why a removal that may have been carried out could not be undone."""


def undo_deployment(context: Context, site: Site, plan: Plan) -> None:
    """Take a half-made deployment away, put a half-removed object back; then the region has answered.

    ``plan``: of a row that was claimed after its job had been cancelled; ``attempt`` attempts were made before.
    A removal that cannot be undone is ``failed`` with the reason: nobody knows what the balancer holds.
    """
    try:
        left = _undo(context, site, plan)
    except Superseded:
        log.info("deployment_superseded", deployment_id=plan.deployment_id, fence=plan.fence)
        return
    with context.transaction() as session:
        session.get_one(Certificate, plan.certificate.id, with_for_update={"key_share": True})
        deployment = leases.owned(session, Deployment, plan.deployment_id, fence=plan.fence)
        if deployment is None:
            log.info("deployment_superseded", deployment_id=plan.deployment_id, fence=plan.fence)
            return
        _settle(session, deployment, left, now=site.tools.clock())


def _undo(context: Context, site: Site, plan: Plan) -> _Left:
    if not plan.attempt:
        return _Left()
    if plan.intent is Intent.REMOVE:
        return _put_back(context, site, plan)
    return _take_away(context, site, plan)


def _put_back(context: Context, site: Site, plan: Plan) -> _Left:
    """Stage the object again, if it was deployed before: an attempt to remove it may have succeeded unheard."""
    with context.transaction() as session:
        answer = session.get_one(JobDeployment, (plan.job_id, plan.deployment_id))
    if (answer.before or {}).get("state") != DeploymentState.DEPLOYED:
        return _Left()
    try:
        material = opened(context.vault, plan.certificate, plan.key)
        return _Left(held=site.driver().stage(material, owner=owner_of(plan.certificate)).ref)
    except Superseded:
        raise
    except Exception as error:  # noqa: BLE001 - whatever the vault or a driver raises, the region must get an answer
        _log(plan, site, error)
        return _Left(error=error)


def _take_away(context: Context, site: Site, plan: Plan) -> _Left:
    """Listeners serve what they served before, and the new object goes; what cannot go keeps its quota slot."""
    doubt = OutcomeUnknown("Cancelled.", code=CANCELLED)
    try:
        driver = site.driver()
        material = opened(context.vault, plan.certificate, plan.key)
        name = ObjectName.of(material, owner_of(plan.certificate))
        if plan.switch is not None:
            switching.undo(context, site, driver, plan.switch)
        switching.discard(driver, name, doubt)
    except Superseded:
        raise
    except Exception as error:  # noqa: BLE001 - as above
        _log(plan, site, error)
    return _Left(is_there=doubt.may_have_happened)


def _log(plan: Plan, site: Site, error: Exception) -> None:
    exception = describe_exception(error)
    log.warning("not_undone", deployment_id=plan.deployment_id, region=site.region_id, exception=exception)


def _settle(session: Session, deployment: Deployment, left: _Left, *, now: datetime) -> None:
    if left.error is not None:
        document = error_document(left.error, retryable=False)
        fact = settlement.fail(session, deployment, document, keeps_slot=True, now=now)
    else:
        if left.held is not None:
            deployment.remote_id = left.held.remote_id
        fact = settlement.cancel(session, deployment, is_there=left.is_there, now=now)
    settlement.settle_region(session, deployment.job_id, fact, now=now)
