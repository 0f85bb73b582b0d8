"""Webhook endpoints, as their owner manages them; their deliveries are in ``webhook_deliveries.py``."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final

from sqlalchemy import func, select, update
from sqlalchemy.orm import Session

from shared.config.settings import Network
from shared.domain.identifiers import new_id
from shared.domain.network_policy import check_url
from shared.domain.webhooks import ROTATION_OVERLAP, DeliveryState, ReplayState, SignatureScheme
from shared.errors import Conflict, FieldError, NotFound, Rejected
from shared.events.catalogue import EventType, matches
from shared.models import Account, WebhookDelivery, WebhookEndpoint, WebhookReplay
from shared.usecases import audit, webhook_lanes, webhook_secrets
from shared.usecases.context import Context
from shared.usecases.declared import check_regions
from shared.usecases.paging import Order, Page, PageRequest, read_page
from shared.usecases.tokens import Caller
from shared.usecases.webhook_secrets import Shown

MOST: Final = 100
"""Endpoints of an account, callbacks not counted. Each event is written once for each that wants it, in the transaction
of what happened, and workers share such transactions among accounts: this bounds what one account costs the others."""

DISABLED_BY_OWNER: Final = "Disabled by request."

_GLOB: Final = re.compile(r"[a-z_.*]{1,64}")


@dataclass(frozen=True, slots=True, kw_only=True)
class NewWebhook:
    """A well-formed request for an endpoint."""

    url: str
    types: tuple[str, ...] = ("*",)
    tags: Mapping[str, str] = field(default_factory=dict)
    regions: tuple[str, ...] = ()
    description: str = ""
    signature_scheme: SignatureScheme = SignatureScheme.HMAC


@dataclass(frozen=True, slots=True, kw_only=True)
class Changes:
    """What to change of an endpoint; ``None`` leaves it as it is."""

    url: str | None = None
    types: tuple[str, ...] | None = None
    tags: Mapping[str, str] | None = None
    regions: tuple[str, ...] | None = None
    description: str | None = None
    enabled: bool | None = None
    disabled_reason: str | None = None


def add_callback(
    session: Session, *, account_id: str, job_id: str, url: str, now: datetime, allowed_networks: Sequence[Network]
) -> WebhookEndpoint:
    """An endpoint that hears of one job only: its ``callback_url``. Signed with the account's callback secret.

    Raises:
        Rejected: the URL may never be called; the field is ``callback_url``.
    """
    check_url(url, allowed_networks, field="callback_url")
    endpoint = WebhookEndpoint(
        id=new_id("whk"),
        account_id=account_id,
        job_id=job_id,
        url=url,
        lane=webhook_lanes.lane_of_callback(account_id, url),
        types=["*"],
        description="callback_url",
        enabled=True,
        created_at=now,
    )
    session.add(endpoint)
    session.flush()
    return endpoint


def create_webhook(
    context: Context, session: Session, caller: Caller, request: NewWebhook, *, now: datetime
) -> tuple[WebhookEndpoint, Shown]:
    """A new endpoint, and its secret, which is shown once and never again, or its public key.

    Raises:
        Rejected: the URL may never be called, a filter matches no type of event, or a region is not known.
        Conflict: the account has as many as it may have (``too_many_webhooks``).
    """
    check_url(request.url, context.settings.webhook_allowed_networks)
    check_types(request.types)
    check_regions(context, request.regions)
    _check_room(session, caller.account_id)
    endpoint_id = new_id("whk")
    endpoint = WebhookEndpoint(
        id=endpoint_id,
        lane=endpoint_id,
        account_id=caller.account_id,
        url=request.url,
        types=list(request.types),
        tags=dict(request.tags),
        regions=list(request.regions),
        description=request.description,
        signature_scheme=request.signature_scheme,
        enabled=True,
        created_at=now,
    )
    session.add(endpoint)
    session.flush()
    shown = webhook_secrets.create(session, context.vault, endpoint)
    audit.note(session, caller, "webhook.created", endpoint.id, now=now)
    session.flush()
    return endpoint, shown


def list_webhooks(
    session: Session, account_id: str, page: PageRequest, *, job_id: str | None = None
) -> Page[WebhookEndpoint]:
    """The account's endpoints, newest first; with ``job_id`` that job's callback instead.

    Raises:
        Rejected: the cursor is not one of this list.
    """
    statement = select(WebhookEndpoint).where(
        WebhookEndpoint.account_id == account_id,
        WebhookEndpoint.deleted_at.is_(None),
        WebhookEndpoint.job_id.is_(None) if job_id is None else WebhookEndpoint.job_id == job_id,
    )
    return read_page(session, statement, Order(id=WebhookEndpoint.id, descending=True), page)


def get_webhook(session: Session, account_id: str, endpoint_id: str, *, lock: bool = False) -> WebhookEndpoint:
    """One endpoint, callbacks included.

    Raises:
        NotFound: none of that id in this account, or deleted.
    """
    statement = select(WebhookEndpoint).where(
        WebhookEndpoint.id == endpoint_id,
        WebhookEndpoint.account_id == account_id,
        WebhookEndpoint.deleted_at.is_(None),
    )
    if lock:
        statement = statement.with_for_update(key_share=True).execution_options(populate_existing=True)
    endpoint = session.execute(statement).scalar_one_or_none()
    if endpoint is None:
        raise NotFound(f"There is no webhook {endpoint_id}.", hint="GET /v1/webhooks lists them.")
    return endpoint


def update_webhook(
    context: Context, session: Session, caller: Caller, endpoint_id: str, *, changes: Changes, now: datetime
) -> WebhookEndpoint:
    """Change an endpoint. Disabling cancels what waits for it; enabling clears the reason.

    Raises:
        NotFound: none of that id in this account.
        Rejected: as for a new endpoint.
    """
    endpoint = get_webhook(session, caller.account_id, endpoint_id, lock=True)
    if changes.url is not None:
        check_url(changes.url, context.settings.webhook_allowed_networks)
        endpoint.url = changes.url
        webhook_lanes.forget(session, endpoint.lane)
    _change_filter(context, endpoint, changes)
    if changes.description is not None:
        endpoint.description = changes.description
    if changes.enabled is not None:
        _switch(session, endpoint, changes, now=now)
    audit.note(session, caller, "webhook.changed", endpoint.id, now=now)
    session.flush()
    return endpoint


def delete_webhook(session: Session, caller: Caller, endpoint_id: str, *, now: datetime) -> None:
    """Never call it again: its secrets are destroyed, what waits for it is cancelled.

    Raises:
        NotFound: none of that id in this account.
    """
    endpoint = get_webhook(session, caller.account_id, endpoint_id, lock=True)
    endpoint.deleted_at = now
    endpoint.enabled = False
    session.flush()
    cancel_waiting(session, endpoint, now=now)
    webhook_secrets.drop(session, endpoint)
    audit.note(session, caller, "webhook.deleted", endpoint.id, now=now)


def rotate_secret(
    context: Context,
    session: Session,
    caller: Caller,
    endpoint_id: str,
    *,
    now: datetime,
    overlap: timedelta = ROTATION_OVERLAP,
    scheme: SignatureScheme | None = None,
) -> Shown:
    """A new secret, shown once, or key pair; the old one signs too until the overlap ends.

    ``scheme``: sign in another way from now on; while the overlap lasts, in both.

    Raises:
        NotFound: none of that id in this account.
        Conflict: a job's callback is signed with the account's callback secret.
    """
    endpoint = get_webhook(session, caller.account_id, endpoint_id, lock=True)
    if endpoint.job_id is not None:
        raise Conflict(
            "A job's callback has no secret of its own.",
            code="callback_has_no_secret",
            hint="POST /v1/webhooks/callback-secret/rotate",
        )
    endpoint.signature_scheme = scheme or endpoint.signature_scheme
    shown = webhook_secrets.rotate(session, context.vault, endpoint, overlap=overlap, now=now)
    audit.note(session, caller, "webhook.secret_rotated", endpoint.id, now=now)
    session.flush()
    return shown


def rotate_callback_secret(
    context: Context, session: Session, caller: Caller, *, now: datetime, overlap: timedelta = ROTATION_OVERLAP
) -> str:
    """A new secret for the account's callbacks; the old one signs too until the overlap ends."""
    secret = webhook_secrets.rotate_callback_secret(session, context.vault, caller.account_id, overlap=overlap, now=now)
    audit.note(session, caller, "webhook.callback_secret_rotated", caller.account_id, now=now)
    return secret


def check_types(types: Iterable[str]) -> None:
    """Every filter is made of small letters, ``_``, ``.`` and ``*``, and lets at least one type of event through.

    Raises:
        Rejected: naming each filter that does not.
    """
    errors = tuple(
        FieldError(
            field=f"types.{position}",
            code="unknown_event_type",
            message=f"No type of event matches {glob!r}.",
            hint="Use a type such as deployment.failed, or a pattern such as deployment.* or *.",
        )
        for position, glob in enumerate(types)
        if not _GLOB.fullmatch(glob) or not any(matches(known, [glob]) for known in EventType)
    )
    if errors:
        raise Rejected("A filter matches no type of event.", code="unknown_event_type", errors=errors)


def require_enabled(endpoint: WebhookEndpoint) -> None:
    """Nothing is sent to a disabled endpoint.

    Raises:
        Conflict: it is disabled (``webhook_disabled``).
    """
    if not endpoint.enabled:
        raise Conflict(
            f"The webhook is disabled: {endpoint.disabled_reason or DISABLED_BY_OWNER}",
            code="webhook_disabled",
            hint='Enable it first: PATCH /v1/webhooks/{id} with {"enabled": true}.',
        )


def disable(session: Session, endpoint: WebhookEndpoint, *, reason: str, now: datetime) -> None:
    """Stop calling the endpoint and cancel what waits for it. The caller holds the endpoint's row."""
    endpoint.enabled = False
    endpoint.disabled_reason = reason
    endpoint.disabled_at = now
    endpoint.missed_since = endpoint.missed_since or endpoint.failing_since or now
    session.flush()
    cancel_waiting(session, endpoint, now=now)


def cancel_waiting(session: Session, endpoint: WebhookEndpoint, *, now: datetime) -> None:
    """Cancel what waits for the endpoint: its replay, and the deliveries that nobody owns.

    A delivery on its way settles itself when it comes back. Replays first: they lock their own row before deliveries.
    """
    ended = {"finished_at": now, "next_attempt_at": None, "next_wake_at": None}
    replays = update(WebhookReplay).where(
        WebhookReplay.endpoint_id == endpoint.id, WebhookReplay.state == ReplayState.RUNNING
    )
    deliveries = update(WebhookDelivery).where(
        WebhookDelivery.endpoint_id == endpoint.id,
        WebhookDelivery.state == DeliveryState.PENDING,
        WebhookDelivery.lease_until.is_(None),
    )
    for statement in (
        replays.values(state=ReplayState.CANCELLED, lease_until=None, **ended),
        deliveries.values(state=DeliveryState.CANCELLED, **ended),
    ):
        session.execute(statement.execution_options(synchronize_session=False))


def _check_room(session: Session, account_id: str) -> None:
    """Whoever makes an endpoint holds the account's row: of two at once, the second counts the first one's."""
    session.execute(select(Account.id).where(Account.id == account_id).with_for_update(key_share=True))
    count = select(func.count()).where(
        WebhookEndpoint.account_id == account_id,
        WebhookEndpoint.job_id.is_(None),
        WebhookEndpoint.deleted_at.is_(None),
    )
    if session.execute(count).scalar_one() >= MOST:
        raise Conflict(
            f"The account has {MOST} webhooks, and may have no more.",
            code="too_many_webhooks",
            hint="Delete one that nobody needs: DELETE /v1/webhooks/{id}.",
        )


def _change_filter(context: Context, endpoint: WebhookEndpoint, changes: Changes) -> None:
    if changes.types is not None:
        check_types(changes.types)
        endpoint.types = list(changes.types)
    if changes.regions is not None:
        check_regions(context, changes.regions)
        endpoint.regions = list(changes.regions)
    if changes.tags is not None:
        endpoint.tags = dict(changes.tags)


def _switch(session: Session, endpoint: WebhookEndpoint, changes: Changes, *, now: datetime) -> None:
    if changes.enabled == endpoint.enabled:
        return
    if not changes.enabled:
        disable(session, endpoint, reason=changes.disabled_reason or DISABLED_BY_OWNER, now=now)
        return
    endpoint.enabled = True
    endpoint.disabled_reason = endpoint.disabled_at = None
    endpoint.failing_since = endpoint.warned_at = None
    webhook_lanes.forget(session, endpoint.lane)
