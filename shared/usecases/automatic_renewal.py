"""Renew what is due without being asked to: certificates of a service whose owner, or account, wants it so."""

from __future__ import annotations

from datetime import datetime
from typing import Final

import structlog
from sqlalchemy import Select, func, select

from shared.domain.certificates import CertificateSource, CertificateState
from shared.domain.deadlines import Validity
from shared.domain.renewals import AGAIN, renewal_due_at
from shared.domain.rollout import JobKind
from shared.errors import CertfleetError
from shared.models import Account, Certificate, Job
from shared.telemetry import describe_exception
from shared.usecases.context import Context
from shared.usecases.renewal import renew_certificate
from shared.usecases.tokens import Caller

log = structlog.get_logger(__name__)

BATCH: Final = 500

ACTOR: Final = "certfleet"
"""Who did it, in the audit."""


def renew_due(context: Context, *, now: datetime) -> int:
    """Begin the renewals that are due; returns how many. Each in a transaction of its own; two scans begin it once."""
    begun = 0
    after = ""
    while True:
        with context.transaction() as session:
            rows = session.execute(_candidates(after)).all()
        begun += sum(_renew_if_due(context, *row, now=now) for row in rows)
        if len(rows) < BATCH:
            return begun
        after = rows[-1][0].id


def _renew_if_due(context: Context, certificate: Certificate, before_days: int | None, *, now: datetime) -> bool:
    """Whether its renewal began. Whatever is wrong with one, those after it have their turn."""
    try:
        return _is_due(certificate, before_days, now=now) and _renew(context, certificate, now=now)
    except CertfleetError as error:
        log.info("not_renewed_now", object=certificate.id, code=error.code)
    except Exception as error:  # noqa: BLE001 - see above
        log.error("not_renewed_unexpectedly", object=certificate.id, exception=describe_exception(error))  # noqa: TRY400 - the description names the place, and quotes nothing
    return False


def _candidates(after: str) -> Select[Certificate, int | None]:
    """Those of a service that nothing has replaced: an index has exactly these."""
    before_days = func.coalesce(Certificate.renew_before_days, Account.renew_before_days)
    return (
        select(Certificate, before_days)
        .join(Account, Account.id == Certificate.account_id)
        .where(
            Certificate.source == CertificateSource.MANAGED.value,
            Certificate.state == CertificateState.VALID.value,
            Certificate.replaced_by_id.is_(None),
            func.coalesce(Certificate.auto_renew, Account.auto_renew),
            Certificate.id > after,
        )
        .order_by(Certificate.id)
        .limit(BATCH)
    )


def _is_due(certificate: Certificate, before_days: int | None, *, now: datetime) -> bool:
    if certificate.not_before is None or certificate.not_after is None:
        return False
    validity = Validity(not_before=certificate.not_before, not_after=certificate.not_after)
    return renewal_due_at(validity, before_days=before_days, seed=certificate.id) <= now


def _renew(context: Context, certificate: Certificate, *, now: datetime) -> bool:
    caller = Caller(account_id=certificate.account_id, token_id=ACTOR, scopes=frozenset())
    with context.transaction() as session:
        latest = select(func.max(Job.created_at)).join(Certificate, Certificate.id == Job.certificate_id)
        tried = latest.where(Certificate.replaces_id == certificate.id, Job.kind == JobKind.RENEW.value)
        last = session.execute(tried).scalar_one()
        if last is not None and last > now - AGAIN:
            return False
        job, _ = renew_certificate(context, session, caller, certificate.id, now=now)
        job_id = job.id
    log.info("renewal_begun", job_id=job_id, object=certificate.id)
    return True
