"""The event log: facts are appended in the transaction of the state change, with their webhook deliveries.

Numbers are per account, without gaps, in commit order: the account's counter row stays locked until the commit, so a
reader that has seen sequence n will never later find one below it. Append last in a transaction, to keep that short:
all of an account's transactions queue at that row.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Final

from sqlalchemy import bindparam, or_, select, text
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Session

from shared.domain.identifiers import new_id
from shared.events.catalogue import EventType, matches
from shared.models import Event, WebhookDelivery, WebhookEndpoint
from shared.wakeups import Task, WakeUp

FIRST_WAKE: Final = timedelta(seconds=10)
"""The wake-up sent after the commit normally starts the delivery; the sweep steps in after this."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Fact:
    """Something that happened, before it has a number."""

    type: EventType
    data: dict[str, Any] = field(default_factory=dict)


def append(session: Session, account_id: str, facts: Sequence[Fact], *, now: datetime) -> list[Event]:
    """Number and store the facts, and one delivery for each endpoint that wants them; wake-ups follow the commit.

    Everything that can be done before the counter is locked is done before: what follows is one statement (two where
    an endpoint listens) and the commit.
    """
    if not facts:
        return []
    session.flush()
    events = [_event(account_id, fact, now) for fact in facts]
    endpoints = _endpoints(session, account_id, {event.job_id for event in events if event.job_id})
    _insert(session, account_id, events)
    for endpoint in endpoints:
        deliver(session, endpoint, [event for event in events if _wants(endpoint, event)], now=now)
    return events


def deliver(session: Session, endpoint: WebhookEndpoint, events: Sequence[Event], *, now: datetime) -> list[str]:
    """Durable deliveries of these events to one endpoint, due at once. Returns their ids."""
    deliveries = [
        WebhookDelivery(
            id=new_id("dlv"),
            account_id=endpoint.account_id,
            endpoint_id=endpoint.id,
            event_id=event.id,
            state="pending",
            attempt=0,
            created_at=now,
            next_attempt_at=now,
            next_wake_at=now + FIRST_WAKE,
            fence=0,
        )
        for event in events
    ]
    session.add_all(deliveries)
    wake(session, *(WakeUp(Task.DELIVER, delivery.id) for delivery in deliveries))
    return [delivery.id for delivery in deliveries]


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


_INSERT: Final = text("""
    WITH counter AS (
        INSERT INTO event_counters AS known (account_id, last_sequence) VALUES (:account_id, :count)
        ON CONFLICT (account_id) DO UPDATE SET last_sequence = known.last_sequence + excluded.last_sequence
        RETURNING last_sequence
    )
    INSERT INTO events (id, account_id, sequence, type, job_id, certificate_id, data, timestamp)
    SELECT fact.id, :account_id, counter.last_sequence - :count + fact.place, fact.type, fact.job_id,
           fact.certificate_id, fact.data, :now
    FROM counter, jsonb_to_recordset(:facts) AS fact (
        id text, place bigint, type text, job_id text, certificate_id text, data jsonb
    )
    RETURNING id, sequence
""").bindparams(bindparam("facts", type_=JSONB))
"""The counter's row is locked by this and freed by the commit: one round trip, however many facts."""


def _insert(session: Session, account_id: str, events: Sequence[Event]) -> None:
    """Store the events and tell each its number."""
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
    values = {"account_id": account_id, "count": len(rows), "facts": rows, "now": events[0].timestamp}
    numbers: dict[str, int] = dict(session.execute(_INSERT, values).all())
    for event in events:
        event.sequence = numbers[event.id]


def _event(account_id: str, fact: Fact, now: datetime) -> Event:
    return Event(
        id=new_id("evt"),
        account_id=account_id,
        type=fact.type,
        job_id=fact.data.get("job_id"),
        certificate_id=fact.data.get("certificate_id"),
        data=fact.data,
        timestamp=now,
    )


def _endpoints(session: Session, account_id: str, job_ids: set[str]) -> Sequence[WebhookEndpoint]:
    statement = select(WebhookEndpoint).where(
        WebhookEndpoint.account_id == account_id,
        WebhookEndpoint.enabled,
        WebhookEndpoint.deleted_at.is_(None),
        or_(WebhookEndpoint.job_id.is_(None), WebhookEndpoint.job_id.in_(job_ids)),
    )
    return session.execute(statement).scalars().all()


def _wants(endpoint: WebhookEndpoint, event: Event) -> bool:
    """A test event goes to one endpoint by its own delivery, never to those that merely listen."""
    if event.type == EventType.WEBHOOK_TEST:
        return False
    return endpoint.job_id in (None, event.job_id) and matches(event.type, endpoint.types)
