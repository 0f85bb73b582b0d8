"""Validate a job: look at the upload once, reserve quota slots, and send every region on its way at once."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from datetime import datetime, timedelta
from typing import Any, Final

import structlog
from sqlalchemy import select
from sqlalchemy.orm import Session

from shared.crypto.inspection import Inspection, Upload, inspect
from shared.crypto.vault import CannotOpen
from shared.domain.certificates import CertificateFacts, CertificateState, CertificateType
from shared.domain.deadlines import Validity
from shared.domain.findings import Finding, Severity
from shared.domain.key_policy import KeyPolicy, key_policy_findings
from shared.domain.listeners import uncovered_hosts
from shared.domain.rollout import BRINGING_CONTENT, TAKING_PLACE, Intent, JobState
from shared.domain.validation import duplicate_of, host_not_covered, no_slot_to_replace, quota_exceeded
from shared.errors import CertfleetError, NotFound
from shared.events import log as events
from shared.events.catalogue import EventType
from shared.events.log import FIRST_WAKE, Fact
from shared.models import Certificate, Deployment, Job, Purpose, Secret, leases
from shared.usecases import (
    acquisitions,
    balancers,
    cancellation,
    jobs,
    secrets,
    settlement,
    slots,
    submission,
    switching,
)
from shared.usecases.context import Context
from shared.usecases.key_policies import key_policy_of
from shared.usecases.material import key_binding
from shared.usecases.reminder_subjects import deadlines_of
from shared.wakeups import Task, WakeUp

log = structlog.get_logger(__name__)

_INTERNAL_ERROR: Final = {
    "code": "internal_error",
    "message": "The upload could not be validated; the operator finds the reason in the worker's log.",
    "retryable": False,
}


MAX_ATTEMPTS: Final = 3
"""A validation takes a second at most; what dies thrice over it (a bug, a killed worker) is told, not tried on."""

LOOK_AGAIN: Final = timedelta(seconds=1)
"""After which a cancelled job is looked at again when something of it was locked by somebody for the moment."""


def validate_job(context: Context, job_id: str, *, now: datetime) -> None:
    """Take the job from ``queued`` to ``deploying``, or to ``failed`` with every finding. Safe to call at any time."""
    begun = _begin(context, job_id, now=now)
    if begun is None:
        return
    try:
        report = _inspect(context, begun, now=now)
    except (CannotOpen, NotFound) as error:
        _give_up(context, job_id, begun.fence, error=error, now=now)
        return
    with context.transaction() as session:
        job = leases.owned(session, Job, job_id, fence=begun.fence)
        if job is None:
            log.info("validation_superseded", job_id=job_id, fence=begun.fence)
            return
        with session.no_autoflush:  # nothing that is read here was changed here: each row is written once, at the end
            _decide(context, session, job, report, now=now)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Begun:
    """A claimed job, and what it brings to be looked at, outside any transaction; no certificate: it brings nothing."""

    fence: int
    certificate: Certificate | None = None
    upload: Secret | None = field(default=None, repr=False)
    """As it is kept, sealed."""
    policies: Mapping[str, KeyPolicy] = field(default_factory=dict)


def _begin(context: Context, job_id: str, *, now: datetime) -> _Begun | None:
    """Own the job, if it is due and there is something to validate."""
    with context.transaction() as session:
        fence = leases.claim(session, Job, job_id, now=now, lease=context.settings.lease)
        if fence is None:
            return None
        job = session.get_one(Job, job_id)
        if not _is_to_validate(session, job, now=now):
            return None
        if job.kind not in BRINGING_CONTENT:
            return _Begun(fence=fence)
        certificate = session.get_one(Certificate, job.certificate_id)
        regions = session.execute(select(Deployment.region).where(Deployment.job_id == job.id)).scalars().all()
        return _Begun(
            fence=fence,
            certificate=certificate,
            upload=session.get(Secret, (certificate.id, Purpose.UPLOAD)),
            policies=_policies(context, certificate, regions),
        )


def _is_to_validate(session: Session, job: Job, *, now: datetime) -> bool:
    """Whether there is something to validate; a job that is past it, or cancelled before it, is only looked after."""
    if job.cancel_requested_at is not None and job.state != JobState.VALIDATING:
        cancellation.stop(session, job, now=now, look_again=LOOK_AGAIN)
        return False
    if job.state == JobState.DEPLOYING or job.kind in jobs.LISTENER_JOBS:
        settlement.settle_job(session, job, now=now)
        return False
    if job.state == JobState.QUEUED and acquisitions.is_waited_for(session, job):
        leases.due(job, now + jobs.WATCH)
        return False
    if job.attempt >= MAX_ATTEMPTS:
        fail_job(session, job, _INTERNAL_ERROR, now=now)
        return False
    job.state = JobState.VALIDATING
    job.started_at = job.started_at or now
    job.attempt += 1
    return True


def _inspect(context: Context, begun: _Begun, *, now: datetime) -> Inspection | None:
    """Look at the upload; ``None`` when the job brings none."""
    if begun.certificate is None:
        return None
    binding = submission.upload_binding(begun.certificate)
    upload = json.loads(secrets.opened(context.vault, binding, begun.upload))
    return inspect(
        Upload(
            type=CertificateType(begun.certificate.type),
            certificate=upload["certificate"] or "",
            private_key=upload["private_key"],
        ),
        now=now,
        key_policies=begun.policies,
    )


def _give_up(context: Context, job_id: str, fence: int, *, error: CertfleetError, now: datetime) -> None:
    log.error("upload_unreadable", job_id=job_id, code=error.code)
    with context.transaction() as session:
        job = leases.owned(session, Job, job_id, fence=fence)
        if job is not None:
            document = {"code": error.code, "message": error.message, "retryable": False}
            fail_job(session, job, document, now=now)


def fail_job(session: Session, job: Job, error: dict[str, Any], *, now: datetime) -> None:
    """The job ends without a verdict on the upload: every region of it is told why. The caller holds its row."""
    certificate = session.get_one(Certificate, job.certificate_id, with_for_update={"key_share": True})
    if certificate.state == CertificateState.VALIDATING:
        certificate.state = CertificateState.REJECTED
        secrets.drop(session, certificate.id, Purpose.UPLOAD)
    rows = jobs.deployments_of(session, job)
    facts = [settlement.fail(session, row, error, keeps_slot=True, now=now) for row in rows]
    settlement.settle_job(session, job, now=now, error=error, facts=facts)


def _policies(context: Context, certificate: Certificate, regions: Iterable[str]) -> dict[str, KeyPolicy]:
    declared = context.settings.regions
    kind = CertificateType(certificate.type)
    return {region: key_policy_of(declared[region], kind) for region in regions if region in declared}


def _decide(context: Context, session: Session, job: Job, report: Inspection | None, *, now: datetime) -> None:
    certificate = session.get_one(Certificate, job.certificate_id, with_for_update={"key_share": True})
    deployments = jobs.deployments_of(session, job)
    if report is None:
        findings = _policy_findings(context, certificate, deployments)
        facts: list[Fact] = []
    else:
        findings, facts = _record(context, session, certificate, report)
        findings += _uncovered(session, certificate, deployments)
    job.findings = [as_document(finding) for finding in findings]
    errors = [finding for finding in findings if finding.severity is Severity.ERROR]
    if errors:
        _refuse(session, job, deployments, errors=errors, facts=facts, now=now)
    elif job.cancel_requested_at is not None:
        facts += [settlement.cancel(session, row, now=now) for row in deployments]
        settlement.settle_job(session, job, now=now, facts=facts)
    else:
        _dispatch(context, session, job, deployments, facts=facts, now=now)


def _policy_findings(context: Context, certificate: Certificate, deployments: list[Deployment]) -> list[Finding]:
    """A certificate that was validated before may meet a region whose key policy is narrower."""
    wanted = [row for row in deployments if row.intent == Intent.DEPLOY]
    if not wanted or not certificate.chain:
        return []
    policies = _policies(context, certificate, [row.region for row in wanted])
    return key_policy_findings(_policed(certificate), key_policies=policies) if policies else []


def _policed(certificate: Certificate) -> tuple[CertificateFacts, ...]:
    """Those whose keys a policy judges: the leaf, or every CA certificate."""
    if certificate.type == CertificateType.CA:
        return tuple(map(_facts, certificate.chain))
    return (facts_of(certificate),)


def _uncovered(session: Session, certificate: Certificate, deployments: list[Deployment]) -> list[Finding]:
    """New content that replaces a certificate has to cover what its listeners serve."""
    if certificate.replaces_id is None or certificate.type != CertificateType.SERVER or not certificate.names:
        return []
    served = switching.served_hosts(session, certificate.id, [row.region for row in deployments])
    return [
        host_not_covered(missing, certificate.names, listener=name)
        for name, hosts in served
        if (missing := uncovered_hosts(hosts, certificate.names))
    ]


def _record(
    context: Context, session: Session, certificate: Certificate, report: Inspection
) -> tuple[list[Finding], list[Fact]]:
    """Write down what the upload is; from here on only the canonical content exists."""
    findings = list(report.findings)
    if report.facts is not None:
        findings += _duplicates(session, certificate, report.facts)
        _describe(certificate, report)
    certificate.findings = [as_document(finding) for finding in findings]
    secrets.drop(session, certificate.id, Purpose.UPLOAD)
    if report.material is None:
        certificate.state = CertificateState.REJECTED
        return findings, [jobs.certificate_fact(EventType.CERTIFICATE_REJECTED, certificate)]
    certificate.state = CertificateState.VALID
    certificate.chain_pem = report.material.certificate_pem
    if report.material.private_key_pem is not None:
        session.add(
            secrets.sealed_row(context.vault, key_binding(certificate), report.material.private_key_pem.encode())
        )
    return findings, [jobs.certificate_fact(EventType.CERTIFICATE_VALIDATED, certificate)]


def _describe(certificate: Certificate, report: Inspection) -> None:
    facts = report.facts
    assert facts is not None  # noqa: S101 - the caller has looked; tells mypy
    if certificate.name == submission.placeholder_name(certificate.id):
        certificate.name = (facts.common_name or next(iter(facts.names), certificate.name))[:128]
    certificate.common_name = facts.common_name
    certificate.names = list(facts.names)
    certificate.subject, certificate.issuer, certificate.serial = facts.subject, facts.issuer, facts.serial
    certificate.not_before, certificate.not_after = facts.not_before, facts.not_after
    certificate.key_algorithm = facts.key_algorithm
    certificate.fingerprint_sha1, certificate.fingerprint_sha256 = facts.fingerprint_sha1, facts.fingerprint_sha256
    certificate.chain = [_facts_document(one) for one in report.chain]
    own = Validity(not_before=facts.not_before, not_after=facts.not_after)
    ends = deadlines_of(certificate.type, own, certificate.chain)
    certificate.ends_first_at, certificate.ends_last_at = ends[0].at, ends[-1].at


def _duplicates(session: Session, certificate: Certificate, facts: CertificateFacts) -> list[Finding]:
    twin = find_duplicate(session, certificate.account_id, facts.fingerprint_sha256, other_than=certificate.id)
    return [duplicate_of(twin.id, twin.name)] if twin else []


def find_duplicate(
    session: Session, account_id: str, fingerprint_sha256: str, *, other_than: str | None = None
) -> Certificate | None:
    """A live certificate of this account with the same content."""
    statement = select(Certificate).where(
        Certificate.account_id == account_id,
        Certificate.fingerprint_sha256 == fingerprint_sha256,
        Certificate.state == CertificateState.VALID,
        Certificate.id != (other_than or ""),
    )
    return session.execute(statement.order_by(Certificate.id).limit(1)).scalar_one_or_none()


def _refuse(
    session: Session,
    job: Job,
    deployments: list[Deployment],
    *,
    errors: list[Finding],
    facts: list[Fact],
    now: datetime,
) -> None:
    error = {
        "code": "certificate_rejected",
        "message": f"{len(errors)} error{'s' if len(errors) > 1 else ''}: "
        + ", ".join(dict.fromkeys(str(finding.code) for finding in errors)),
        "retryable": False,
        "findings": [as_document(finding) for finding in errors],
    }
    short = {key: error[key] for key in ("code", "message", "retryable")}
    facts.extend(settlement.fail(session, row, short, keeps_slot=False, now=now) for row in deployments)
    settlement.settle_job(session, job, now=now, error=error, facts=facts)


def _dispatch(
    context: Context,
    session: Session,
    job: Job,
    deployments: list[Deployment],
    *,
    facts: list[Fact],
    now: datetime,
) -> None:
    """Every region at once: each gets its slot, becomes due, and a worker is woken after the commit where none is."""
    regions = context.settings.regions
    wanted = [row for row in deployments if row.intent == Intent.DEPLOY and row.region in regions]
    quotas = {row.region: regions[row.region].quota for row in wanted}
    for deployment in slots.reserve(session, wanted, quotas):
        refusal = no_slot_to_replace if job.kind in TAKING_PLACE else quota_exceeded
        finding = refusal(
            deployment.region,
            CertificateType(deployment.certificate_type),
            slots.limit(quotas[deployment.region], deployment.certificate_type),
        )
        job.findings = [*job.findings, as_document(finding)]
        error = {"code": finding.code, "message": finding.message, "retryable": False}
        facts.append(settlement.fail(session, deployment, error, keeps_slot=False, now=now))
    job.state = JobState.DEPLOYING
    due = [deployment for deployment in deployments if deployment.next_attempt_at is not None]
    for deployment in due:
        leases.due(deployment, now, wake_at=now + FIRST_WAKE)
    if job.kind in TAKING_PLACE and not deployments:
        facts += switching.succeed_predecessor_nowhere(session, job)
    settlement.settle_job(session, job, now=now, facts=facts)
    for region in balancers.unattended(session, [deployment.region for deployment in due], now=now):
        events.wake(session, WakeUp(Task.REGION, region))


def as_document(finding: Finding) -> dict[str, Any]:
    """A finding as it is stored and answered."""
    return asdict(finding)


def _facts_document(facts: CertificateFacts) -> dict[str, Any]:
    document = asdict(facts)
    document["names"] = list(facts.names)
    document["not_before"] = facts.not_before.isoformat()
    document["not_after"] = facts.not_after.isoformat()
    return document


def facts_of(certificate: Certificate) -> CertificateFacts:
    """The stored facts of the leaf (for ``ca``: the first certificate)."""
    return _facts(certificate.chain[0])


def _facts(stored: dict[str, Any]) -> CertificateFacts:
    document = dict(stored)
    document["names"] = tuple(document["names"])
    document["not_before"] = datetime.fromisoformat(document["not_before"])
    document["not_after"] = datetime.fromisoformat(document["not_after"])
    return CertificateFacts(**document)
