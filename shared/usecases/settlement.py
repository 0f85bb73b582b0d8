"""Settle: the final answer of a region or a listener, and its job once that was the last one (``job_endings``)."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any, Final

from sqlalchemy import exists, or_, select, text
from sqlalchemy.orm import Session

from shared.domain.attempts import AttemptOutcome
from shared.domain.listeners import ListenerState
from shared.domain.rollout import CANCELLED, DeploymentState, Intent
from shared.events import log
from shared.events.catalogue import EventType
from shared.events.log import Fact
from shared.models import Deployment, Job, JobDeployment, JobListener, Listener, leases
from shared.usecases import job_endings, jobs
from shared.usecases.listener_names import free_hosts

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
        deployment.remote_id = deployment.evidence = None
        deployment.drift = None  # nobody looks there any more, so nobody would find that it is well
    _answer(session, deployment, now=now)
    return jobs.region_fact(EventType.DEPLOYMENT_REMOVED if removed else EventType.DEPLOYMENT_SUCCEEDED, deployment)


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


def _reinstate(deployment: Deployment, before: dict[str, Any]) -> None:
    """A removal that did not happen. Only jobs of the release before this one did not note what was there."""
    was_deployed = DeploymentState.DEPLOYED if deployment.deployed_at else DeploymentState.FAILED
    deployment.state = before.get("state", was_deployed)
    deployment.intent = before.get("intent", Intent.DEPLOY)
    deployment.error = before.get("error")


def _answer(session: Session, deployment: Deployment, *, now: datetime) -> None:
    deployment.updated_at = now
    leases.finished(deployment)
    answer = session.get_one(JobDeployment, (deployment.job_id, deployment.id))
    answer.state = deployment.state
    answer.attempt = deployment.attempt
    answer.error = deployment.error
    answer.finished_at = now


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
        Those that were still held under that fence, locked until the commit; nothing is written for the others. Who has
        answered once holds nothing any more: to answer again, because nobody heard of the commit, changes nothing.
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
        WHERE own.lease_until IS NOT NULL
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
    answers = job_endings.complete_answers(session, [job.id]).get(job.id, [])
    ending = job_endings.end(session, job, answers, now=now, error=error)
    log.append(session, job.account_id, [*facts, *ending], now=now)


def _is_at_work(session: Session, job: Job) -> bool:
    """Whether somebody has not answered yet."""
    statement = select(or_(*(exists().where(each.job_id == job.id, each.state.is_(None)) for each in _ANSWERS)))
    return bool(session.execute(statement).scalar_one())


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
    answers = job_endings.complete_answers(session, by_job)
    for job in owned:
        told[job.account_id] += by_job[job.id]
        if job.id in answers:
            told[job.account_id] += job_endings.end(session, job, answers[job.id], now=now)
        else:
            _watch(job, now=now)
    return told


def _watch(job: Job, *, now: datetime) -> None:
    if job.lease_until is not None:
        leases.due(job, now + jobs.WATCH)
