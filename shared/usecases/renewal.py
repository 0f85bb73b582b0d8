"""One-click renewal: the certificate service issues anew, and the new certificate takes the old one's place everywhere.

What follows the issuing is the ordinary replacement: staged beside the old one in each region, its listeners moved and
proven by a handshake, and only then the old one retired there.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from shared.domain.acquisitions import AcquisitionKind, ManagedId
from shared.domain.certificates import CertificateSource, CertificateState
from shared.domain.rollout import Intent, JobKind
from shared.errors import Conflict
from shared.models import Account, Certificate, Job, leases
from shared.usecases import acquisitions, audit, jobs, webhooks
from shared.usecases.browsing import find_certificate
from shared.usecases.context import Context
from shared.usecases.replacement import must_be_replaceable, regions_of, successor
from shared.usecases.source_tools import services_of
from shared.usecases.tokens import Caller
from shared.wakeups import Task, WakeUp


@dataclass(frozen=True, slots=True, kw_only=True)
class RenewalRequest:
    """A well-formed request to renew."""

    callback_url: str | None = None


def renew_certificate(
    context: Context,
    session: Session,
    caller: Caller,
    certificate_id: str,
    request: RenewalRequest | None = None,
    *,
    now: datetime,
) -> tuple[Job, Certificate]:
    """Accept the renewal of a managed certificate; the worker asks the service. The successor has no content yet.

    Raises:
        NotFound: none of that id in this account.
        Rejected: a callback URL that may never be called.
        Conflict: it was uploaded (``not_managed``), its service is not declared any more, it is not valid, was replaced
            before, or is being worked on.
    """
    old = find_certificate(session, caller, certificate_id, lock=True)
    managed = _managed_id(context, session, old)
    must_be_replaceable(session, old)
    regions = regions_of(session, old)
    reference = _reference(session, old)
    new = successor(old, CertificateSource.MANAGED, now=now)
    session.add(new)
    session.flush()
    old.replaced_by_id = new.id
    job = jobs.open_job(session, new, JobKind.RENEW, now=now)
    leases.due(job, now + jobs.WATCH)
    jobs.assign(session, job, jobs.new_deployments(new, job, regions, now=now), Intent.DEPLOY, now=now)
    acquisition = acquisitions.new_acquisition(job, managed, AcquisitionKind.RENEW, now=now, reference=reference)
    session.add(acquisition)
    if request is not None and request.callback_url is not None:
        webhooks.add_callback(
            session,
            account_id=caller.account_id,
            job_id=job.id,
            url=request.callback_url,
            now=now,
            allowed_networks=context.settings.webhook_allowed_networks,
        )
    audit.note(session, caller, "certificate.renewed", old.id, now=now, details={"job_id": job.id, "by": new.id})
    jobs.announce(session, job, now=now, first=WakeUp(Task.ACQUIRE, acquisition.id))
    return job, new


def _managed_id(context: Context, session: Session, old: Certificate) -> ManagedId:
    if old.source != CertificateSource.MANAGED or old.managed_certificate_id is None:
        raise Conflict(
            "The certificate was uploaded; nobody here can have it issued anew.",
            code="not_managed",
            hint=f"Get a new one from its issuer, then POST /v1/certificates/{old.id}/replace.",
            context={"use": "replace"},
        )
    managed = ManagedId.parse(old.managed_certificate_id)
    if managed.source not in services_of(context.settings, session.get_one(Account, old.account_id)):
        raise Conflict(
            f"The certificate service {managed.source} is not declared any more.",
            code="source_undeclared",
            hint=f"Ask the operator, or POST /v1/certificates/{old.id}/replace with new content.",
            context={"use": "replace"},
        )
    return managed


def _reference(session: Session, old: Certificate) -> str:
    """What names the order to the service: the same for as long as its result is worth anything.

    So a renewal that was ordered and came nowhere (cancelled, its answer lost, every region down) is found by the next
    one, and not paid for again. One whose content was rejected is not found again.
    """
    wasted = select(func.count()).where(
        Certificate.replaces_id == old.id,
        Certificate.managed_certificate_id.is_not(None),
        Certificate.state.in_([CertificateState.REJECTED, CertificateState.DELETED]),
    )
    return f"{old.id}-{session.execute(wasted).scalar_one() + 1}"
