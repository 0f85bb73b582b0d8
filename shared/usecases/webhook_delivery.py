"""Deliver what is due to a receiver: claim, sign, send outside any transaction, record the attempt, take the next.

A wake-up names a lane (``shared/domain/lanes.py``), and whoever is woken delivers what is due there, one after the
other: one transaction a delivery records how it went and claims the next one. The ``webhook-id`` is the event's id. It
is the same over every retry and replay, whatever became of our own rows, and it is the ``id`` that ``GET /v1/events``
shows: a receiver that keeps the ids it has seen handles each event once.
"""

from __future__ import annotations

import random
import time
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Final, Protocol

import structlog
from sqlalchemy import select
from sqlalchemy.orm import Session

from shared.config.settings import Settings
from shared.crypto import webhook_signature
from shared.crypto.vault import CannotOpen
from shared.domain.lanes import Lane
from shared.domain.webhooks import Answer, DeliveryState, Verdict, judge
from shared.errors import NotFound
from shared.events.log import body_of, wake
from shared.models import Event, WebhookDelivery, WebhookEndpoint
from shared.models.leases import finished
from shared.usecases import webhook_health, webhook_lanes, webhook_record, webhook_secrets
from shared.usecases.clock import Clock
from shared.usecases.context import Context
from shared.usecases.stopping import Stopping
from shared.usecases.webhook_lanes import Claimed, Sight, Standing
from shared.usecases.webhook_record import Loaded
from shared.usecases.webhook_trials import Trials
from shared.wakeups import Task, WakeUp

USER_AGENT: Final = "certfleet-webhooks/1"
LEASE_MARGIN: Final = timedelta(seconds=10)
"""A lease outlives the request's own deadline by this, so that a slow receiver is not called twice at once."""

TURN: Final = timedelta(seconds=2)
"""After this a thread leaves a lane in which more is due, and wakes it again, behind what was woken meanwhile."""

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What is sent. ``body`` is exactly what was signed; neither it nor the signature belongs in a log."""

    url: str = field(repr=False)
    headers: dict[str, str] = field(repr=False)
    body: bytes = field(repr=False)


class WebhookSender(Protocol):
    """The one way out to receivers."""

    def send(self, request: Request, *, deadline: timedelta) -> Answer:
        """POST it, once, and return within ``deadline`` of wall-clock time, whatever the receiver does.

        Never raises for what a receiver, its name server or its network does: that is an ``error`` in the answer.
        Follows no redirect, asks no proxy, and dials only what ``shared/domain/network_policy.py`` allows.
        """
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Courier:
    """What delivering uses: built once a process, shared by its threads."""

    context: Context
    sender: WebhookSender
    trials: Trials
    clock: Clock
    stopping: Stopping = field(default_factory=Stopping)


@dataclass(frozen=True, slots=True, kw_only=True)
class Errand:
    """A delivery that is ours for now; without ``request`` its secret could not be read.

    ``attempt``: how many were made. ``is_failing``: nothing was delivered to its endpoint since a failure.
    """

    claimed: Claimed
    endpoint_id: str
    event_id: str
    attempt: int
    started: datetime
    request: Request | None
    is_failing: bool


def work_in_lane(courier: Courier, lane_id: str) -> None:
    """Deliver what is due in the lane; returns at once when nothing is, or when others are at it already.

    Safe to call at any time, by any number at once. A result is written only if the claim is still the newest; a stale
    one is logged and dropped. A delivery whose endpoint is disabled or deleted becomes ``cancelled`` without a try.

    Raises:
        Transient: the database is away; the sweep wakes the lane again when the delivery's lease has ended.
    """
    sight = _look(courier, lane_id)
    if sight.standing is Standing.TRIAL:
        courier.trials.run(
            lane_id,
            sight.lane.pace,
            lambda waiting: _visit(courier, waiting, is_trial=True),
            account_id=sight.account_id or "",
        )
    elif sight.standing is Standing.OPEN:
        _visit(courier, lane_id, is_trial=False)


def work_in_lane_of(courier: Courier, delivery_id: str) -> None:
    """As :func:`work_in_lane`, the lane told by one of its deliveries."""
    with courier.context.transaction() as session:
        asked = select(WebhookDelivery.lane).where(WebhookDelivery.id == delivery_id)
        lane_id = session.execute(asked).scalar_one_or_none()
    if lane_id:
        work_in_lane(courier, lane_id)


def lease_of(settings: Settings) -> timedelta:
    """For how long a delivery is claimed."""
    return settings.webhook_timeout + LEASE_MARGIN


def _look(courier: Courier, lane_id: str) -> Sight:
    limits = webhook_lanes.limits_of(courier.context.settings)
    now = courier.clock()
    with courier.context.transaction() as session:
        sight = webhook_lanes.look(session, lane_id, limits=limits, now=now)
        if sight.standing is Standing.RESTING and sight.lane.rests_until is not None:
            webhook_lanes.wake_after_rest(session, lane_id, rests_until=sight.lane.rests_until)
    return sight


def _visit(courier: Courier, lane_id: str, *, is_trial: bool) -> None:
    """One turn in the lane. Then it is looked at once more: those who found it full meanwhile have left it to us."""
    end = time.monotonic() + TURN.total_seconds()
    errand = _begin(courier, lane_id, is_trial=is_trial)
    while errand is not None:
        is_over = courier.stopping.is_asked or time.monotonic() >= end
        errand = _go_on(courier, lane_id, errand, _send(courier, errand), is_over=is_over)
    if _look(courier, lane_id).standing in {Standing.OPEN, Standing.TRIAL}:
        courier.context.publisher.publish([WakeUp(Task.LANE, lane_id)])


def _begin(courier: Courier, lane_id: str, *, is_trial: bool) -> Errand | None:
    with courier.context.transaction() as session:
        lane = webhook_lanes.value_of(webhook_lanes.hold(session, lane_id))
        if lane.is_tried_out() and not is_trial:
            return None
        return _next(courier, session, lane_id, lane)


def _send(courier: Courier, errand: Errand) -> Answer:
    if errand.request is None:
        return Answer(error="secret_unreadable")
    return courier.sender.send(errand.request, deadline=courier.context.settings.webhook_timeout)


def _go_on(courier: Courier, lane_id: str, errand: Errand, answer: Answer, *, is_over: bool) -> Errand | None:
    """Write down how it went, and claim the lane's next delivery, unless the turn ``is_over``."""
    settings = courier.context.settings
    verdict = _judged(settings, errand, answer)
    with courier.context.transaction() as session:
        ended = errand.started + answer.duration
        state = webhook_record.record(session, errand.claimed, answer, verdict, started=errand.started)
        if state is None:
            log.warning("webhook_result_stale", delivery_id=errand.claimed.delivery_id, fence=errand.claimed.fence)
            return None
        _note_health(session, settings, errand, verdict, now=ended)
        log.info("webhook_attempted", **_log_fields(errand, answer, state))
        lane = _learn(courier, session, lane_id, answer, is_delivered=state == DeliveryState.DELIVERED, ended=ended)
        if is_over or lane.is_tried_out():
            return None
        return _next(courier, session, lane_id, lane)


def _judged(settings: Settings, errand: Errand, answer: Answer) -> Verdict:
    return judge(
        answer,
        attempt=errand.attempt + 1,
        schedule=settings.webhook_retry_schedule,
        chance=random.random(),  # noqa: S311 - jitter, not cryptography
        now=errand.started + answer.duration,
    )


def _note_health(session: Session, settings: Settings, errand: Errand, verdict: Verdict, *, now: datetime) -> None:
    """Before the lane's row is taken: endpoints come first in the lock order."""
    if verdict.disables_endpoint:
        webhook_health.note_gone(session, errand.endpoint_id, now=now)
    elif verdict.state is not DeliveryState.DELIVERED:
        webhook_health.note_failure(session, settings, errand.endpoint_id, now=now)
    elif errand.is_failing:
        webhook_health.note_success(session, errand.endpoint_id)


def _learn(
    courier: Courier, session: Session, lane_id: str, answer: Answer, *, is_delivered: bool, ended: datetime
) -> Lane:
    """What the receiver has shown by this answer; the lane's row is held from here on."""
    row = webhook_lanes.hold(session, lane_id)
    before = webhook_lanes.value_of(row)
    limits = webhook_lanes.limits_of(courier.context.settings)
    lane = before.after(answer, is_delivered=is_delivered, limits=limits, now=ended)
    if lane != before:
        webhook_lanes.keep(row, lane)
    if before.ends_outage(lane):
        webhook_lanes.end_pauses(session, lane_id, now=courier.clock())
    if lane.rests_until is not None:
        session.flush()
        webhook_lanes.wake_after_rest(session, lane_id, rests_until=lane.rests_until)
    return lane


def _next(courier: Courier, session: Session, lane_id: str, lane: Lane) -> Errand | None:
    """Claim what is next, and cancel on the way what is for nobody any more. The lane's row is held."""
    limits = webhook_lanes.limits_of(courier.context.settings)
    lease = lease_of(courier.context.settings)
    now = courier.clock()
    if lane.is_resting(now):
        return None
    while claimed := webhook_lanes.claim_next(session, lane_id, lane, limits=limits, now=now, lease=lease):
        loaded = webhook_record.load(session, claimed.delivery_id)
        if webhook_record.is_live(loaded.endpoint):
            if claimed.has_more:
                wake(session, WakeUp(Task.LANE, lane_id))
            return _errand(courier.context, session, claimed, loaded, now=now)
        loaded.delivery.state, loaded.delivery.finished_at = DeliveryState.CANCELLED, now
        finished(loaded.delivery)
        session.flush()
    return None


def _errand(context: Context, session: Session, claimed: Claimed, loaded: Loaded, *, now: datetime) -> Errand:
    return Errand(
        claimed=claimed,
        endpoint_id=loaded.endpoint.id,
        event_id=loaded.event.id,
        attempt=loaded.delivery.attempt,
        started=now,
        request=_request(context, session, loaded.endpoint, loaded.event, now=now),
        is_failing=loaded.endpoint.failing_since is not None,
    )


def _request(
    context: Context, session: Session, endpoint: WebhookEndpoint, event: Event, *, now: datetime
) -> Request | None:
    try:
        secrets = webhook_secrets.signing_secrets(session, context.vault, endpoint, now=now)
    except (NotFound, CannotOpen) as error:
        log.error("webhook_secret_unreadable", endpoint_id=endpoint.id, code=error.code)  # noqa: TRY400 - the operator needs the fact; a traceback adds nothing
        return None
    body = body_of(event)
    headers = webhook_signature.headers(event.id, now, body=body, secrets=secrets)
    return Request(
        url=endpoint.url,
        headers={"content-type": "application/json", "user-agent": USER_AGENT, **headers},
        body=body,
    )


def _log_fields(errand: Errand, answer: Answer, state: str) -> dict[str, Any]:
    return {
        "delivery_id": errand.claimed.delivery_id,
        "endpoint_id": errand.endpoint_id,
        "event_id": errand.event_id,
        "attempt": errand.attempt + 1,
        "state": state,
        "status": answer.status,
        "error": answer.error,
        "duration_ms": round(answer.duration / timedelta(milliseconds=1)),
    }
