"""Webhooks without Celery: a real database, a real receiver, wake-ups that a test runs when it wants."""

from __future__ import annotations

import ipaddress
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

from sqlalchemy import select
from sqlalchemy.orm import Session

from services.worker.webhook_http import HttpWebhookSender
from shared.domain.webhooks import Answer
from shared.events import log
from shared.events.catalogue import EventType
from shared.events.log import Fact
from shared.models import WebhookAttempt, WebhookDelivery, WebhookEndpoint, leases
from shared.usecases import webhook_lanes, webhooks
from shared.usecases.context import Context
from shared.usecases.tokens import Caller
from shared.usecases.webhook_delivery import Courier, Request, WebhookSender, work_in_lane, work_in_lane_of
from shared.usecases.webhook_lanes import Standing
from shared.usecases.webhook_trials import Trials
from shared.usecases.webhooks import NewWebhook
from shared.wakeups import Task
from tests.support.event_samples import sample
from tests.support.fleet import Fleet, build_fleet, new_caller

LOOPBACK: Final = (ipaddress.IPv4Network("127.0.0.0/8"),)
SCHEDULE: Final = (timedelta(seconds=5), timedelta(minutes=5))


@dataclass(slots=True)
class InterruptedSender:
    """A sender that lets something happen while its request is on the way."""

    inner: WebhookSender
    meanwhile: Callable[[], object]

    def send(self, request: Request, *, deadline: timedelta) -> Answer:
        answer = self.inner.send(request, deadline=deadline)
        self.meanwhile()
        return answer


@dataclass(slots=True, kw_only=True)
class World:
    """One account's webhooks. ``now`` begins as the real time: independent verifiers look at their own clock."""

    fleet: Fleet
    sender: WebhookSender

    @property
    def now(self) -> datetime:
        return self.fleet.now

    @now.setter
    def now(self, moment: datetime) -> None:
        self.fleet.now = moment

    @property
    def context(self) -> Context:
        return self.fleet.context

    @property
    def caller(self) -> Caller:
        return self.fleet.caller

    def transaction(self) -> AbstractContextManager[Session]:
        return self.context.transaction()

    def stranger(self) -> Caller:
        """A caller of another account."""
        return new_caller(self.context, "stranger", now=self.now)

    def create(self, url: str, *types: str, **overrides: Any) -> tuple[str, str]:
        """A new endpoint's id, and its secret or public key."""
        request = NewWebhook(url=url, types=types or ("*",), **overrides)
        with self.transaction() as session:
            endpoint, shown = webhooks.create_webhook(self.context, session, self.caller, request, now=self.now)
            return endpoint.id, str(shown.secret or shown.public_key)

    def happen(self, event_type: EventType = EventType.JOB_SUCCEEDED, **data: Any) -> str:
        """Append an event with such data, filled up to what its type promises; its id."""
        with self.transaction() as session:
            fact = Fact(type=event_type, data={**sample(event_type), **data})
            return log.append(session, self.caller.account_id, [fact], now=self.now)[0].id

    def courier(self, *, sender: WebhookSender | None = None) -> Courier:
        """One courier's process; ``sender``: instead of the world's own."""
        return Courier(context=self.context, sender=sender or self.sender, trials=Trials(4), clock=lambda: self.now)

    def waiting(self) -> list[str]:
        """Take the wake-ups; the ids of the deliveries that are due in their lanes, in the order of the events."""
        room: deque[Any] = self.fleet.room.waiting
        lanes = {wake_up.id for wake_up in room if wake_up.task is Task.LANE}
        room.clear()
        due = select(WebhookDelivery.id).where(
            WebhookDelivery.lane.in_(lanes), leases.is_free(WebhookDelivery, self.now)
        )
        with self.transaction() as session:
            return list(session.execute(due.order_by(WebhookDelivery.sequence)).scalars())

    def deliver(self, delivery_id: str, *, sender: WebhookSender | None = None) -> None:
        """Work in the lane of the delivery until nothing is to be done there."""
        courier = self.courier(sender=sender)
        work_in_lane_of(courier, delivery_id)
        while self.standing(delivery_id) in {Standing.OPEN, Standing.TRIAL}:
            work_in_lane_of(courier, delivery_id)

    def standing(self, delivery_id: str) -> Standing:
        """What somebody who comes to the delivery's lane finds there."""
        with self.transaction() as session:
            found = session.get(WebhookDelivery, delivery_id)
            if found is None:
                return Standing.IDLE
            limits = webhook_lanes.limits_of(self.context.settings)
            return webhook_lanes.look(session, found.lane, limits=limits, now=self.now).standing

    def deliver_waiting(self) -> None:
        """Do what was woken, and what that wakes, until nothing is."""
        room: deque[Any] = self.fleet.room.waiting
        others = []
        while room:
            wake_up = room.popleft()
            if wake_up.task is Task.LANE:
                work_in_lane(self.courier(), wake_up.id)
            else:
                others.append(wake_up)
        room.extend(others)

    def delivery(self, delivery_id: str) -> WebhookDelivery:
        with self.transaction() as session:
            return session.get_one(WebhookDelivery, delivery_id)

    def endpoint(self, endpoint_id: str) -> WebhookEndpoint:
        with self.transaction() as session:
            return session.get_one(WebhookEndpoint, endpoint_id)

    def attempts(self, delivery_id: str) -> list[WebhookAttempt]:
        with self.transaction() as session:
            found = session.query(WebhookAttempt).filter(WebhookAttempt.delivery_id == delivery_id)
            return list(found.order_by(WebhookAttempt.number))


@contextmanager
def running_world(database_url: str, place: Path) -> Iterator[World]:
    """A world whose webhooks may reach loopback, with a retry schedule of 5 s and 5 min and a 1-s deadline."""
    fleet = build_fleet(database_url, place)
    settings = replace(
        fleet.context.settings,
        webhook_allowed_networks=LOOPBACK,
        webhook_retry_schedule=SCHEDULE,
        webhook_timeout=timedelta(seconds=1),
    )
    fleet.context = replace(fleet.context, settings=settings)
    fleet.now = datetime.now(UTC)
    try:
        yield World(fleet=fleet, sender=HttpWebhookSender.from_settings(settings))
    finally:
        fleet.context.database.close()
