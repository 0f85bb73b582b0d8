"""Replace a certificate: new content onto the same regions and listeners; a region keeps the old until proven."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime

from sqlalchemy import select
from sqlalchemy.orm import Session

from shared.domain.certificates import CertificateSource, CertificateState, CertificateType
from shared.domain.identifiers import new_id
from shared.domain.rollout import ACTIVE_DEPLOYMENTS, FINAL_JOBS, DeploymentState, Intent, JobKind
from shared.errors import Conflict, FieldError, Rejected
from shared.models import Certificate, Deployment, Job
from shared.usecases import audit, jobs, submission, webhooks
from shared.usecases.browsing import find_certificate
from shared.usecases.busy import busy
from shared.usecases.context import Context
from shared.usecases.tokens import Caller


@dataclass(frozen=True, slots=True, kw_only=True)
class NewContent:
    """A well-formed request to replace a certificate's content."""

    certificate: str = field(repr=False)
    private_key: str | None = field(repr=False)
    callback_url: str | None = None


def replace_certificate(
    context: Context, session: Session, caller: Caller, certificate_id: str, content: NewContent, *, now: datetime
) -> tuple[Job, Certificate]:
    """Accept new content: a new certificate with the old one's name, contacts and tags, for the same regions.

    The worker validates it, stages it beside the old one in every region, moves the listeners, proves each by a
    handshake and retires the old one there. A region that fails stays on the old one.

    Raises:
        NotFound: none of that id in this account.
        Rejected: a key where none belongs, or none where one does; a callback URL that may never be called.
        Conflict: it is not valid, was replaced before, or is being worked on.
    """
    old = find_certificate(session, caller, certificate_id, lock=True)
    must_be_replaceable(session, old)
    _check_key(old, content)
    regions = regions_of(session, old)
    new = successor(old, CertificateSource.THIRD_PARTY, now=now)
    session.add(new)
    session.flush()
    old.replaced_by_id = new.id
    submission.keep_upload(
        context, session, new, certificate_pem=content.certificate, private_key_pem=content.private_key
    )
    job = jobs.open_job(session, new, JobKind.REPLACE, now=now)
    jobs.assign(session, job, jobs.new_deployments(new, job, regions, now=now), Intent.DEPLOY, now=now)
    if content.callback_url is not None:
        webhooks.add_callback(
            session,
            account_id=caller.account_id,
            job_id=job.id,
            url=content.callback_url,
            now=now,
            allowed_networks=context.settings.webhook_allowed_networks,
        )
    audit.note(session, caller, "certificate.replaced", old.id, now=now, details={"job_id": job.id, "by": new.id})
    jobs.announce(session, job, now=now)
    return job, new


def is_being_replaced(session: Session, certificate: Certificate) -> Job | None:
    """The job that puts new content in the certificate's place right now."""
    if certificate.replaced_by_id is None:
        return None
    statement = select(Job).where(Job.certificate_id == certificate.replaced_by_id, Job.state.not_in(FINAL_JOBS))
    return session.execute(statement.order_by(Job.id).limit(1)).scalar_one_or_none()


def must_not_be_replaced(session: Session, certificate: Certificate, *, field: str = "certificate_id") -> None:
    """Refuse other work on a certificate, named by ``field``, while its successor is taking its place.

    Raises:
        Conflict: naming the job.
    """
    job = is_being_replaced(session, certificate)
    if job is not None:
        raise busy("The certificate is being replaced.", field, jobs=[job.id])


def must_be_replaceable(session: Session, old: Certificate) -> None:
    """Refuse new content for a certificate that is not valid, was replaced before, or is being worked on.

    Raises:
        Conflict: saying which, and what to do instead.
    """
    if old.state != CertificateState.VALID:
        raise Conflict(
            f"The certificate is {old.state}; only a valid one can be replaced.",
            code="certificate_not_valid",
            hint="Submit the new content as a new certificate.",
        )
    must_not_be_replaced(session, old)
    if old.replaced_by_id is not None:
        raise Conflict(
            f"The certificate was replaced by {old.replaced_by_id}.",
            code="already_replaced",
            hint=f"Replace {old.replaced_by_id}; if a region failed, retry it there.",
            context={"replaced_by": old.replaced_by_id},
        )
    statement = select(Deployment).where(
        Deployment.certificate_id == old.id, Deployment.state.in_(sorted(ACTIVE_DEPLOYMENTS))
    )
    rows = list(session.execute(statement.order_by(Deployment.region)).scalars())
    if rows:
        regions = [row.region for row in rows]
        message = f"Another job is at work in: {', '.join(regions)}."
        raise busy(message, "certificate_id", jobs=[row.job_id for row in rows], regions=regions)


def _check_key(old: Certificate, content: NewContent) -> None:
    is_server = old.type == CertificateType.SERVER
    if is_server == (content.private_key is not None):
        return
    if is_server:
        error = FieldError(
            field="private_key",
            code="required",
            message="A server certificate comes with its private key.",
            hint="Send the key that belongs to the new certificate.",
        )
    else:
        error = FieldError(
            field="private_key",
            code="private_key_not_allowed",
            message="A CA certificate comes without a private key.",
            hint="Leave the field out; never send a CA's key anywhere.",
        )
    raise Rejected("The new content cannot take the certificate's place.", errors=(error,))


def regions_of(session: Session, old: Certificate) -> list[str]:
    """Where the old one is, and where it was meant to be while what it replaced still is there."""
    lineage = [old.id]
    predecessor = old.replaces_id
    while predecessor is not None:
        lineage.append(predecessor)
        predecessor = session.get_one(Certificate, predecessor).replaces_id
    statement = select(Deployment.region).where(
        Deployment.certificate_id.in_(lineage), Deployment.state == DeploymentState.DEPLOYED
    )
    return sorted(set(session.execute(statement).scalars()))


def successor(old: Certificate, source: CertificateSource, *, now: datetime) -> Certificate:
    """The new certificate that is to take the old one's place, with its name, contacts and tags."""
    return Certificate(
        id=new_id("cert"),
        account_id=old.account_id,
        name=old.name,
        type=old.type,
        source=source,
        state=CertificateState.VALIDATING,
        names=[],
        chain=[],
        findings=[],
        contacts=list(old.contacts),
        tags=dict(old.tags),
        reminders_muted=old.reminders_muted,
        reminder_thresholds=old.reminder_thresholds,
        auto_renew=old.auto_renew,
        renew_before_days=old.renew_before_days,
        replaces_id=old.id,
        created_at=now,
    )
