"""Settle: a region's or a listener's final answer, and the job once the last of them is there."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any, Final

from sqlalchemy import exists, or_, select, text, update
from sqlalchemy.orm import Session

from shared.domain.attempts import AttemptOutcome
from shared.domain.certificates import CertificateState
from shared.domain.listeners import ListenerState
from shared.domain.rollout import (
    ACTIVE_DEPLOYMENTS,
    CANCELLED,
    TAKING_PLACE,
    DeploymentState,
    Intent,
    JobKind,
    JobState,
    settle,
)
from shared.events import log
from shared.events.catalogue import EventType
from shared.events.log import Fact
from shared.models import Certificate, Deployment, Job, JobDeployment, JobListener, Listener, Purpose, leases
from shared.models.certificates import LOOK_NOW
from shared.usecases import jobs, secrets
from shared.usecases.listener_names import free_hosts

_JOB_EVENTS: Final = {
    JobState.SUCCEEDED: EventType.JOB_SUCCEEDED,
    JobState.PARTIALLY_SUCCEEDED: EventType.JOB_PARTIALLY_SUCCEEDED,
    JobState.FAILED: EventType.JOB_FAILED,
    JobState.CANCELLED: EventType.JOB_CANCELLED,
}

_CAME_NOWHERE: Final = frozenset({JobState.FAILED, JobState.CANCELLED})
_SUCCESSIONS: Final = TAKING_PLACE | {JobKind.RETRY}
"""Jobs that put new content in another certificate's place."""
_ANSWERS: Final[tuple[Any, ...]] = (JobDeployment, JobListener)


def fail(session: Session, deployment: Deployment, error: dict[str, Any], *, keeps_slot: bool, now: datetime) -> Fact:
    """The region failed for good; it keeps its quota slot only where the balancer may hold the object."""
    deployment.state = DeploymentState.FAILED
    deployment.error = error
    deployment.holds_slot = deployment.holds_slot and keeps_slot
    _answer(session, deployment, now=now)
    return jobs.region_fact(EventType.DEPLOYMENT_FAILED, deployment)


def succeed(session: Session, deployment: Deployment, *, now: datetime) -> Fact:
    """The region answered as wished."""
    removed = deployment.intent == Intent.REMOVE
    deployment.state = DeploymentState.REMOVED if removed else DeploymentState.DEPLOYED
    deployment.error = None
    if removed:
        deployment.holds_slot = False
        deployment.remote_id = None
        deployment.evidence = None
    _answer(session, deployment, now=now)
    return jobs.region_fact(EventType.DEPLOYMENT_REMOVED if removed else EventType.DEPLOYMENT_SUCCEEDED, deployment)


@dataclass(frozen=True, slots=True, kw_only=True)
class Delivered:
    """What a region has taken, by whose claim."""

    deployment_id: str
    fence: int
    remote_id: str | None
    evidence: dict[str, Any] | None


def succeed_all(session: Session, delivered: Sequence[Delivered], *, now: datetime) -> list[Deployment]:
    """As :func:`succeed` for deployments that were staged: rows, answers and attempts in one statement.

    Returns:
        Those whose fence was still the newest, locked until the commit; nothing is written for the others.
    """
    if not delivered:
        return []
    values = {"delivered": json.dumps([asdict(each) for each in delivered]), "now": now}
    return list(session.execute(_SUCCEED, values).scalars())


_SUCCEED: Final = (
    select(Deployment)
    .from_statement(
        text(f"""
    WITH delivered AS (
        SELECT * FROM jsonb_to_recordset(CAST(:delivered AS jsonb))
            AS delivered (deployment_id text, fence bigint, remote_id text, evidence jsonb)
    ), mine AS (
        SELECT own.id, own.job_id, own.fence, own.attempt, delivered.remote_id, delivered.evidence
        FROM deployments AS own
        JOIN delivered ON own.id = delivered.deployment_id AND own.fence = delivered.fence
        ORDER BY own.id FOR NO KEY UPDATE OF own
    ), answered AS (
        UPDATE job_deployments
        SET state = '{DeploymentState.DEPLOYED}', attempt = mine.attempt, error = NULL, finished_at = :now
        FROM mine WHERE job_deployments.job_id = mine.job_id AND job_deployments.deployment_id = mine.id
    ), ended AS (
        UPDATE attempts SET outcome = '{AttemptOutcome.SUCCEEDED}', error = NULL, ended_at = :now
        FROM mine
        WHERE attempts.deployment_id = mine.id AND attempts.fence = mine.fence AND attempts.ended_at IS NULL
    )
    UPDATE deployments
    SET state = '{DeploymentState.DEPLOYED}', error = NULL, remote_id = mine.remote_id, evidence = mine.evidence,
        deployed_at = :now, updated_at = :now, next_attempt_at = NULL, next_wake_at = NULL, lease_until = NULL
    FROM mine WHERE deployments.id = mine.id
    RETURNING deployments.*
""")  # noqa: S608 - our own words
    )
    .execution_options(populate_existing=True)
)


def end_jobs(session: Session, facts: Sequence[Fact], *, now: datetime) -> dict[str, list[Fact]]:
    """As :func:`settle_region` for the answers of several jobs: what is to be told, by account; the caller tells it.

    The jobs' rows are locked in order of their ids.
    """
    by_job: dict[str, list[Fact]] = defaultdict(list)
    for fact in facts:
        by_job[fact.data["job_id"]].append(fact)
    told: dict[str, list[Fact]] = defaultdict(list)
    if not by_job:
        return told
    statement = select(Job).where(Job.id.in_(by_job)).order_by(Job.id).with_for_update(key_share=True)
    owned = session.execute(statement.execution_options(populate_existing=True)).scalars().all()
    answers = _all_answers(session, by_job)
    for job in owned:
        told[job.account_id] += by_job[job.id]
        if job.id in answers:
            told[job.account_id] += _end(session, job, answers[job.id], now=now)
        else:
            _watch(job, now=now)
    return told


def _is_at_work(session: Session, job: Job) -> bool:
    """Whether somebody has not answered yet."""
    statement = select(or_(*(exists().where(each.job_id == job.id, each.state.is_(None)) for each in _ANSWERS)))
    return bool(session.execute(statement).scalar_one())


def _watch(job: Job, *, now: datetime) -> None:
    if job.lease_until is not None:
        leases.due(job, now + jobs.WATCH)


def cancel(session: Session, deployment: Deployment, *, now: datetime, is_there: bool | None = None) -> Fact:
    """The region was left as it was, because its job is cancelled; only the job's own answer says so.

    A removal goes back to what was to be removed; a deployment is ``failed`` (``cancelled``) and can be retried.
    ``is_there``: whether the balancer may hold the object; ``None``: as before the job, which has begun nothing here.
    """
    answer = session.get_one(JobDeployment, (deployment.job_id, deployment.id))
    error = _cancelled_error(deployment)
    before = answer.before or {}
    if deployment.intent == Intent.REMOVE:
        _reinstate(deployment, before)
    else:
        deployment.state = DeploymentState.FAILED
        deployment.error = error
        deployment.holds_slot = bool(before.get("holds_slot")) if is_there is None else is_there
    deployment.fence += 1  # whoever owned it once writes no more
    _answer(session, deployment, now=now)
    answer.state, answer.error = CANCELLED, error
    fact = jobs.region_fact(EventType.DEPLOYMENT_FAILED, deployment)
    return Fact(type=fact.type, data={**fact.data, "error": error})


def cancel_listener(session: Session, listener: Listener, *, now: datetime) -> None:
    """The listener goes on as it was, or was never bound, because its job is cancelled."""
    answer = session.get_one(JobListener, (listener.job_id, listener.id))
    error = _cancelled_error(listener)
    listener.change = None
    listener.state = ListenerState.BOUND if listener.revision else ListenerState.FAILED
    listener.error = None if listener.revision else error
    listener.fence += 1
    listener.updated_at = now
    leases.finished(listener)
    free_hosts(session, listener, keep=listener.hosts)
    if listener.attempt and listener.next_probe_at is not None:
        listener.next_probe_at = now
    answer.state, answer.error = CANCELLED, error
    answer.attempt = listener.attempt
    answer.finished_at = now


def _cancelled_error(row: Deployment | Listener) -> dict[str, Any]:
    message = "The job was cancelled before it began here."
    if row.attempt:
        tries = f"{row.attempt} attempt{'s' if row.attempt > 1 else ''}"
        message = f"The job was cancelled after {tries}; what was there before was left or put back."
        if row.error:
            message = f"{message} The last attempt failed: {row.error['message']}"
    return {"code": CANCELLED, "message": message, "retryable": False}


def _reinstate(deployment: Deployment, before: dict[str, Any]) -> None:
    """A removal that did not happen. Only jobs of the release before this one did not note what was there."""
    was_deployed = DeploymentState.DEPLOYED if deployment.deployed_at else DeploymentState.FAILED
    deployment.state = before.get("state", was_deployed)
    deployment.intent = before.get("intent", Intent.DEPLOY)
    deployment.error = before.get("error")


def settle_region(session: Session, job_id: str, *facts: Fact, now: datetime) -> None:
    """Record a region's (or a listener's) final answer, and the job's end if it was the last one.

    The answer is written before the job's row is locked, so that a job's regions queue for the count alone; whoever
    gets the lock last sees every answer.
    """
    session.flush()
    job = session.get_one(Job, job_id, with_for_update={"key_share": True}, populate_existing=True)
    settle_job(session, job, now=now, facts=facts)


def settle_job(
    session: Session, job: Job, *, now: datetime, error: dict[str, Any] | None = None, facts: Sequence[Fact] = ()
) -> None:
    """Record the facts, and the job's end if every region has answered. The caller holds the job's row."""
    session.flush()
    if _is_at_work(session, job):
        _watch(job, now=now)
        log.append(session, job.account_id, facts, now=now)
        return
    answers = _all_answers(session, [job.id]).get(job.id, [])
    log.append(session, job.account_id, [*facts, *_end(session, job, answers, now=now, error=error)], now=now)


def _end(
    session: Session, job: Job, answers: Sequence[_Answer], *, now: datetime, error: dict[str, Any] | None = None
) -> list[Fact]:
    """Everybody has answered: the job's final state, and what it says of it."""
    state = JobState.FAILED if error is not None else _settled(job, answers)
    job.state = state
    job.error = error or _summary(state, answers)
    job.finished_at = now
    leases.finished(job)
    ending = [Fact(type=_JOB_EVENTS[state], data=_job_data(job, answers))]
    if state in _CAME_NOWHERE and job.kind in _SUCCESSIONS:
        _unlink(session, job)
    if state is JobState.CANCELLED and job.certificate_state_before is not None:
        _keep(session, job)
    if job.kind == JobKind.REMOVE and state is JobState.SUCCEEDED:
        ending += _bury(session, job, now=now)
    return ending


def answer_listener(session: Session, listener: Listener, *, is_failed: bool, now: datetime) -> bool:
    """Record what became of the listener for its job; False when that job was answered before (a repair has none)."""
    answer = session.get_one(JobListener, (listener.job_id, listener.id))
    if answer.state is not None:
        return False
    answer.state = ListenerState.FAILED if is_failed else listener.state
    answer.attempt = listener.attempt
    answer.error = listener.error if is_failed else None
    answer.finished_at = now
    return True


def _answer(session: Session, deployment: Deployment, *, now: datetime) -> None:
    deployment.updated_at = now
    leases.finished(deployment)
    answer = session.get_one(JobDeployment, (deployment.job_id, deployment.id))
    answer.state = deployment.state
    answer.attempt = deployment.attempt
    answer.error = deployment.error
    answer.finished_at = now


@dataclass(frozen=True, slots=True, kw_only=True)
class _Answer:
    """What one region or listener answered: where, its final state for this job, and why it failed."""

    region: str
    listener_id: str | None
    state: str
    error: dict[str, Any] | None


def _settled(job: Job, answers: Sequence[_Answer]) -> JobState:
    if not answers and job.cancel_requested_at is not None:
        return JobState.CANCELLED
    state = settle(answer.state for answer in answers)
    if state is None:
        raise RuntimeError("settled while a region is at work")
    return state


def _all_answers(session: Session, job_ids: Iterable[str]) -> dict[str, list[_Answer]]:
    """Of those of the jobs that have answers and wait for none."""
    found: dict[str, list[_Answer]] = defaultdict(list)
    for row in session.execute(_COMPLETE, {"job_ids": list(job_ids)}).all():
        answer = _Answer(region=row.region, listener_id=row.listener_id, state=row.state, error=row.error)
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


def _summary(state: JobState, answers: Sequence[_Answer]) -> dict[str, Any] | None:
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


def _who_finished(answers: Sequence[_Answer]) -> str:
    parts = {
        "finished": [each.region for each in answers if each.state not in (CANCELLED, DeploymentState.FAILED)],
        "failed": [each.region for each in answers if each.state == DeploymentState.FAILED],
        "cancelled": [each.region for each in answers if each.state == CANCELLED],
    }
    told = "; ".join(f"{word}: {', '.join(regions)}" for word, regions in parts.items() if regions)
    count = len(parts["cancelled"])
    return f"Cancelled in {count} of {len(answers)} regions ({told})." if told else "Cancelled before anything began."


def _job_data(job: Job, answers: Sequence[_Answer]) -> dict[str, Any]:
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
