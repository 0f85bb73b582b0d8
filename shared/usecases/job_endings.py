"""The end of a job once every region and listener has answered: what it amounts to, what it says, what it changes."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from sqlalchemy import select, text, update
from sqlalchemy.orm import Session

from shared.domain.certificates import CertificateState
from shared.domain.rollout import (
    ACTIVE_DEPLOYMENTS,
    CANCELLED,
    SUCCESSIONS,
    DeploymentState,
    JobKind,
    JobState,
    settle,
)
from shared.events.catalogue import EventType
from shared.events.log import Fact
from shared.models import Certificate, Deployment, Job, Purpose, leases
from shared.models.certificates import LOOK_NOW
from shared.usecases import secrets

_JOB_EVENTS: Final = {
    JobState.SUCCEEDED: EventType.JOB_SUCCEEDED,
    JobState.PARTIALLY_SUCCEEDED: EventType.JOB_PARTIALLY_SUCCEEDED,
    JobState.FAILED: EventType.JOB_FAILED,
    JobState.CANCELLED: EventType.JOB_CANCELLED,
}

_CAME_NOWHERE: Final = frozenset({JobState.FAILED, JobState.CANCELLED})


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What one region or listener answered: where, its final state for this job, and why it failed."""

    region: str
    listener_id: str | None
    state: str
    error: dict[str, Any] | None


def complete_answers(session: Session, job_ids: Iterable[str]) -> dict[str, list[Answer]]:
    """Of those of the jobs that have answers and wait for none."""
    found: dict[str, list[Answer]] = defaultdict(list)
    for row in session.execute(_COMPLETE, {"job_ids": list(job_ids)}).all():
        answer = Answer(region=row.region, listener_id=row.listener_id, state=row.state, error=row.error)
        found[row.job_id].append(answer)
    return found


_OPEN: Final = "EXISTS (SELECT FROM {table} AS open WHERE open.job_id = answer.job_id AND open.state IS NULL)"
_WAITS: Final = f"({_OPEN.format(table='job_deployments')} OR {_OPEN.format(table='job_listeners')})"

_COMPLETE: Final = text(f"""
    SELECT answer.job_id, place.region, NULL AS listener_id, answer.state, answer.error
    FROM job_deployments AS answer JOIN deployments AS place ON place.id = answer.deployment_id
    WHERE answer.job_id = ANY(:job_ids) AND NOT {_WAITS}
    UNION ALL
    SELECT answer.job_id, place.region, place.id, answer.state, answer.error
    FROM job_listeners AS answer JOIN listeners AS place ON place.id = answer.listener_id
    WHERE answer.job_id = ANY(:job_ids) AND NOT {_WAITS}
    ORDER BY 2
""")  # noqa: S608 - names of our own tables


def end(
    session: Session, job: Job, answers: Sequence[Answer], *, now: datetime, error: dict[str, Any] | None = None
) -> list[Fact]:
    """Everybody has answered: the job's final state, and what it says of it."""
    state = JobState.FAILED if error is not None else _settled(job, answers)
    job.state = state
    job.error = error or _summary(state, answers)
    job.finished_at = now
    leases.finished(job)
    ending = [Fact(type=_JOB_EVENTS[state], data=_job_data(job, answers))]
    if state in _CAME_NOWHERE and job.kind in SUCCESSIONS:
        _unlink(session, job)
    if state is JobState.CANCELLED and job.certificate_state_before is not None:
        _keep(session, job)
    if job.kind == JobKind.REMOVE and state is JobState.SUCCEEDED:
        ending += _bury(session, job, now=now)
    return ending


def _settled(job: Job, answers: Sequence[Answer]) -> JobState:
    if not answers and job.cancel_requested_at is not None:
        return JobState.CANCELLED
    state = settle(answer.state for answer in answers)
    if state is None:
        raise RuntimeError("settled while a region is at work")
    return state


def _summary(state: JobState, answers: Sequence[Answer]) -> dict[str, Any] | None:
    """Why the job is not a full success: the one error that all failed regions share, or how many failed."""
    if state is JobState.CANCELLED:
        return {"code": CANCELLED, "message": _who_finished(answers), "retryable": False}
    failed = [(answer.region, answer.error) for answer in answers if answer.error]
    if state is JobState.SUCCEEDED or not failed:
        return None
    codes = {error["code"] for _, error in failed}
    regions = ", ".join(region for region, _ in failed)
    if state is JobState.FAILED and len(codes) == 1:
        return {"code": codes.pop(), "message": failed[0][1]["message"], "retryable": False}
    code = "all_regions_failed" if state is JobState.FAILED else "some_regions_failed"
    return {"code": code, "message": f"{len(failed)} of {len(answers)} regions failed: {regions}.", "retryable": False}


def _who_finished(answers: Sequence[Answer]) -> str:
    parts = {
        "finished": [each.region for each in answers if each.state not in (CANCELLED, DeploymentState.FAILED)],
        "failed": [each.region for each in answers if each.state == DeploymentState.FAILED],
        "cancelled": [each.region for each in answers if each.state == CANCELLED],
    }
    told = "; ".join(f"{word}: {', '.join(regions)}" for word, regions in parts.items() if regions)
    count = len(parts["cancelled"])
    return f"Cancelled in {count} of {len(answers)} regions ({told})." if told else "Cancelled before anything began."


def _job_data(job: Job, answers: Sequence[Answer]) -> dict[str, Any]:
    data: dict[str, Any] = {
        "job_id": job.id,
        "certificate_id": job.certificate_id,
        "kind": job.kind,
        "state": job.state,
        "regions": {answer.region: answer.state for answer in answers if answer.listener_id is None},
    }
    for answer in answers:
        if answer.listener_id is not None:
            data["listener_id"] = answer.listener_id
    if job.error is not None:
        data["error"] = job.error
    return data


def _unlink(session: Session, job: Job) -> None:
    """New content that came nowhere has replaced nothing: what it was meant for may be replaced again."""
    if _is_used(session, job):
        return  # without the certificate's row: who has deployed something did not take it before his deployment's
    certificate = session.get_one(Certificate, job.certificate_id, with_for_update={"key_share": True})
    if _is_used(session, job):
        return
    statement = update(Certificate).where(
        Certificate.id == certificate.replaces_id, Certificate.replaced_by_id == certificate.id
    )
    session.execute(statement.values(replaced_by_id=None, next_notice_at=LOOK_NOW))


def _is_used(session: Session, job: Job) -> bool:
    """Whether the certificate is somewhere, or another job is bringing it there."""
    statement = select(Deployment.id).where(
        Deployment.certificate_id == job.certificate_id,
        Deployment.state.in_([*ACTIVE_DEPLOYMENTS, DeploymentState.DEPLOYED]),
    )
    return session.execute(statement.limit(1)).first() is not None


def _keep(session: Session, job: Job) -> None:
    """A deletion that was cancelled: the certificate is what it was before, where it still is."""
    certificate = session.get_one(Certificate, job.certificate_id, with_for_update={"key_share": True})
    if certificate.state == CertificateState.DELETING:
        certificate.state = str(job.certificate_state_before)


def _bury(session: Session, job: Job, *, now: datetime) -> list[Fact]:
    """Once a certificate that is being deleted is gone from every region, destroy its key."""
    certificate = session.get_one(Certificate, job.certificate_id, with_for_update={"key_share": True})
    if certificate.state != CertificateState.DELETING or _is_anywhere(session, certificate):
        return []
    certificate.state = CertificateState.DELETED
    certificate.deleted_at = now
    secrets.drop(session, certificate.id, Purpose.PRIVATE_KEY, Purpose.UPLOAD)
    return [
        Fact(
            type=EventType.CERTIFICATE_DELETED,
            data={"certificate_id": certificate.id, "name": certificate.name, "state": certificate.state},
        )
    ]


def _is_anywhere(session: Session, certificate: Certificate) -> bool:
    remaining = select(Deployment.id).where(
        Deployment.certificate_id == certificate.id,
        Deployment.holds_slot | Deployment.state.in_([*ACTIVE_DEPLOYMENTS, DeploymentState.DEPLOYED]),
    )
    return session.execute(remaining.limit(1)).first() is not None
