"""Attempts at a region: begun with the claim, ended with the answer, and told to users."""

from __future__ import annotations

import random
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any, Final

from sqlalchemy import func, null, select, tuple_, update
from sqlalchemy.orm import Session

from shared.config.regions import RetryLimits
from shared.domain.attempts import AttemptAction, AttemptOutcome
from shared.domain.identifiers import new_id
from shared.domain.listeners import ListenerState
from shared.domain.retries import Decision, after_failure, is_retryable
from shared.domain.rollout import Intent
from shared.errors import CertfleetError
from shared.models import Attempt, Deployment, Job, JobListener, Listener
from shared.usecases.paging import Order, Page, PageRequest, read_page

UNEXPECTED: Final = "The region's driver failed unexpectedly; the operator finds the place in the worker's log."

_LOST: Final = {
    "code": "worker_lost",
    "message": "The worker died, or was cut off: how far it came is looked up at the load balancer.",
    "retryable": True,
}


def error_document(error: Exception, *, retryable: bool) -> dict[str, Any]:
    """An error as users see it. A foreign exception's text stays out: nobody knows what it quotes."""
    if not isinstance(error, CertfleetError):
        return {"code": "internal_error", "message": UNEXPECTED, "retryable": retryable}
    document = {"code": error.code, "message": error.message, "retryable": retryable}
    if error.hint:
        document["hint"] = error.hint
    if is_retryable(error) and not retryable:
        document["message"] = f"{error.message} Attempts, or the time for them, are used up."
    return document


def postponed(document: dict[str, Any], at: datetime) -> dict[str, Any]:
    """The error of a row that is tried again, with when."""
    return {**document, "next_attempt_at": at.isoformat().replace("+00:00", "Z")}


def of_deployment(deployment: Deployment, *, now: datetime) -> Attempt:
    """The attempt that its claim has just begun; whoever claimed it stores it."""
    action = AttemptAction.REMOVE if deployment.intent == Intent.REMOVE else AttemptAction.DEPLOY
    return _begun(deployment, action, now=now, deployment_id=deployment.id)


def of_listener(session: Session, listener: Listener, *, now: datetime) -> Attempt:
    """The same of a listener; what nobody asked for, its job being answered, is a repair."""
    answer = session.get_one(JobListener, (listener.job_id, listener.id))
    action = AttemptAction.BIND if listener.state != ListenerState.UNBINDING else AttemptAction.UNBIND
    if answer.state is not None:
        action = AttemptAction.REPAIR
    return _begun(listener, action, now=now, listener_id=listener.id)


def _begun(row: Deployment | Listener, action: AttemptAction, *, now: datetime, **subject: str) -> Attempt:
    return Attempt(
        id=new_id("att"),
        account_id=row.account_id,
        job_id=row.job_id,
        region=row.region,
        action=action,
        number=row.attempt,
        fence=row.fence,
        outcome=AttemptOutcome.STARTED,
        started_at=now,
        **subject,
    )


def succeeded(
    session: Session, model: type[Deployment | Listener], fences: Mapping[str, int], *, now: datetime
) -> None:
    """The attempts of these rows went well: id and fence of each."""
    _end(session, model, fences, AttemptOutcome.SUCCEEDED, now=now)


def failed(session: Session, row: Deployment | Listener, *, now: datetime) -> None:
    """The row's attempt failed, with the error that the row shows."""
    _end(session, type(row), {row.id: row.fence}, AttemptOutcome.FAILED, error=row.error, now=now)


def lost(session: Session, row: Deployment | Listener, *, now: datetime) -> bool:
    """Whoever claims a row again ends the attempts before it that never ended; whether there was one."""
    subject = _subject(type(row))
    statement = update(Attempt).where(subject == row.id, Attempt.ended_at.is_(None), Attempt.fence < row.fence)
    ended = statement.values(outcome=AttemptOutcome.LOST, error=_LOST, ended_at=now).returning(Attempt.id)
    return bool(session.execute(ended.execution_options(synchronize_session=False)).all())


def decide(
    session: Session, row: Deployment | Listener, error: Exception, *, limits: RetryLimits, now: datetime
) -> Decision:
    """Whether the row is tried again after its attempt ended with ``error``, by its region's limits."""
    return after_failure(
        error,
        attempt=row.attempt,
        chance=random.random(),  # noqa: S311 - jitter, not a secret
        limits=limits,
        elapsed=_elapsed(session, row, now=now),
    )


def _elapsed(session: Session, row: Deployment | Listener, *, now: datetime) -> timedelta:
    """How long the row's job has been trying."""
    first = select(func.min(Attempt.started_at)).where(
        Attempt.job_id == row.job_id, _subject(type(row)) == row.id, Attempt.number <= row.attempt
    )
    began = session.execute(first).scalar_one()
    return now - began if began else timedelta(0)


def _end(
    session: Session,
    model: type[Deployment | Listener],
    fences: Mapping[str, int],
    outcome: AttemptOutcome,
    *,
    now: datetime,
    error: dict[str, Any] | None = None,
) -> None:
    mine = tuple_(_subject(model), Attempt.fence).in_(list(fences.items()))
    statement = update(Attempt).where(mine, Attempt.ended_at.is_(None))
    values = {"outcome": outcome, "ended_at": now, "error": null() if error is None else error}
    session.execute(statement.values(values).execution_options(synchronize_session=False))


def _subject(model: type[Deployment | Listener]) -> Any:
    return Attempt.deployment_id if model is Deployment else Attempt.listener_id


def list_attempts(session: Session, job: Job, page: PageRequest) -> Page[dict[str, Any]]:
    """A job's attempts in all regions, oldest first.

    Raises:
        Rejected: the cursor does not belong to this list.
    """
    statement = select(Attempt).where(Attempt.job_id == job.id)
    found = read_page(session, statement, Order(id=Attempt.id, descending=False), page)
    return Page(items=[attempt_document(row) for row in found.items], next_cursor=found.next_cursor)


def attempt_document(row: Attempt) -> dict[str, Any]:
    """What is answered about an attempt."""
    shown = ("id", "region", "listener_id", "action", "number", "outcome", "error", "started_at", "ended_at")
    return {name: getattr(row, name) for name in shown}
