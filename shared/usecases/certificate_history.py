"""What happened to one certificate: its newest events, and every try at a region, over all of its jobs."""

from __future__ import annotations

from typing import Any, Final

from sqlalchemy import Select, select
from sqlalchemy.orm import Session

from shared.models import Attempt, Event, Job
from shared.usecases import attempts
from shared.usecases.tokens import Caller

JOBS: Final = 20
"""The newest jobs that are looked at: a certificate that lives for years and is bound again and again has many."""


def newest_events(session: Session, caller: Caller, certificate_id: str, *, limit: int) -> list[Event]:
    """Newest first; none of another account's certificate."""
    statement = (
        select(Event)
        .where(Event.account_id == caller.account_id, Event.job_id.in_(_newest_jobs(caller, certificate_id)))
        .order_by(Event.sequence.desc())
        .limit(limit)
    )
    return list(session.execute(statement).scalars())


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
