"""Deliveries of a webhook endpoint, as its owner sees them: listed with every attempt, sent again, and a test."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime

from sqlalchemy import select
from sqlalchemy.orm import Session

from shared.domain.webhooks import DeliveryState
from shared.errors import Conflict, NotFound
from shared.events import log
from shared.events.catalogue import EventType, matches
from shared.events.log import FIRST_WAKE, Fact
from shared.models import Event, WebhookAttempt, WebhookDelivery, WebhookEndpoint, leases
from shared.usecases import audit, webhook_lanes
from shared.usecases.paging import Order, Page, PageRequest, read_page
from shared.usecases.tokens import Caller
from shared.usecases.webhooks import get_webhook, require_enabled
from shared.wakeups import Task, WakeUp


@dataclass(frozen=True, slots=True, kw_only=True)
class LoggedDelivery:
    """A delivery with its event and its attempts, oldest first."""

    delivery: WebhookDelivery
    event: Event
    attempts: list[WebhookAttempt] = field(default_factory=list)


@dataclass(frozen=True, slots=True, kw_only=True)
class DeliveryFilters:
    """Which deliveries to list; ``event_type`` may be a pattern."""

    state: DeliveryState | None = None
    event_type: str | None = None


def send_test(session: Session, caller: Caller, endpoint_id: str, *, now: datetime) -> LoggedDelivery:
    """Send a ``webhook.test`` event to this endpoint only, whatever its filter.

    Raises:
        NotFound: none of that id in this account.
        Conflict: the endpoint is disabled.
    """
    endpoint = get_webhook(session, caller.account_id, endpoint_id)
    require_enabled(endpoint)
    webhook_lanes.end_rest(session, endpoint.lane)
    fact = Fact(type=EventType.WEBHOOK_TEST, data={"webhook_id": endpoint.id})
    events = log.append(session, caller.account_id, [fact], now=now)
    (delivery_id,) = log.deliver(session, events, endpoint_id=endpoint.id, lane=endpoint.lane, now=now)
    return _logged(session, [session.get_one(WebhookDelivery, delivery_id)])[0]


def list_deliveries(
    session: Session, account_id: str, endpoint_id: str, *, page: PageRequest, filters: DeliveryFilters | None = None
) -> Page[LoggedDelivery]:
    """An endpoint's deliveries, newest first, each with its attempts.

    Raises:
        NotFound: no endpoint of that id in this account.
        Rejected: the cursor is not one of this list.
    """
    endpoint = get_webhook(session, account_id, endpoint_id)
    chosen = filters or DeliveryFilters()
    statement = select(WebhookDelivery).where(WebhookDelivery.endpoint_id == endpoint.id)
    if chosen.state is not None:
        statement = statement.where(WebhookDelivery.state == chosen.state)
    if chosen.event_type is not None:
        types = [known.value for known in EventType if matches(known, [chosen.event_type])]
        statement = statement.join(Event, Event.id == WebhookDelivery.event_id).where(Event.type.in_(types))
    found = read_page(session, statement, Order(id=WebhookDelivery.id, descending=True), page)
    return Page(items=_logged(session, found.items), next_cursor=found.next_cursor)


def get_delivery(session: Session, account_id: str, endpoint_id: str, *, delivery_id: str) -> LoggedDelivery:
    """One delivery of an endpoint.

    Raises:
        NotFound: no such endpoint in this account, or no such delivery of it.
    """
    endpoint = get_webhook(session, account_id, endpoint_id)
    delivery = _delivery(session, endpoint, delivery_id)
    return _logged(session, [delivery])[0]


def replay_delivery(
    session: Session, caller: Caller, endpoint_id: str, *, delivery_id: str, now: datetime
) -> LoggedDelivery:
    """Send it again now, whatever became of it: same ``webhook-id``, same body, the whole retry schedule anew.

    Raises:
        NotFound: no such endpoint in this account, or no such delivery of it.
        Conflict: the endpoint is disabled, or the delivery is on its way at this moment.
    """
    endpoint = get_webhook(session, caller.account_id, endpoint_id)
    require_enabled(endpoint)
    delivery = _delivery(session, endpoint, delivery_id)
    if delivery.lease_until is not None and delivery.lease_until > now:
        raise Conflict("The delivery is on its way at this moment.", code="delivery_in_flight")
    webhook_lanes.end_rest(session, endpoint.lane)
    delivery.state = DeliveryState.PENDING
    delivery.attempt = 0
    delivery.lane = endpoint.lane
    delivery.is_replay = True
    delivery.finished_at = None
    delivery.fence += 1
    leases.due(delivery, now, wake_at=now + FIRST_WAKE)
    log.wake(session, WakeUp(Task.LANE, endpoint.lane))
    audit.note(session, caller, "webhook.delivery_replayed", delivery.id, now=now)
    session.flush()
    return get_delivery(session, caller.account_id, endpoint_id, delivery_id=delivery_id)


def _delivery(session: Session, endpoint: WebhookEndpoint, delivery_id: str) -> WebhookDelivery:
    statement = (
        select(WebhookDelivery)
        .where(WebhookDelivery.id == delivery_id, WebhookDelivery.endpoint_id == endpoint.id)
        .with_for_update(key_share=True)
        .execution_options(populate_existing=True)
    )
    delivery = session.execute(statement).scalar_one_or_none()
    if delivery is None:
        raise NotFound(f"There is no delivery {delivery_id} of this webhook.")
    return delivery


def _logged(session: Session, deliveries: Sequence[WebhookDelivery]) -> list[LoggedDelivery]:
    events = select(Event).where(Event.id.in_([delivery.event_id for delivery in deliveries]))
    event_by_id = {event.id: event for event in session.execute(events).scalars()}
    tries = select(WebhookAttempt).where(WebhookAttempt.delivery_id.in_([delivery.id for delivery in deliveries]))
    attempts: dict[str, list[WebhookAttempt]] = {delivery.id: [] for delivery in deliveries}
    for attempt in session.execute(tries.order_by(WebhookAttempt.number)).scalars():
        attempts[attempt.delivery_id].append(attempt)
    return [
        LoggedDelivery(delivery=delivery, event=event_by_id[delivery.event_id], attempts=attempts[delivery.id])
        for delivery in deliveries
    ]
