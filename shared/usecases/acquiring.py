"""Get a job's content from its certificate service: have it renewed where that is asked for, fetch it, hand it over.

A renewal costs money and cannot be taken back, so ``ordering`` is written, with the order's reference, before the
service is asked, and whoever comes after a lost answer or a dead worker looks before he orders. No transaction waits
for the service.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import structlog
from sqlalchemy.orm import Session

from shared.config.sources import DEFAULT_RETRY, CertificateService
from shared.domain.acquisitions import ISSUE_PATIENCE, AcquisitionState, ManagedId, next_look
from shared.domain.certificates import CertificateState
from shared.domain.retries import after_failure
from shared.domain.rollout import FINAL_JOBS
from shared.errors import DriverError, OutcomeUnknown, Unsupported
from shared.events.log import FIRST_WAKE, wake
from shared.models import Acquisition, Certificate, Job, leases
from shared.telemetry import describe_exception
from shared.usecases import attempts, submission, validation
from shared.usecases.attempts import error_document
from shared.usecases.context import Context
from shared.usecases.source import Content, Renewal, Source
from shared.usecases.source_tools import SourceTools, find_service
from shared.wakeups import Task, WakeUp

log = structlog.get_logger(__name__)


class _Superseded(Exception):
    """Somebody else owns the acquisition by now, or nobody wants it any more."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Plan:
    id: str
    fence: int
    job_id: str
    state: AcquisitionState
    offer_id: str
    issued_offer_id: str | None
    reference: str
    ordered_at: datetime | None
    attempt: int
    service: CertificateService | None
    error: DriverError | None
    """Why there is no service."""


def acquire(context: Context, tools: SourceTools, acquisition_id: str) -> None:
    """Bring the acquisition as far as it goes now. Safe to call at any time."""
    plan = _claim(context, acquisition_id, now=tools.clock())
    if plan is None:
        return
    try:
        content = _obtain(context, tools, plan)
        if content is not None:
            _hand_over(context, plan, *content, now=tools.clock())
    except _Superseded:
        log.info("acquisition_superseded", job_id=plan.job_id, fence=plan.fence)
    except Exception as error:  # noqa: BLE001 - whatever a source raises, the job must get an answer
        _record_failure(context, plan, error, now=tools.clock())


def _claim(context: Context, acquisition_id: str, *, now: datetime) -> _Plan | None:
    with context.transaction() as session:
        fence = leases.claim(session, Acquisition, acquisition_id, now=now, lease=context.settings.lease)
        if fence is None:
            return None
        row = session.get_one(Acquisition, acquisition_id)
        row.attempt += 1
        service, problem = None, None
        try:
            service = find_service(session, context.settings, row.account_id, row.source)
        except DriverError as error:
            problem = error
        return _Plan(
            id=row.id,
            fence=fence,
            job_id=row.job_id,
            state=AcquisitionState(row.state),
            offer_id=row.offer_id,
            issued_offer_id=row.issued_offer_id,
            reference=row.reference or row.certificate_id,
            ordered_at=row.ordered_at,
            attempt=row.attempt,
            service=service,
            error=problem,
        )


def _obtain(context: Context, tools: SourceTools, plan: _Plan) -> tuple[str, Content] | None:
    """The offer's id and content; ``None`` while the order is not issued yet."""
    if plan.service is None:
        raise plan.error or Unsupported("There is no such certificate service.")
    source = tools.open_source(plan.service)
    offer_id = plan.issued_offer_id
    if offer_id is None:
        renewal = _order(context, tools, plan, source)
        offer_id = renewal.offer_id
        if offer_id is None:
            _look_later(context, plan, now=tools.clock())
            return None
        _note_issued(context, plan, offer_id, now=tools.clock())
    return offer_id, source.fetch(offer_id)


def _order(context: Context, tools: SourceTools, plan: _Plan, source: Source) -> Renewal:
    """Order, or find what was ordered."""
    if plan.state is AcquisitionState.ORDERING:
        found = source.find_renewal(plan.offer_id, reference=plan.reference)
        if found is not None:
            return found
    _note_ordering(context, plan, now=tools.clock())
    return source.renew(plan.offer_id, reference=plan.reference)


def _note_ordering(context: Context, plan: _Plan, *, now: datetime) -> None:
    """The order gets a whole lease, however long the look before it took: nobody may order beside us."""
    with context.transaction() as session:
        row = _owned(session, plan)
        row.state = AcquisitionState.ORDERING
        row.ordered_at = row.ordered_at or now
        row.updated_at = now
        row.lease_until = row.next_wake_at = now + context.settings.lease


def _note_issued(context: Context, plan: _Plan, offer_id: str, *, now: datetime) -> None:
    """From here on a repetition only fetches; what is left gets a whole lease."""
    with context.transaction() as session:
        row = _owned(session, plan)
        row.state = AcquisitionState.FETCHING
        row.issued_offer_id = offer_id
        row.attempt = 1
        row.updated_at = now
        row.lease_until = row.next_wake_at = now + context.settings.lease


def _look_later(context: Context, plan: _Plan, *, now: datetime) -> None:
    waiting = now - (plan.ordered_at or now)
    if waiting > ISSUE_PATIENCE:
        raise Unsupported(
            f"The certificate service has not issued the renewal within {ISSUE_PATIENCE.days} days.",
            code="renewal_not_issued",
            hint="Look at the order there, then renew again: it is found, not ordered anew.",
        )
    with context.transaction() as session:
        row = _owned(session, plan)
        row.attempt, row.error, row.updated_at = 0, None, now
        leases.due(row, now + next_look(waiting))
    _tell(context, plan, None)


def _hand_over(context: Context, plan: _Plan, offer_id: str, content: Content, *, now: datetime) -> None:
    """Seal what came as if it had been uploaded, and have it validated. One transaction, in the order of locks."""
    with context.transaction() as session:
        job = _job(session, plan)
        row = _owned(session, plan)
        certificate = session.get_one(
            Certificate, job.certificate_id, with_for_update={"key_share": True}, populate_existing=True
        )
        if certificate.state != CertificateState.VALIDATING:
            raise _Superseded
        certificate.managed_certificate_id = str(ManagedId(source=row.source, offer=offer_id))
        submission.keep_upload(
            context,
            session,
            certificate,
            certificate_pem=content.certificate_pem,
            private_key_pem=content.private_key_pem,
        )
        row.state, row.error, row.updated_at = AcquisitionState.ACQUIRED, None, now
        leases.finished(row)
        job.error = None
        leases.due(job, now, wake_at=now + FIRST_WAKE)
        wake(session, WakeUp(Task.VALIDATE, job.id))


def _record_failure(context: Context, plan: _Plan, error: Exception, *, now: datetime) -> None:
    log.warning("acquisition_failed", job_id=plan.job_id, attempt=plan.attempt, exception=describe_exception(error))
    limits = plan.service.retry if plan.service else DEFAULT_RETRY
    decision = after_failure(error, attempt=plan.attempt, chance=_chance(), limits=limits)
    try:
        if decision.retry:
            _put_off(context, plan, error, after=decision.after, now=now)
        else:
            _give_up(context, plan, _document(error, retryable=False), now=now)
    except _Superseded:
        log.info("acquisition_superseded", job_id=plan.job_id, fence=plan.fence)


def _put_off(context: Context, plan: _Plan, error: Exception, *, after: timedelta, now: datetime) -> None:
    document = attempts.postponed(_document(error, retryable=True), now + after)
    with context.transaction() as session:
        row = _owned(session, plan)
        row.error, row.updated_at = document, now
        leases.due(row, now + after)
    _tell(context, plan, document)


def _tell(context: Context, plan: _Plan, document: dict[str, Any] | None) -> None:
    """A job that waits for a service says why, until it goes on."""
    with context.transaction() as session:
        job = session.get_one(Job, plan.job_id, with_for_update={"key_share": True}, populate_existing=True)
        if job.state not in FINAL_JOBS and job.error != document:
            job.error = document


def _give_up(context: Context, plan: _Plan, document: dict[str, Any], *, now: datetime) -> None:
    with context.transaction() as session:
        job = _job(session, plan)
        row = _owned(session, plan)
        row.state, row.error, row.updated_at = AcquisitionState.FAILED, document, now
        leases.finished(row)
        validation.fail_job(session, job, document, now=now)


def _document(error: Exception, *, retryable: bool) -> dict[str, Any]:
    if not isinstance(error, DriverError):
        message = "The certificate service's adapter failed unexpectedly; the operator finds the place in the log."
        return {"code": "internal_error", "message": message, "retryable": retryable}
    document = error_document(error, retryable=retryable)
    if isinstance(error, OutcomeUnknown) and not retryable:
        document["hint"] = "Whether it was ordered is not known; renew again: an order that was placed is found."
    return document


def _job(session: Session, plan: _Plan) -> Job:
    """The job's row comes before the acquisition's, as whoever cancels takes them."""
    job = session.get_one(Job, plan.job_id, with_for_update={"key_share": True}, populate_existing=True)
    if job.state in FINAL_JOBS:
        raise _Superseded
    return job


def _owned(session: Session, plan: _Plan) -> Acquisition:
    row = leases.owned(session, Acquisition, plan.id, fence=plan.fence)
    if row is None:
        raise _Superseded
    return row


def _chance() -> float:
    return random.random()  # noqa: S311 - spreads retries, protects nothing
