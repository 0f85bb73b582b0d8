"""Jobs and the deployments that they drive: opened here, worked on by ``validation`` and ``deployment``."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from typing import Any, Final

from sqlalchemy import inspect, select
from sqlalchemy.orm import Session

from shared.domain.identifiers import new_id
from shared.domain.listeners import ListenerState
from shared.domain.rollout import DeploymentState, Intent, JobKind, JobState, ServedState
from shared.events import log
from shared.events.catalogue import EventType
from shared.events.log import FIRST_WAKE, Fact
from shared.models import Base, Certificate, Deployment, Job, JobDeployment, JobListener, Listener, leases
from shared.wakeups import Task, WakeUp

NOT_BEFORE_VALIDATION: Final = timedelta(minutes=10)
"""A deployment waits for its job's validation, which makes it due; this is only the sweep's safety net."""

WATCH: Final = timedelta(minutes=1)
"""How often the sweep looks whether a job at work could be settled; normally the last answer does it at once."""

LISTENER_JOBS: Final = frozenset({JobKind.CREATE_LISTENER, JobKind.CHANGE_LISTENER, JobKind.DELETE_LISTENER})
"""Jobs about one listener; the others are about one certificate in its regions."""


def open_job(session: Session, certificate: Certificate, kind: JobKind, *, now: datetime) -> Job:
    """A queued job, due at once."""
    job = new_job(certificate, kind, now=now)
    session.add(job)
    session.flush()
    return job


def new_job(certificate: Certificate, kind: JobKind, *, now: datetime) -> Job:
    """The same, for whoever stores it together with other rows."""
    job = Job(
        id=new_id("job"),
        account_id=certificate.account_id,
        certificate_id=certificate.id,
        kind=kind,
        state=JobState.QUEUED,
        findings=[],
        attempt=0,
        fence=0,
        created_at=now,
    )
    leases.due(job, now, wake_at=now + FIRST_WAKE)
    return job


def new_deployments(certificate: Certificate, job: Job, regions: Iterable[str], *, now: datetime) -> list[Deployment]:
    """One row for each region that has none of this certificate yet."""
    return [
        Deployment(
            id=new_id("dep"),
            account_id=certificate.account_id,
            certificate_id=certificate.id,
            certificate_type=certificate.type,
            region=region,
            job_id=job.id,
            state=DeploymentState.PENDING,
            served=ServedState.NOT_CHECKED,
            holds_slot=False,
            fence=0,
            created_at=now,
        )
        for region in regions
    ]


def assign(session: Session, job: Job, deployments: Sequence[Deployment], intent: Intent, *, now: datetime) -> None:
    """Hand the deployments to the job, to begin afresh once it has been validated."""
    answers = hand_over(job, deployments, intent, now=now)
    session.add_all(deployments)
    session.flush()
    session.add_all(answers)


def hand_over(job: Job, deployments: Sequence[Deployment], intent: Intent, *, now: datetime) -> list[JobDeployment]:
    """The same, for whoever stores the answers together with other rows: one for each deployment, still open."""
    answers = [
        JobDeployment(job_id=job.id, deployment_id=deployment.id, attempt=0, before=_before(deployment))
        for deployment in deployments
    ]
    for deployment in deployments:
        deployment.job_id = job.id
        deployment.intent = intent
        deployment.state = DeploymentState.REMOVING if intent is Intent.REMOVE else DeploymentState.PENDING
        deployment.attempt = 0
        deployment.error = None
        deployment.updated_at = now
        leases.due(deployment, now + NOT_BEFORE_VALIDATION)
    return answers


def _before(deployment: Deployment) -> dict[str, Any] | None:
    """What the region goes back to when the job is cancelled; ``None``: it was made for this job."""
    if inspect(deployment).transient:
        return None
    return {
        "state": deployment.state,
        "intent": deployment.intent,
        "holds_slot": deployment.holds_slot,
        "error": deployment.error,
    }


def assign_listener(session: Session, job: Job, listener: Listener, *, state: ListenerState, now: datetime) -> None:
    """Hand the listener to the job, due at once: ``state`` is ``pending`` (bind) or ``unbinding``."""
    listener.job_id = job.id
    listener.state = state
    listener.attempt = 0
    listener.error = None
    listener.updated_at = now
    leases.due(listener, now, wake_at=now + FIRST_WAKE)
    session.add(listener)
    session.flush()
    session.add(JobListener(job_id=job.id, listener_id=listener.id, attempt=0))


def announce(session: Session, job: Job, *, now: datetime, first: WakeUp | None = None) -> None:
    """Say that the job was accepted, and wake a worker after the commit.

    ``first``: what comes before its validation, and will wake that.
    """
    log.append(session, job.account_id, [_queued(job)], now=now)
    log.wake(session, first or WakeUp(Task.VALIDATE, job.id))


def announce_with(
    session: Session, job: Job, rows: Sequence[Base], *, now: datetime, first: WakeUp | None = None
) -> None:
    """The same for a job that is still to be stored: these rows are, with the event, right before the commit."""
    log.append_last(session, job.account_id, [_queued(job)], now=now, beside=rows)
    log.wake(session, first or WakeUp(Task.VALIDATE, job.id))


def announce_listener(session: Session, job: Job, listener: Listener, *, now: datetime) -> None:
    """The same for a job that brings no upload: nothing is to be validated, the listener is due at once."""
    leases.due(job, now + WATCH)
    log.append(session, job.account_id, [_queued(job)], now=now)
    log.wake(session, WakeUp(Task.REGION, listener.region))


def _queued(job: Job) -> Fact:
    data = {"job_id": job.id, "certificate_id": job.certificate_id, "kind": job.kind, "state": job.state}
    return Fact(type=EventType.JOB_QUEUED, data=data)


def deployments_of(session: Session, job: Job) -> list[Deployment]:
    """The deployments that the job drives, in order of region, locked."""
    statement = (
        select(Deployment)
        .where(Deployment.job_id == job.id)
        .order_by(Deployment.region)
        .with_for_update(key_share=True)
    )
    return list(session.execute(statement).scalars())


def region_fact(event_type: EventType, deployment: Deployment) -> Fact:
    """What every region event says; a new attempt begins without the last one's error."""
    data: dict[str, Any] = {
        "certificate_id": deployment.certificate_id,
        "job_id": deployment.job_id,
        "region": deployment.region,
        "state": deployment.state,
        "attempt": deployment.attempt,
    }
    if deployment.error is not None and event_type is not EventType.DEPLOYMENT_STARTED:
        data["error"] = deployment.error
    return Fact(type=event_type, data=data)


def certificate_fact(event_type: EventType, certificate: Certificate) -> Fact:
    """What became of an upload: ``certificate.validated`` or ``certificate.rejected``."""
    data = {
        "certificate_id": certificate.id,
        "name": certificate.name,
        "state": certificate.state,
        "findings": certificate.findings,
    }
    return Fact(type=event_type, data=data)
