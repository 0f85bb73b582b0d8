"""Submit a certificate: store it sealed, open a job, and say yes. Nothing here parses PEM or loads a key."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final

from sqlalchemy.orm import Session

from shared.crypto.vault import Binding
from shared.domain.acquisitions import AcquisitionKind, ManagedId
from shared.domain.certificates import CertificateSource, CertificateState, CertificateType
from shared.domain.identifiers import new_id
from shared.domain.rollout import Intent, JobKind
from shared.errors import FieldError, Rejected
from shared.models import Account, Base, Certificate, Deployment, Job, Purpose, Secret, insertion, leases
from shared.usecases import acquisitions, audit, jobs, secrets, webhooks
from shared.usecases.context import Context
from shared.usecases.declared import check_regions
from shared.usecases.source_tools import services_of
from shared.usecases.tokens import Caller
from shared.wakeups import Task, WakeUp

NO_CERTIFICATE_SERVICE: Final = FieldError(
    field="source",
    code="managed_source_unavailable",
    message="No certificate service is connected.",
    hint="Upload the certificate with source third_party.",
)

UNKNOWN_MANAGED_CERTIFICATE: Final = FieldError(
    field="managed_certificate_id",
    code="unknown_managed_certificate",
    message="It names no certificate of one of the account's certificate services.",
    hint="Take an id from GET /v1/managed-certificates.",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class NewCertificate:
    """A well-formed request to create a certificate."""

    name: str | None
    source: CertificateSource
    type: CertificateType
    certificate: str | None = field(repr=False)
    private_key: str | None = field(repr=False)
    managed_certificate_id: str | None
    regions: tuple[str, ...]
    callback_url: str | None
    contacts: tuple[str, ...]
    tags: dict[str, str]
    reminder_thresholds: tuple[int, ...] | None = None
    """Days before the end, farthest first; ``None``: as the account says."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Submitted:
    """What a submission made; the rows are not tracked, and stored when the transaction ends."""

    job: Job
    certificate: Certificate
    deployments: list[Deployment]


def submit_certificate(
    context: Context, session: Session, caller: Caller, request: NewCertificate, *, now: datetime
) -> Submitted:
    """Accept the upload; the worker validates it and deploys it to every region.

    This is the request that comes in thousands: all its rows and its event are one statement, the transaction's last.

    Raises:
        Rejected: a certificate service that is not the account's, a region that the operator does not offer, or a
            callback URL that may never be called.
    """
    managed = _managed(context, session, caller, request)
    check_regions(context, request.regions)
    certificate = _new_certificate(caller, request, now=now)
    job = jobs.new_job(certificate, JobKind.CREATE, now=now)
    deployments = jobs.new_deployments(certificate, job, sorted(request.regions), now=now)
    rows: list[Base] = [certificate, job, *deployments]
    rows += jobs.hand_over(job, deployments, Intent.DEPLOY, now=now)
    acquisition = None
    if managed is None:
        rows.append(_sealed_upload(context, certificate, request.certificate, request.private_key))
    else:
        acquisition = acquisitions.new_acquisition(job, managed, AcquisitionKind.FETCH, now=now)
        leases.due(job, now + jobs.WATCH)
        rows.append(acquisition)
    rows.append(audit.entry(caller, "certificate.submitted", certificate.id, now=now, details={"job_id": job.id}))
    if request.callback_url is not None:
        insertion.insert(session, *rows)
        rows = []
        webhooks.add_callback(
            session,
            account_id=caller.account_id,
            job_id=job.id,
            url=request.callback_url,
            now=now,
            allowed_networks=context.settings.webhook_allowed_networks,
        )
    first = WakeUp(Task.ACQUIRE, acquisition.id) if acquisition else None
    jobs.announce_with(session, job, rows, now=now, first=first)
    return Submitted(job=job, certificate=certificate, deployments=deployments)


def placeholder_name(certificate_id: str) -> str:
    """A certificate's name until its own common name is known."""
    return f"certificate-{certificate_id[-6:]}"


def upload_binding(certificate: Certificate) -> Binding:
    """Where the upload is kept until it is validated."""
    return Binding(account_id=certificate.account_id, subject_id=certificate.id, purpose=Purpose.UPLOAD)


def check_managed_id(context: Context, session: Session, caller: Caller, text: str) -> ManagedId:
    """Which certificate of which of the account's services is meant. Whether it is there, the worker finds out.

    Raises:
        Rejected: the account has no certificate service, or none of that name.
    """
    services = services_of(context.settings, session.get_one(Account, caller.account_id))
    if not services:
        raise _refused(NO_CERTIFICATE_SERVICE)
    try:
        managed = ManagedId.parse(text)
    except ValueError:
        managed = None
    if managed is None or managed.source not in services:
        raise _refused(UNKNOWN_MANAGED_CERTIFICATE)
    return managed


def _managed(context: Context, session: Session, caller: Caller, request: NewCertificate) -> ManagedId | None:
    if request.source is not CertificateSource.MANAGED:
        return None
    return check_managed_id(context, session, caller, request.managed_certificate_id or "")


def _refused(error: FieldError) -> Rejected:
    return Rejected(error.message, code=error.code, hint=error.hint, errors=(error,))


def _new_certificate(caller: Caller, request: NewCertificate, *, now: datetime) -> Certificate:
    certificate_id = new_id("cert")
    return Certificate(
        id=certificate_id,
        account_id=caller.account_id,
        name=request.name or placeholder_name(certificate_id),
        type=request.type,
        source=request.source,
        state=CertificateState.VALIDATING,
        managed_certificate_id=request.managed_certificate_id,
        names=[],
        chain=[],
        findings=[],
        contacts=list(request.contacts),
        tags=request.tags,
        reminders_muted=False,
        reminder_thresholds=None if request.reminder_thresholds is None else list(request.reminder_thresholds),
        created_at=now,
    )


def keep_upload(
    context: Context,
    session: Session,
    certificate: Certificate,
    *,
    certificate_pem: str | None,
    private_key_pem: str | None,
) -> None:
    """Both fields are sealed until they are validated: people paste keys into the certificate field, too."""
    insertion.insert(session, _sealed_upload(context, certificate, certificate_pem, private_key_pem))


def _sealed_upload(
    context: Context, certificate: Certificate, certificate_pem: str | None, private_key_pem: str | None
) -> Secret:
    upload = json.dumps({"certificate": certificate_pem, "private_key": private_key_pem}).encode()
    return secrets.sealed_row(context.vault, upload_binding(certificate), upload)
