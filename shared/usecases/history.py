"""Read the events of an account or of one job: in order, from a sequence on, never skipping one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from sqlalchemy.orm import Session

from shared.domain.rollout import FINAL_JOBS
from shared.errors import FieldError, Rejected
from shared.events import log
from shared.events.catalogue import EventType, matches
from shared.models import Event
from shared.usecases.retention import check_kept
from shared.usecases.tokens import Caller

SCANNED: Final = 1_000
"""Events looked at for one answer: a rare type costs several short answers, never a long one."""

LAST_OF_JOB: Final = frozenset(f"job.{state}" for state in FINAL_JOBS)
"""After one of these a job's stream has nothing more to say."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EventFilters:
    """Which events: after a sequence, of types that match any pattern, of one job."""

    after: int
    patterns: tuple[str, ...] = ("*",)
    job_id: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class EventPage:
    """``last`` is the last sequence looked at: go on after it."""

    events: list[Event]
    last: int


def read_events(session: Session, caller: Caller, filters: EventFilters, *, limit: int) -> EventPage:
    """The next events that match, at most ``limit``.

    Raises:
        Expired: some events after ``filters.after`` are no longer kept (``events_expired``).
    """
    found: list[Event] = []
    last = filters.after
    for event in log.page(session, caller.account_id, after=last, limit=SCANNED, job_id=filters.job_id):
        last = event.sequence
        if matches(event.type, list(filters.patterns)):
            found.append(event)
        if len(found) == limit:
            break
    check_kept(session, caller.account_id, after=filters.after)
    return EventPage(events=found, last=last)


def newest_sequence(session: Session, caller: Caller) -> int:
    """Where to begin in order to hear of what happens from now on only."""
    return log.newest(session, caller.account_id)


def event_patterns(text: str) -> tuple[str, ...]:
    """Types or patterns separated by commas; each must match a type that exists.

    Raises:
        Rejected: naming those that match nothing.
    """
    patterns = tuple(part.strip() for part in text.split(","))
    unknown = [part for part in patterns if not any(matches(event_type, [part]) for event_type in EventType)]
    if unknown:
        error = FieldError(
            field="types",
            code="unknown_event_type",
            message=f"No event has the type {', '.join(map(repr, unknown))}.",
            hint=f"Choose from: {', '.join(EventType)}; or a pattern such as deployment.*.",
        )
        raise Rejected("An event type is not known.", code="unknown_event_type", hint=error.hint, errors=(error,))
    return patterns
