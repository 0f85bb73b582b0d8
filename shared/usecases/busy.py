"""Busy: a request that another job stands in the way of is told which field, which job, and when to ask again."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import timedelta
from typing import Any, Final

from sqlalchemy import select
from sqlalchemy.orm import Session

from shared.domain.rollout import FINAL_JOBS
from shared.errors import Conflict
from shared.models import Job

ASK_AGAIN: Final = timedelta(seconds=2)
"""What a region that is well takes for a job, amply; one that is sick takes as long as its attempts do."""


def busy(message: str, field: str, *, jobs: Iterable[str], **more: Any) -> Conflict:
    """The refusal. ``context`` names the ``field`` of the request (of its body or address) and the ``job_id``."""
    in_the_way = sorted(set(jobs))
    context = {"field": field, "job_id": next(iter(in_the_way), None), "jobs": in_the_way, **more}
    hint = "Wait for that job to end (GET /v1/jobs/{id}, or cancel it), then try again."
    if not in_the_way:
        hint = "Try again in a moment."
    return Conflict(message, code="busy", hint=hint, context=context, retry_after=ASK_AGAIN)


def unfinished(session: Session, certificate_id: str) -> list[str]:
    """The jobs about the certificate that are not over, oldest first."""
    statement = select(Job.id).where(Job.certificate_id == certificate_id, Job.state.not_in(FINAL_JOBS))
    return list(session.execute(statement.order_by(Job.id)).scalars())
