"""A delivery's rows: read for sending, and how an attempt went, written down in one statement."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from sqlalchemy import and_, select, text
from sqlalchemy.orm import Session

from shared.domain.identifiers import new_id
from shared.domain.webhooks import Answer, DeliveryState, Verdict
from shared.models import Event, Purpose, Secret, WebhookDelivery, WebhookEndpoint
from shared.usecases.webhook_lanes import Claimed


@dataclass(frozen=True, slots=True, kw_only=True)
class Loaded:
    """A delivery, where it goes, and what it carries.

    ``secret``: what the endpoint has of its own, sealed. For as long as it is held here, a session that is asked for it
    does not ask the database once more.
    """

    delivery: WebhookDelivery
    endpoint: WebhookEndpoint
    event: Event
    secret: Secret | None


def load(session: Session, delivery_id: str) -> Loaded:
    """All that is needed for sending it, by one question."""
    statement = (
        select(WebhookDelivery, WebhookEndpoint, Event, Secret)
        .join(WebhookEndpoint, WebhookEndpoint.id == WebhookDelivery.endpoint_id)
        .join(Event, Event.id == WebhookDelivery.event_id)
        .outerjoin(Secret, and_(Secret.subject_id == WebhookEndpoint.id, Secret.purpose == Purpose.WEBHOOK_SECRET))
        .where(WebhookDelivery.id == delivery_id)
        .execution_options(populate_existing=True)
    )
    delivery, endpoint, event, secret = session.execute(statement).one()
    return Loaded(delivery=delivery, endpoint=endpoint, event=event, secret=secret)


def is_live(endpoint: WebhookEndpoint) -> bool:
    """Whether anything is sent to it."""
    return endpoint.enabled and endpoint.deleted_at is None


def record(
    session: Session, claimed: Claimed, answer: Answer, verdict: Verdict, *, started: datetime
) -> DeliveryState | None:
    """Write the attempt down and settle the delivery; its state, or ``None`` when it is no longer ours.

    What would be tried again, but whose endpoint is disabled or deleted by now, is cancelled. Attempts are numbered on
    over replays, which begin the schedule anew.
    """
    ended = started + answer.duration
    values = {
        "id": claimed.delivery_id,
        "fence": claimed.fence,
        "state": verdict.state,
        "due": None if verdict.pause is None else ended + verdict.pause,
        "ended": ended,
        "attempt_id": new_id("att"),
        "started": started,
        "duration_ms": round(answer.duration / timedelta(milliseconds=1)),
        "status": answer.status,
        "error": answer.error,
        "head": answer.head or None,
    }
    state = session.execute(_RECORD, values).scalar_one_or_none()
    return state and DeliveryState(state)


_LIVE: Final = "endpoint.enabled AND endpoint.deleted_at IS NULL"

_RECORD: Final = text(f"""
    WITH mine AS (
        UPDATE webhook_deliveries AS delivery
        SET attempt = attempt + 1, lease_until = NULL,
            state = CASE WHEN :state = 'pending' AND NOT ({_LIVE}) THEN 'cancelled' ELSE :state END,
            next_attempt_at = CASE WHEN {_LIVE} THEN CAST(:due AS timestamptz) END,
            next_wake_at = CASE WHEN {_LIVE} THEN CAST(:due AS timestamptz) END,
            finished_at = CASE WHEN :state = 'pending' AND {_LIVE} THEN NULL ELSE CAST(:ended AS timestamptz) END
        FROM webhook_endpoints AS endpoint
        WHERE delivery.id = :id AND delivery.fence = :fence AND endpoint.id = delivery.endpoint_id
        RETURNING delivery.id, delivery.account_id, delivery.state
    ), logged AS (
        INSERT INTO webhook_attempts
            (id, account_id, delivery_id, number, started_at, duration_ms, status, error, response_head)
        SELECT :attempt_id, mine.account_id, mine.id,
               (SELECT coalesce(max(number), 0) + 1 FROM webhook_attempts WHERE delivery_id = mine.id),
               :started, :duration_ms, :status, :error, :head
        FROM mine
    )
    SELECT state FROM mine
""")  # noqa: S608 - our own text
