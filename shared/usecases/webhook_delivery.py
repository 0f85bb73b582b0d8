"""Deliver one event to one endpoint: claim, sign, send outside any transaction, record the attempt, settle or retry.

The ``webhook-id`` is the event's id. It is the same over every retry and replay, whatever became of our own rows, and
it is the ``id`` that ``GET /v1/events`` shows: a receiver that keeps the ids it has seen handles each event once.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Final, Protocol

import structlog
from sqlalchemy import func, select
from sqlalchemy.orm import Session

from shared.config.settings import Settings
from shared.crypto import webhook_signature
from shared.crypto.vault import CannotOpen
from shared.domain.identifiers import new_id
from shared.domain.webhooks import Answer, DeliveryState, Verdict, judge
from shared.errors import NotFound
from shared.events.log import body_of
from shared.models import Event, WebhookAttempt, WebhookDelivery, WebhookEndpoint, leases
from shared.usecases import webhook_health, webhook_secrets, webhooks
from shared.usecases.context import Context

USER_AGENT: Final = "certfleet-webhooks/1"
LEASE_MARGIN: Final = timedelta(seconds=10)
"""A lease outlives the request's own deadline by this, so that a slow receiver is not called twice at once."""

GONE_REASON: Final = "The receiver answered 410 Gone."

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
class _Claim:
    """A delivery that is ours for now; without ``request`` its secret could not be read.

    ``is_failing``: nothing was delivered to its endpoint since a failure.
    """

    delivery_id: str
    fence: int
    request: Request | None
    is_failing: bool = False


def deliver(context: Context, sender: WebhookSender, delivery_id: str, *, now: datetime) -> None:
    """Try a delivery once, if it is due and nobody else is at it.

    The result is written only if the claim is still the newest; a stale one is logged and dropped.
    A delivery whose endpoint is disabled or deleted becomes ``cancelled`` without a try.

    Raises:
        Transient: the database is away; the sweep wakes the delivery again when its lease has ended.
    """
    timeout = context.settings.webhook_timeout
    with context.transaction() as session:
        claim = _claim(context, session, delivery_id, now=now, lease=lease_of(context.settings))
    if claim is None:
        return
    answer = Answer(error="secret_unreadable")
    if claim.request is not None:
        answer = sender.send(claim.request, deadline=timeout)
    with context.transaction() as session:
        _record(context, session, claim, answer=answer, started=now)


def lease_of(settings: Settings) -> timedelta:
    """For how long a delivery is claimed."""
    return max(settings.lease, settings.webhook_timeout + LEASE_MARGIN)


def _claim(context: Context, session: Session, delivery_id: str, *, now: datetime, lease: timedelta) -> _Claim | None:
    fence = leases.claim(session, WebhookDelivery, delivery_id, now=now, lease=lease)
    if fence is None:
        return None
    delivery = session.get_one(WebhookDelivery, delivery_id)
    endpoint = session.get_one(WebhookEndpoint, delivery.endpoint_id)
    if not _is_live(endpoint):
        _finish(delivery, DeliveryState.CANCELLED, now=now)
        return None
    event = session.get_one(Event, delivery.event_id)
    return _Claim(
        delivery_id=delivery_id,
        fence=fence,
        request=_request(context, session, endpoint, event, now=now),
        is_failing=endpoint.failing_since is not None,
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


def _record(context: Context, session: Session, claim: _Claim, *, answer: Answer, started: datetime) -> None:
    delivery = leases.owned(session, WebhookDelivery, claim.delivery_id, fence=claim.fence)
    if delivery is None:
        log.warning("webhook_result_stale", delivery_id=claim.delivery_id, fence=claim.fence)
        return
    ended = started + answer.duration
    delivery.attempt += 1
    verdict = judge(
        answer,
        attempt=delivery.attempt,
        schedule=context.settings.webhook_retry_schedule,
        chance=random.random(),  # noqa: S311 - jitter, not cryptography
        now=ended,
    )
    _log_attempt(session, delivery, answer, started=started)
    _settle(session, delivery, verdict, now=ended)
    if verdict.state is not DeliveryState.DELIVERED:
        webhook_health.note_failure(session, context.settings, delivery.endpoint_id, now=ended)
    elif claim.is_failing:
        webhook_health.note_success(session, delivery.endpoint_id)
    log.info("webhook_attempted", **_log_fields(delivery, answer))


def _log_attempt(session: Session, delivery: WebhookDelivery, answer: Answer, *, started: datetime) -> None:
    """Numbers go on over replays, which begin the schedule anew."""
    newest = select(func.max(WebhookAttempt.number)).where(WebhookAttempt.delivery_id == delivery.id)
    number = (session.execute(newest).scalar_one() or 0) + 1
    session.add(
        WebhookAttempt(
            id=new_id("att"),
            account_id=delivery.account_id,
            delivery_id=delivery.id,
            number=number,
            started_at=started,
            duration_ms=round(answer.duration / timedelta(milliseconds=1)),
            status=answer.status,
            error=answer.error,
            response_head=answer.head or None,
        )
    )


def _settle(session: Session, delivery: WebhookDelivery, verdict: Verdict, *, now: datetime) -> None:
    if verdict.disables_endpoint:
        _finish(delivery, verdict.state, now=now)
        _disable(session, delivery.endpoint_id, now=now)
    elif verdict.pause is None:
        _finish(delivery, verdict.state, now=now)
    elif _is_live(session.get_one(WebhookEndpoint, delivery.endpoint_id)):
        leases.due(delivery, now + verdict.pause)
    else:
        _finish(delivery, DeliveryState.CANCELLED, now=now)


def _disable(session: Session, endpoint_id: str, *, now: datetime) -> None:
    endpoint = session.get_one(WebhookEndpoint, endpoint_id, with_for_update={"key_share": True})
    if _is_live(endpoint):
        webhooks.disable(session, endpoint, reason=GONE_REASON, now=now)
        webhook_health.tell_disabled(session, endpoint, now=now)


def _finish(delivery: WebhookDelivery, state: DeliveryState, *, now: datetime) -> None:
    delivery.state = state
    delivery.finished_at = now
    leases.finished(delivery)


def _is_live(endpoint: WebhookEndpoint) -> bool:
    return endpoint.enabled and endpoint.deleted_at is None


def _log_fields(delivery: WebhookDelivery, answer: Answer) -> dict[str, Any]:
    return {
        "delivery_id": delivery.id,
        "endpoint_id": delivery.endpoint_id,
        "event_id": delivery.event_id,
        "attempt": delivery.attempt,
        "state": delivery.state,
        "status": answer.status,
        "error": answer.error,
        "duration_ms": round(answer.duration / timedelta(milliseconds=1)),
    }
