"""Say what validation would say about an upload, without storing anything."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy.orm import Session

from shared.crypto.inspection import Inspection, Upload, inspect, region_findings
from shared.domain.certificates import CertificateFacts, CertificateSource, CertificateType
from shared.domain.findings import Finding, Severity, has_errors, sorted_findings
from shared.domain.key_policy import KeyPolicies
from shared.domain.validation import duplicate_of, managed_source_is_server_only, unknown_region
from shared.errors import Rejected
from shared.usecases.context import Context
from shared.usecases.key_policies import key_policy_of
from shared.usecases.submission import NewCertificate, check_managed_id
from shared.usecases.tokens import Caller
from shared.usecases.validation import find_duplicate


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """Every finding; ``regions`` holds what each region asked about says by itself, ``None`` when none was."""

    valid: bool
    findings: tuple[Finding, ...]
    summary: str
    regions: dict[str, tuple[Finding, ...]] | None


def preview_certificate(
    context: Context, session: Session, caller: Caller, request: NewCertificate, *, now: datetime
) -> Report:
    """Inspect the upload as the worker would. Loads the private key, if there is one, and forgets it."""
    known = context.settings.regions
    unknown = {region: (unknown_region(region, known),) for region in request.regions if region not in known}
    policies = {region: key_policy_of(known[region], request.type) for region in request.regions if region in known}
    by_region: dict[str, tuple[Finding, ...]] = dict.fromkeys(policies, ())
    if request.source is CertificateSource.MANAGED:
        found = _managed(context, session, caller, request)
    else:
        inspection = _inspect(request, policies, now=now)
        found = (*inspection.findings, *_duplicates(session, caller, inspection.facts))
        by_region = region_findings(inspection.policed, key_policies=policies)
    findings = sorted_findings([*found, *(one for group in unknown.values() for one in group)])
    return Report(
        valid=not has_errors(findings),
        findings=findings,
        summary=_summary(findings),
        regions={region: (by_region | unknown)[region] for region in request.regions} or None,
    )


def _inspect(request: NewCertificate, policies: KeyPolicies, *, now: datetime) -> Inspection:
    upload = Upload(type=request.type, certificate=request.certificate or "", private_key=request.private_key)
    return inspect(upload, now=now, key_policies=policies)


def _duplicates(session: Session, caller: Caller, facts: CertificateFacts | None) -> Iterable[Finding]:
    twin = find_duplicate(session, caller.account_id, facts.fingerprint_sha256) if facts else None
    return [duplicate_of(twin.id, twin.name)] if twin else []


def _managed(context: Context, session: Session, caller: Caller, request: NewCertificate) -> tuple[Finding, ...]:
    """Nobody is asked: its content is validated once a worker has fetched it."""
    if request.type is CertificateType.CA:
        return (managed_source_is_server_only(),)
    try:
        check_managed_id(context, session, caller, request.managed_certificate_id or "")
    except Rejected as error:
        return tuple(
            Finding(code=one.code, severity=Severity.ERROR, field=one.field, message=one.message, hint=one.hint)
            for one in error.errors
        )
    return ()


def _summary(findings: tuple[Finding, ...]) -> str:
    words = {
        Severity.ERROR: ("error", "errors"),
        Severity.WARNING: ("warning", "warnings"),
        Severity.FIXED: ("repair", "repairs"),
    }
    parts = []
    for severity, (one, many) in words.items():
        count = sum(finding.severity is severity for finding in findings)
        if count:
            parts.append(f"{count} {one if count == 1 else many}")
    verdict = "Not valid" if has_errors(findings) else "Valid"
    return f"{verdict}: {', '.join(parts)}." if parts else f"{verdict}: nothing to remark."
