"""Cancel a job: what has not begun never does, what a worker is at is finished, what waits for another try is undone.

Whoever stops a job holds its row and waits for no other lock meanwhile: a worker that settles one of the job's regions
holds that region's row (and perhaps the certificate's) and waits for the job's. What is locked at that moment is left
to the worker that looks after the job, which stops it by the same function.
"""

from __future__ import annotations

from dataclasses import asdict
from datetime import datetime, timedelta
from typing import Any, TypeVar

from sqlalchemy import Select, or_, select
from sqlalchemy.orm import Session

from shared.domain.certificates import CertificateState
from shared.domain.rollout import FINAL_JOBS, SUCCESSIONS, TAKING_PLACE, JobState
from shared.domain.validation import cancelled
from shared.errors import Conflict
from shared.events.catalogue import EventType
from shared.events.log import FIRST_WAKE, Fact, wake
from shared.models import Certificate, Deployment, Job, Listener, Purpose, leases
from shared.usecases import acquisitions, audit, jobs, secrets, settlement
from shared.usecases.browsing import find_job
from shared.usecases.tokens import Caller
from shared.wakeups import Task, WakeUp

_Row = TypeVar("_Row", Deployment, Listener)


def cancel_job(session: Session, caller: Caller, job_id: str, *, now: datetime) -> Job:
    """Begin nothing more for the job. Cancelling it again before its end changes nothing.

    Raises:
        NotFound: none of that id in this account.
        Conflict: it is over (``already_finished``).
    """
    job = find_job(session, caller, job_id, lock=True)
    if job.state in FINAL_JOBS:
        raise Conflict(
            f"The job is over: it is {job.state}.",
            code="already_finished",
            hint="Look at its regions; what it did is undone by a job of its own (remove, replace).",
            context={"state": job.state},
        )
    if job.cancel_requested_at is None:
        job.cancel_requested_at = now
        audit.note(session, caller, "job.cancellation_requested", job.id, now=now, details={"kind": job.kind})
        stop(session, job, now=now)
    return job


def stop(session: Session, job: Job, *, now: datetime, look_again: timedelta = timedelta(0)) -> None:
    """Settle what has not begun, and make due what waits for another try. The caller holds the job's row.

    An upload that is being validated is validated to its end, which then finds the job cancelled. When something was
    locked by somebody else for the moment, the job is due after ``look_again``.
    """
    if job.state == JobState.VALIDATING:
        return
    facts: list[Fact] = []
    is_done = _stop_listeners(session, job, now=now) if job.kind in jobs.LISTENER_JOBS else False
    if job.kind not in jobs.LISTENER_JOBS and _take_certificates(session, job):
        facts += _reject(session, job, now=now) if job.state == JobState.QUEUED else []
        facts += _stop_deployments(session, job, now=now)
        is_done = not _is_left(session, Deployment, job, now=now)
    if not is_done:
        leases.due(job, now + look_again, wake_at=now + max(look_again, FIRST_WAKE))
        wake(session, WakeUp(Task.VALIDATE, job.id))
    settlement.settle_job(session, job, now=now, facts=facts)


def _take_certificates(session: Session, job: Job) -> bool:
    """Whether the rows that the job's end may change could be had at once: the certificate's, and what it replaces."""
    ids = {job.certificate_id}
    if job.kind in SUCCESSIONS:
        replaced = select(Certificate.replaces_id).where(Certificate.id == job.certificate_id)
        ids |= {one for one in session.execute(replaced).scalars() if one is not None}
    statement = select(Certificate).where(Certificate.id.in_(ids)).order_by(Certificate.id)
    locking = statement.with_for_update(key_share=True, skip_locked=True)
    taken = session.execute(locking.execution_options(populate_existing=True)).scalars().all()
    return len(taken) == len(ids)


def _reject(session: Session, job: Job, *, now: datetime) -> list[Fact]:
    """Nobody has looked at the upload, and nobody will: it is destroyed, or not even fetched."""
    acquisitions.cancel_acquisition(session, job, now=now)
    certificate = session.get_one(Certificate, job.certificate_id)
    if certificate.state != CertificateState.VALIDATING:
        return []
    finding = asdict(cancelled())
    certificate.state = CertificateState.REJECTED
    certificate.findings = job.findings = [finding]
    if job.kind in TAKING_PLACE:
        certificate.managed_certificate_id = None  # what was ordered is still as good as new: renewing again finds it
    secrets.drop(session, certificate.id, Purpose.UPLOAD)
    return [jobs.certificate_fact(EventType.CERTIFICATE_REJECTED, certificate)]


def _stop_deployments(session: Session, job: Job, *, now: datetime) -> list[Fact]:
    facts = []
    for deployment in _unowned(session, Deployment, job, now=now):
        if deployment.attempt == 0:
            facts.append(settlement.cancel(session, deployment, now=now))
        else:
            _try_no_more(session, deployment, now=now)
    return facts


def _stop_listeners(session: Session, job: Job, *, now: datetime) -> bool:
    """Whether none was locked by somebody else."""
    for listener in _unowned(session, Listener, job, now=now):
        if listener.attempt == 0:
            settlement.cancel_listener(session, listener, now=now)
        else:
            _try_no_more(session, listener, now=now)
    return not _is_left(session, Listener, job, now=now)


def _try_no_more(session: Session, row: Deployment | Listener, *, now: datetime) -> None:
    """Due now: whoever claims it undoes what the attempts so far may have left."""
    if row.next_attempt_at is not None and row.next_attempt_at > now:
        leases.due(row, now, wake_at=now + FIRST_WAKE)
        wake(session, WakeUp(Task.REGION, row.region))


def _unowned(session: Session, model: type[_Row], job: Job, *, now: datetime) -> list[_Row]:
    """What nobody is at, without those whose rows somebody has locked."""
    statement = _waiting(model, job, now=now).order_by(model.id).with_for_update(key_share=True, skip_locked=True)
    return list(session.execute(statement.execution_options(populate_existing=True)).scalars())


def _is_left(session: Session, model: type[_Row], job: Job, *, now: datetime) -> bool:
    """Whether there is still something to stop."""
    session.flush()
    unstopped = or_(model.attempt == 0, model.next_attempt_at > now)
    return session.execute(_waiting(model, job, now=now).where(unstopped).limit(1)).first() is not None


def _waiting(model: type[_Row], job: Job, *, now: datetime) -> Select[Any]:
    table: Any = model
    return select(table).where(
        table.job_id == job.id,
        table.next_attempt_at.is_not(None),
        or_(table.lease_until.is_(None), table.lease_until <= now),
    )
