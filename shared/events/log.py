"""The event log: facts are appended in the transaction of the state change, with their webhook deliveries.

Numbers are per account, without gaps, in commit order: the account's counter row stays locked until the commit, so a
reader that has seen sequence n will never later find one below it. Append last in a transaction, to keep that short:
all of an account's transactions queue at that row.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import lru_cache, partial
from typing import Any, Final

from sqlalchemy import Row, TextClause, select, text
from sqlalchemy.orm import Session

from shared.domain.identifiers import new_id
from shared.events.catalogue import EventType
from shared.events.filters import EventFilter, Subject
from shared.events.size import fitting
from shared.models import Base, Certificate, Event, EventCounter, WebhookDelivery, insertion
from shared.wakeups import Task, WakeUp

FIRST_WAKE: Final = timedelta(seconds=10)
"""The wake-up sent after the commit normally starts the delivery; the sweep steps in after this."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Fact:
    """Something that happened, before it has a number."""

    type: EventType
    data: dict[str, Any] = field(default_factory=dict)


def append(
    session: Session, account_id: str, facts: Sequence[Fact], *, now: datetime, beside: Sequence[Base] = ()
) -> list[Event]:
    """Number and store the facts, and one delivery for each endpoint that wants them; wake-ups follow the commit.

    ``beside``: new rows that are stored by the same statement (:mod:`shared.models.insertion`), which makes a
    submission one round trip. Everything that can be done before the counter is locked is done before: what follows is
    one statement (two where an endpoint listens) and the commit.
    """
    if not facts:
        insertion.insert(session, *beside)
        return []
    session.flush()
    events = [_event(account_id, fact, now) for fact in facts]
    listening = _insert(session, account_id, events, beside)
    if not listening:
        return events
    subjects = subjects_of(session, events, is_tagged=any(each.filter.tags for each in listening))
    for each in listening:
        wanted = [event for event, subject in zip(events, subjects, strict=True) if each.filter.wants(subject)]
        deliver(session, wanted, endpoint_id=each.id, lane=each.lane, now=now)
    return events


def append_last(
    session: Session, account_id: str, facts: Sequence[Fact], *, now: datetime, beside: Sequence[Base] = ()
) -> None:
    """As :func:`append`, right before the commit (``shared/usecases/context.py``); nothing is stored until then.

    For whoever goes on to do other things in the transaction, such as writing an answer: others of the account would
    wait for that at the counter.
    """
    act = partial(append, session, account_id, facts, now=now, beside=beside)
    session.info.setdefault("last_acts", []).append(act)


def append_to_each(
    session: Session, told: Mapping[str, Sequence[Fact]], *, now: datetime, beside: Sequence[Base] = ()
) -> None:
    """As :func:`append` for several accounts; their counters are taken in order of the accounts' ids."""
    rows = beside
    for account_id in sorted(account_id for account_id, facts in told.items() if facts):
        append(session, account_id, told[account_id], now=now, beside=rows)
        rows = ()
    insertion.insert(session, *rows)


def deliver(session: Session, events: Sequence[Event], *, endpoint_id: str, lane: str, now: datetime) -> list[str]:
    """Durable deliveries of these events to one endpoint, due at once. Returns their ids."""
    if not events:
        return []
    deliveries = [new_delivery(event, endpoint_id, lane=lane, now=now) for event in events]
    insertion.insert(session, *deliveries)
    wake(session, WakeUp(Task.LANE, lane))
    return [delivery.id for delivery in deliveries]


def new_delivery(event: Event, endpoint_id: str, *, lane: str, now: datetime) -> WebhookDelivery:
    """The event for the endpoint, due at once; not stored yet."""
    return WebhookDelivery(
        id=new_id("dlv"),
        account_id=event.account_id,
        endpoint_id=endpoint_id,
        event_id=event.id,
        state="pending",
        attempt=0,
        lane=lane,
        sequence=event.sequence,
        created_at=now,
        next_attempt_at=now,
        next_wake_at=now + FIRST_WAKE,
        fence=0,
    )


def wake(session: Session, *wake_ups: WakeUp) -> None:
    """Remember wake-ups to publish once the transaction is committed (``shared/usecases/context.py``)."""
    session.info.setdefault("wake_ups", []).extend(wake_ups)


def page(session: Session, account_id: str, *, after: int, limit: int, job_id: str | None = None) -> list[Event]:
    """The account's events with a sequence above ``after``, in order."""
    statement = select(Event).where(Event.account_id == account_id, Event.sequence > after)
    if job_id is not None:
        statement = statement.where(Event.job_id == job_id)
    return list(session.execute(statement.order_by(Event.sequence).limit(limit)).scalars())


def payload(event: Event) -> dict[str, Any]:
    """What webhooks and streams carry; see ``docs/webhooks.md``."""
    return {
        "type": event.type,
        "id": event.id,
        "sequence": event.sequence,
        "timestamp": event.timestamp.isoformat().replace("+00:00", "Z"),
        "account_id": event.account_id,
        "data": event.data,
    }


def body_of(event: Event) -> bytes:
    """The payload as it is signed, sent, streamed and listed: compact JSON in UTF-8, the same bytes for the same event.

    The event as the database gives it back: there ``data`` has an order of keys of its own.
    """
    return json.dumps(payload(event), ensure_ascii=False, separators=(",", ":")).encode()


def newest(session: Session, account_id: str) -> int:
    """The account's last sequence; 0 while nothing has happened."""
    return (
        session.execute(
            select(EventCounter.last_sequence).where(EventCounter.account_id == account_id)
        ).scalar_one_or_none()
        or 0
    )


def subjects_of(session: Session, events: Sequence[Event], *, is_tagged: bool) -> list[Subject]:
    """What filters look at, by the tags of now. Tags cost a question, so only where an endpoint asks for them."""
    ids = {event.certificate_id for event in events if event.certificate_id}
    asked = select(Certificate.id, Certificate.tags).where(Certificate.id.in_(ids))
    tags = {row.id: row.tags for row in session.execute(asked)} if is_tagged else {}
    return [
        Subject(type=event.type, job_id=event.job_id, data=event.data, tags=tags.get(event.certificate_id or "", {}))
        for event in events
    ]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Listening:
    """An enabled endpoint of the account: every event's, or one job's."""

    id: str
    lane: str
    filter: EventFilter


_APPEND: Final = """
    counter AS (
        INSERT INTO event_counters AS known (account_id, last_sequence) VALUES (:account_id, :count)
        ON CONFLICT (account_id) DO UPDATE SET last_sequence = known.last_sequence + excluded.last_sequence
        RETURNING last_sequence
    ), facts AS (
        INSERT INTO events (id, account_id, sequence, type, job_id, certificate_id, data, timestamp)
        SELECT fact.id, :account_id, counter.last_sequence - :count + fact.place, fact.type, fact.job_id,
               fact.certificate_id, fact.data, :now
        FROM counter, jsonb_to_recordset(CAST(:facts AS jsonb)) AS fact (
            id text, place bigint, type text, job_id text, certificate_id text, data jsonb
        )
    )
    SELECT counter.last_sequence, endpoint.id, endpoint.lane, endpoint.job_id, endpoint.types, endpoint.tags,
           endpoint.regions
    FROM counter LEFT JOIN webhook_endpoints AS endpoint
        ON endpoint.account_id = :account_id AND endpoint.enabled AND endpoint.deleted_at IS NULL
        AND (endpoint.job_id IS NULL OR endpoint.job_id = ANY(:job_ids))
"""
"""The counter's row is locked by this and freed by the commit: one round trip, however many facts."""


@lru_cache(maxsize=256)
def _appending(shape: insertion.Shape) -> TextClause:
    return text("WITH " + "".join(f"{clause}, " for clause in insertion.inserts(shape)) + _APPEND)


def _insert(session: Session, account_id: str, events: Sequence[Event], beside: Sequence[Base]) -> list[_Listening]:
    """Store the events and the rows, tell each event its number; who listens to the account."""
    rows = [
        {
            "id": event.id,
            "place": place,
            "type": event.type,
            "job_id": event.job_id,
            "certificate_id": event.certificate_id,
            "data": event.data,
        }
        for place, event in enumerate(events, start=1)
    ]
    shape, documents = insertion.described(beside)
    values = {
        **documents,
        "account_id": account_id,
        "count": len(rows),
        "facts": json.dumps(rows),
        "job_ids": sorted({event.job_id for event in events if event.job_id}),
        "now": events[0].timestamp,
    }
    answers = session.execute(_appending(shape), values).all()
    first = answers[0].last_sequence - len(events) + 1
    for number, event in enumerate(events, start=first):
        event.sequence = number
    return [_listening(row) for row in answers if row.id is not None]


def _listening(row: Row[Any]) -> _Listening:
    chosen = EventFilter(job_id=row.job_id, types=row.types, tags=row.tags, regions=row.regions)
    return _Listening(id=row.id, lane=row.lane or row.id, filter=chosen)


def _event(account_id: str, fact: Fact, now: datetime) -> Event:
    return Event(
        id=new_id("evt"),
        account_id=account_id,
        type=fact.type,
        job_id=fact.data.get("job_id"),
        certificate_id=fact.data.get("certificate_id"),
        data=fitting(fact.data),
        timestamp=now,
    )
