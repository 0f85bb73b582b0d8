"""Validate a job: look at the upload once, reserve quota slots, and send every region on its way at once."""

from __future__ import annotations

import json
from dataclasses import asdict
from datetime import datetime
from typing import Any

import structlog
from sqlalchemy import select
from sqlalchemy.orm import Session

from shared.crypto.inspection import Inspection, Upload, inspect, region_findings
from shared.crypto.vault import Binding
from shared.domain.certificates import CertificateFacts, CertificateState, CertificateType
from shared.domain.findings import Finding, Severity
from shared.domain.rollout import Intent, JobKind, JobState
from shared.domain.validation import duplicate_of, quota_exceeded
from shared.events import log as events
from shared.events.catalogue import EventType
from shared.events.log import FIRST_WAKE, Fact
from shared.models import Certificate, Deployment, Job, Purpose, leases
from shared.usecases import jobs, secrets, settlement, slots, submission
from shared.usecases.context import Context
from shared.wakeups import Task, WakeUp

log = structlog.get_logger(__name__)


def validate_job(context: Context, job_id: str, *, now: datetime) -> None:
    """Take the job from ``queued`` to ``deploying``, or to ``failed`` with every finding. Safe to call at any time."""
    with context.transaction() as session:
        fence = leases.claim(session, Job, job_id, now=now, lease=context.settings.lease)
        if fence is None:
            return
        job = session.get_one(Job, job_id)
        if job.state == JobState.DEPLOYING:
            settlement.settle_job(session, job, now=now)
            return
        job.state = JobState.VALIDATING
        job.started_at = job.started_at or now
        job.attempt += 1
        inspection = _Inspector(context, session, job) if job.kind == JobKind.CREATE else None
    report = inspection.run(now) if inspection else None
    with context.transaction() as session:
        owned = leases.owned(session, Job, job_id, fence=fence)
        if owned is None:
            log.info("validation_superseded", job_id=job_id, fence=fence)
            return
        _decide(context, session, owned, report, now=now)


class _Inspector:
    """Reads the upload inside the transaction, looks at it outside."""

    def __init__(self, context: Context, session: Session, job: Job) -> None:
        certificate = session.get_one(Certificate, job.certificate_id)
        upload = json.loads(secrets.read(session, context.vault, submission.upload_binding(certificate)))
        self._upload = Upload(
            type=CertificateType(certificate.type),
            certificate=upload["certificate"] or "",
            private_key=upload["private_key"],
        )
        self._policies = _policies(context, jobs.deployments_of(session, job))

    def run(self, now: datetime) -> Inspection:
        return inspect(self._upload, now=now, key_policies=self._policies)


def _policies(context: Context, deployments: list[Deployment]) -> dict[str, frozenset[str]]:
    regions = context.settings.regions
    return {row.region: regions[row.region].key_policy for row in deployments if row.region in regions}


def _decide(context: Context, session: Session, job: Job, report: Inspection | None, *, now: datetime) -> None:
    certificate = session.get_one(Certificate, job.certificate_id, with_for_update={"key_share": True})
    deployments = jobs.deployments_of(session, job)
    if report is None:
        findings = _policy_findings(context, certificate, deployments)
        facts: list[Fact] = []
    else:
        findings, facts = _record(context, session, certificate, report)
    job.findings = [as_document(finding) for finding in findings]
    errors = [finding for finding in findings if finding.severity is Severity.ERROR]
    if errors:
        _refuse(session, job, deployments, errors=errors, facts=facts, now=now)
    else:
        _dispatch(context, session, job, deployments, facts=facts, now=now)


def _policy_findings(context: Context, certificate: Certificate, deployments: list[Deployment]) -> list[Finding]:
    """A certificate that was validated before may meet a region whose key policy is narrower."""
    wanted = [row for row in deployments if row.intent == Intent.DEPLOY]
    if not wanted or not certificate.chain:
        return []
    by_region = region_findings(facts_of(certificate), key_policies=_policies(context, wanted))
    return list(dict.fromkeys(finding for findings in by_region.values() for finding in findings))


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
        return findings, [_certificate_fact(EventType.CERTIFICATE_REJECTED, certificate)]
    certificate.state = CertificateState.VALID
    certificate.chain_pem = report.material.certificate_pem
    if report.material.private_key_pem is not None:
        secrets.keep(session, context.vault, key_binding(certificate), report.material.private_key_pem.encode())
    return findings, [_certificate_fact(EventType.CERTIFICATE_VALIDATED, certificate)]


def key_binding(certificate: Certificate) -> Binding:
    """Where the private key is kept."""
    return Binding(account_id=certificate.account_id, subject_id=certificate.id, purpose=Purpose.PRIVATE_KEY)


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
    """Every region at once: each gets its slot, becomes due, and a worker is woken after the commit."""
    regions = context.settings.regions
    wanted = [row for row in deployments if row.intent == Intent.DEPLOY and row.region in regions]
    quotas = {row.region: regions[row.region].quota for row in wanted}
    for deployment in slots.reserve(session, wanted, quotas):
        finding = quota_exceeded(
            deployment.region,
            CertificateType(deployment.certificate_type),
            slots.limit(quotas[deployment.region], deployment.certificate_type),
        )
        job.findings = [*job.findings, as_document(finding)]
        error = {"code": finding.code, "message": finding.message, "retryable": False}
        facts.append(settlement.fail(session, deployment, error, keeps_slot=False, now=now))
    job.state = JobState.DEPLOYING
    for deployment in deployments:
        if deployment.next_attempt_at is not None:
            leases.due(deployment, now, wake_at=now + FIRST_WAKE)
            events.wake(session, WakeUp(Task.DEPLOY, deployment.id))
    settlement.settle_job(session, job, now=now, facts=facts)


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
    document = dict(certificate.chain[0])
    document["names"] = tuple(document["names"])
    document["not_before"] = datetime.fromisoformat(document["not_before"])
    document["not_after"] = datetime.fromisoformat(document["not_after"])
    return CertificateFacts(**document)


def _certificate_fact(event_type: EventType, certificate: Certificate) -> Fact:
    return Fact(
        type=event_type,
        data={
            "certificate_id": certificate.id,
            "name": certificate.name,
            "state": certificate.state,
            "findings": certificate.findings,
        },
    )
