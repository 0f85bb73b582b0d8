"""Change where a certificate is: add regions, retry one, remove from one or from all."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime

from sqlalchemy import select
from sqlalchemy.orm import Session

from shared.domain.certificates import CertificateState
from shared.domain.rollout import ACTIVE_DEPLOYMENTS, DeploymentState, Intent, JobKind
from shared.errors import Conflict, FieldError, NotFound, Rejected
from shared.models import Certificate, Deployment, Job
from shared.usecases import audit, jobs
from shared.usecases.browsing import find_certificate
from shared.usecases.busy import busy, unfinished
from shared.usecases.context import Context
from shared.usecases.declared import check_regions
from shared.usecases.listeners import must_not_be_in_use
from shared.usecases.replacement import must_not_be_replaced
from shared.usecases.tokens import Caller


def add_regions(
    context: Context, session: Session, caller: Caller, certificate_id: str, regions: tuple[str, ...], *, now: datetime
) -> Job:
    """Deploy a valid certificate to more regions; regions that failed or were removed begin afresh.

    Raises:
        Rejected: a region is unknown, or has the certificate already.
        Conflict: the certificate is not valid, or a region is being worked on.
    """
    check_regions(context, regions)
    certificate = find_certificate(session, caller, certificate_id, lock=True)
    must_not_be_replaced(session, certificate)
    _must_be_valid(certificate)
    existing = {row.region: row for row in _deployments(session, certificate) if row.region in regions}
    _must_be_idle(existing.values(), {region: f"regions.{place}" for place, region in enumerate(regions)})
    _must_be_absent(regions, existing)
    job = jobs.open_job(session, certificate, JobKind.DEPLOY, now=now)
    fresh = [region for region in regions if region not in existing]
    rows = [*existing.values(), *jobs.new_deployments(certificate, job, fresh, now=now)]
    jobs.assign(session, job, rows, Intent.DEPLOY, now=now)
    return _begin(session, caller, job, "certificate.regions_added", now=now)


def retry_region(session: Session, caller: Caller, certificate_id: str, region: str, *, now: datetime) -> Job:
    """Try one failed region again, with what it was meant to do; every other region stays untouched.

    Raises:
        NotFound: the certificate was never meant for that region.
        Conflict: the region has not failed.
    """
    certificate = find_certificate(session, caller, certificate_id, lock=True)
    must_not_be_replaced(session, certificate)
    deployment = _deployment(session, certificate, region)
    _must_be_idle([deployment], {region: "region"})
    if deployment.state != DeploymentState.FAILED:
        raise Conflict(
            f"The region {region!r} has not failed: it is {deployment.state}.",
            code="not_failed",
            hint="Only a failed region can be retried.",
        )
    intent = Intent(deployment.intent)
    if intent is Intent.DEPLOY:
        _must_be_valid(certificate)
        _must_be_the_successor(session, certificate)
    job = jobs.open_job(session, certificate, JobKind.REMOVE if intent is Intent.REMOVE else JobKind.RETRY, now=now)
    jobs.assign(session, job, [deployment], intent, now=now)
    return _begin(session, caller, job, "deployment.retried", now=now)


def remove_region(session: Session, caller: Caller, certificate_id: str, region: str, *, now: datetime) -> Job:
    """Remove the certificate from one region.

    Raises:
        NotFound: the certificate is not in that region.
        Conflict: the region is being worked on.
    """
    certificate = find_certificate(session, caller, certificate_id, lock=True)
    must_not_be_replaced(session, certificate)
    must_not_be_in_use(session, certificate, region=region)
    deployment = _deployment(session, certificate, region)
    _must_be_idle([deployment], {region: "region"})
    if deployment.state == DeploymentState.REMOVED:
        raise NotFound(
            f"The certificate is not in the region {region!r}.", hint="GET the certificate to see where it is."
        )
    job = jobs.open_job(session, certificate, JobKind.REMOVE, now=now)
    jobs.assign(session, job, [deployment], Intent.REMOVE, now=now)
    return _begin(session, caller, job, "deployment.removed", now=now)


def remove_certificate(session: Session, caller: Caller, certificate_id: str, *, now: datetime) -> Job:
    """Remove the certificate from every region, then destroy its key.

    Raises:
        Conflict: it is being validated or worked on somewhere.
    """
    certificate = find_certificate(session, caller, certificate_id, lock=True)
    must_not_be_replaced(session, certificate)
    must_not_be_in_use(session, certificate)
    if certificate.state == CertificateState.VALIDATING:
        jobs_of = unfinished(session, certificate.id)
        raise busy("The certificate is still being validated.", "certificate_id", jobs=jobs_of)
    deployments = _deployments(session, certificate)
    _must_be_idle(deployments, {})
    job = jobs.open_job(session, certificate, JobKind.REMOVE, now=now)
    job.certificate_state_before = certificate.state
    certificate.state = CertificateState.DELETING
    present = [row for row in deployments if row.holds_slot or row.state == DeploymentState.DEPLOYED]
    jobs.assign(session, job, present, Intent.REMOVE, now=now)
    return _begin(session, caller, job, "certificate.deletion_requested", now=now)


def _deployments(session: Session, certificate: Certificate) -> list[Deployment]:
    statement = select(Deployment).where(Deployment.certificate_id == certificate.id).order_by(Deployment.region)
    return list(session.execute(statement.with_for_update(key_share=True)).scalars())


def _deployment(session: Session, certificate: Certificate, region: str) -> Deployment:
    for row in _deployments(session, certificate):
        if row.region == region:
            return row
    raise NotFound(f"The certificate is not in the region {region!r}.", hint="GET the certificate to see where it is.")


def _must_be_the_successor(session: Session, certificate: Certificate) -> None:
    """New content that came nowhere is taken up again only while nothing else has taken the old one's place."""
    if certificate.replaces_id is None:
        return
    old = session.get_one(Certificate, certificate.replaces_id, with_for_update={"key_share": True})
    if old.replaced_by_id not in (None, certificate.id):
        raise Conflict(
            f"Meanwhile {old.replaced_by_id} has replaced {old.id}.",
            code="already_replaced",
            hint=f"Replace {old.replaced_by_id} instead.",
            context={"replaced_by": old.replaced_by_id},
        )
    old.replaced_by_id = certificate.id


def _must_be_valid(certificate: Certificate) -> None:
    if certificate.state != CertificateState.VALID:
        raise Conflict(
            f"The certificate is {certificate.state}; only a valid one can be deployed.",
            code="certificate_not_valid",
            hint="Look at its findings, then submit it anew.",
        )


def _must_be_idle(deployments: Iterable[Deployment], fields: Mapping[str, str]) -> None:
    """``fields``: where the request names each region; what it does not name comes with the certificate."""
    rows = [row for row in deployments if row.state in ACTIVE_DEPLOYMENTS]
    if rows:
        regions = [row.region for row in rows]
        message = f"Another job is at work in: {', '.join(regions)}."
        field = fields.get(regions[0], "certificate_id")
        raise busy(message, field, jobs=[row.job_id for row in rows], regions=regions)


def _must_be_absent(regions: tuple[str, ...], existing: dict[str, Deployment]) -> None:
    errors = tuple(
        FieldError(
            field=f"regions.{position}",
            code="already_deployed",
            message=f"The region {region!r} has the certificate already.",
            hint="Leave it out.",
        )
        for position, region in enumerate(regions)
        if region in existing and existing[region].state == DeploymentState.DEPLOYED
    )
    if errors:
        raise Rejected("A region has the certificate already.", code="already_deployed", errors=errors)


def _begin(session: Session, caller: Caller, job: Job, action: str, *, now: datetime) -> Job:
    audit.note(session, caller, action, job.certificate_id, now=now, details={"job_id": job.id})
    jobs.announce(session, job, now=now)
    return job
