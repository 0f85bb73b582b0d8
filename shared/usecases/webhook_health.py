"""A receiver that fails for days: its account is warned, then its endpoint disabled, and its contacts are told."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Final
from urllib.parse import urlsplit

import structlog
from sqlalchemy import update
from sqlalchemy.orm import Session

from shared.config.settings import Settings
from shared.domain.notices import NoticeKind
from shared.domain.webhooks import Failing, after_failure, disabled_at
from shared.models import WebhookEndpoint
from shared.usecases import audit, notices, webhooks
from shared.usecases.mail import plain
from shared.usecases.notices import News
from shared.usecases.tokens import Caller

ACTOR: Final = "webhook-health"
"""Who disabled it, in the audit."""

FAILING_REASON: Final = "Its receiver failed every delivery for {span}, since {since}."

GONE_REASON: Final = "The receiver answered 410 Gone."

log = structlog.get_logger(__name__)


def note_success(session: Session, endpoint_id: str) -> None:
    """The receiver works: what failed before no longer counts."""
    statement = (
        update(WebhookEndpoint)
        .where(WebhookEndpoint.id == endpoint_id, WebhookEndpoint.failing_since.is_not(None))
        .values(failing_since=None, warned_at=None)
    )
    session.execute(statement.execution_options(synchronize_session=False))


def note_gone(session: Session, endpoint_id: str, *, now: datetime) -> None:
    """The receiver asked not to be called again: its endpoint is disabled, and its account told."""
    endpoint = session.get_one(
        WebhookEndpoint, endpoint_id, with_for_update={"key_share": True}, populate_existing=True
    )
    if endpoint.enabled and endpoint.deleted_at is None:
        webhooks.disable(session, endpoint, reason=GONE_REASON, now=now)
        tell_disabled(session, endpoint, now=now)


def note_failure(session: Session, settings: Settings, endpoint_id: str, *, now: datetime) -> None:
    """The receiver failed once more: remember since when, warn, or disable. The caller holds no other endpoint's row.

    Callbacks are left alone: they end with their jobs, and a mail for each would tell the same story many times.
    """
    seen = session.get_one(WebhookEndpoint, endpoint_id)
    if seen.job_id is not None or _step(seen, settings, now=now) is Failing.KNOWN:
        return
    endpoint = session.get_one(
        WebhookEndpoint, endpoint_id, with_for_update={"key_share": True}, populate_existing=True
    )
    if not endpoint.enabled or endpoint.deleted_at is not None:
        return
    match _step(endpoint, settings, now=now):
        case Failing.BEGUN:
            endpoint.failing_since = now
        case Failing.WARN:
            _warn(session, endpoint, settings, now=now)
        case Failing.DISABLE:
            _disable(session, endpoint, settings, now=now)
        case Failing.KNOWN:
            pass


def tell_disabled(session: Session, endpoint: WebhookEndpoint, *, now: datetime) -> None:
    """The account's contacts hear that we disabled it, and its audit says so. Not for callbacks."""
    caller = Caller(account_id=endpoint.account_id, token_id=ACTOR, scopes=frozenset())
    reason = endpoint.disabled_reason or ""
    audit.note(session, caller, "webhook.disabled", endpoint.id, now=now, details={"reason": reason})
    log.warning("webhook_disabled", endpoint_id=endpoint.id)
    if endpoint.job_id is None:
        _tell(session, endpoint, NoticeKind.WEBHOOK_DISABLED, occasion=now, now=now)


def _step(endpoint: WebhookEndpoint, settings: Settings, *, now: datetime) -> Failing:
    return after_failure(
        failing_since=endpoint.failing_since,
        warned_at=endpoint.warned_at,
        disable_after=settings.webhook_disable_after,
        now=now,
    )


def _warn(session: Session, endpoint: WebhookEndpoint, settings: Settings, *, now: datetime) -> None:
    endpoint.warned_at = now
    since = endpoint.failing_since or now
    end = disabled_at(failing_since=since, warned_at=now, disable_after=settings.webhook_disable_after)
    session.flush()
    _tell(session, endpoint, NoticeKind.WEBHOOK_FAILING, occasion=since, now=now, disabled_at=_written(end))


def _disable(session: Session, endpoint: WebhookEndpoint, settings: Settings, *, now: datetime) -> None:
    since = endpoint.failing_since or now
    reason = FAILING_REASON.format(span=_span(settings.webhook_disable_after), since=_written(since))
    webhooks.disable(session, endpoint, reason=reason, now=now)
    tell_disabled(session, endpoint, now=now)


def _tell(
    session: Session, endpoint: WebhookEndpoint, kind: NoticeKind, *, occasion: datetime, now: datetime, **more: str
) -> None:
    place = _place(endpoint.url)
    is_end = kind is NoticeKind.WEBHOOK_DISABLED
    content = {
        "title": f"Webhook to {place} {'is disabled' if is_end else 'fails'}",
        "webhook_id": endpoint.id,
        "place": place,
        "description": plain(endpoint.description),
        "reason": plain(endpoint.disabled_reason or "", limit=300),
        "failing_since": _written(endpoint.failing_since or now),
        "missed_since": _written(endpoint.missed_since or endpoint.failing_since or now),
        **more,
    }
    news = News(kind=kind, subject=endpoint.id, occasion=occasion, content=content)
    notices.tell(session, endpoint.account_id, news, now=now)


def _place(url: str) -> str:
    """Scheme and host only: paths and queries of webhooks often are secrets."""
    parts = urlsplit(url)
    return plain(f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}")


def _written(moment: datetime) -> str:
    return moment.isoformat(timespec="seconds").replace("+00:00", "Z")


def _span(length: timedelta) -> str:
    days = length / timedelta(days=1)
    return f"{days:g} days" if days >= 1 else f"{length.total_seconds():g} seconds"
