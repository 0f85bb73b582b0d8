"""What happened to one certificate: its newest events, and every try at a region, over all of its jobs."""

from __future__ import annotations

from typing import Any, Final

from sqlalchemy import Select, select, union_all
from sqlalchemy.orm import Session, aliased

from shared.models import Attempt, Event, Job
from shared.usecases import attempts
from shared.usecases.tokens import Caller

JOBS: Final = 20
"""The newest jobs that are looked at: a certificate that lives for years and is bound again and again has many."""


def newest_events(session: Session, caller: Caller, certificate_id: str, *, limit: int) -> list[Event]:
    """Newest first: of its jobs, and those that no job made (an expiry, say); none of another account's certificate."""
    of_jobs = _newest(caller, limit).where(Event.job_id.in_(_newest_jobs(caller, certificate_id)))
    of_none = _newest(caller, limit).where(Event.job_id.is_(None), Event.certificate_id == certificate_id)
    either = union_all(of_jobs.subquery().select(), of_none.subquery().select()).subquery()
    event = aliased(Event, either)
    return list(session.execute(select(event).order_by(event.sequence.desc()).limit(limit)).scalars())


def _newest(caller: Caller, limit: int) -> Select[Any]:
    return select(Event).where(Event.account_id == caller.account_id).order_by(Event.sequence.desc()).limit(limit)


def newest_attempts(session: Session, caller: Caller, certificate_id: str, *, limit: int) -> list[dict[str, Any]]:
    """Newest first, as ``list_attempts`` shows them; none of another account's certificate."""
    statement = (
        select(Attempt)
        .where(Attempt.account_id == caller.account_id, Attempt.job_id.in_(_newest_jobs(caller, certificate_id)))
        .order_by(Attempt.id.desc())
        .limit(limit)
    )
    return [attempts.attempt_document(row) for row in session.execute(statement).scalars()]


def _newest_jobs(caller: Caller, certificate_id: str) -> Select[Any]:
    return (
        select(Job.id)
        .where(Job.account_id == caller.account_id, Job.certificate_id == certificate_id)
        .order_by(Job.id.desc())
        .limit(JOBS)
    )
