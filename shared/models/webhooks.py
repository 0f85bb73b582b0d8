"""Webhook endpoints, deliveries (one event for one endpoint) and attempts (one try)."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import BigInteger, CheckConstraint, ForeignKey, Index, UniqueConstraint, text
from sqlalchemy.orm import Mapped, mapped_column

from shared.models.base import ALWAYS_WOKEN, Base, Leased


class WebhookEndpoint(Base):
    """Where events go. With a ``job_id`` it is that job's ``callback_url`` and hears of the job until its end.

    ``types``, ``tags`` and ``regions`` are its filter (``shared/events/filters.py``). ``public_key`` belongs to the
    newest signing key of scheme ``ed25519``; the keys themselves are sealed (``shared/usecases/webhook_secrets.py``).
    ``failing_since``: the first of the failures since anything was delivered, of which the account was ``warned_at``.
    ``missed_since``: from then on events may not have arrived, because it was disabled; until they are replayed.
    ``lane``: what its deliveries queue in; a job's callback shares one with others, any other endpoint has its own.
    """

    __tablename__ = "webhook_endpoints"

    id: Mapped[str] = mapped_column(primary_key=True)
    account_id: Mapped[str] = mapped_column(ForeignKey("accounts.id"), index=True)
    job_id: Mapped[str | None] = mapped_column(ForeignKey("jobs.id"), index=True)
    url: Mapped[str]
    types: Mapped[list[str]]
    tags: Mapped[dict[str, str]] = mapped_column(default=dict, server_default=text("'{}'"))
    regions: Mapped[list[str]] = mapped_column(default=list, server_default=text("'{}'"))
    signature_scheme: Mapped[str] = mapped_column(default="hmac-sha256", server_default="hmac-sha256")
    public_key: Mapped[str | None]
    description: Mapped[str] = mapped_column(default="")
    enabled: Mapped[bool] = mapped_column(default=True)
    disabled_reason: Mapped[str | None]
    disabled_at: Mapped[datetime | None]
    failing_since: Mapped[datetime | None]
    warned_at: Mapped[datetime | None]
    missed_since: Mapped[datetime | None]
    created_at: Mapped[datetime]
    deleted_at: Mapped[datetime | None]
    lane: Mapped[str] = mapped_column(default="", server_default="")


class WebhookLane(Base):
    """What the receiver behind a lane has shown (``shared/domain/lanes.py``), once it was tried.

    Its row is locked by whoever claims a delivery of the lane: they count what is on its way.
    """

    __tablename__ = "webhook_lanes"

    id: Mapped[str] = mapped_column(primary_key=True)
    pace: Mapped[str]
    failures: Mapped[int] = mapped_column(default=0)
    rests_until: Mapped[datetime | None]


class WebhookDelivery(Leased, Base):
    """One event for one endpoint: ``pending → delivered | exhausted | cancelled``.

    ``sequence`` is the event's, ``lane`` the endpoint's; ``""`` where a release wrote it that knew of none, until the
    sweep finds it. ``is_replay``: it was asked for again, and waits behind what is new.
    """

    __tablename__ = "webhook_deliveries"

    id: Mapped[str] = mapped_column(primary_key=True)
    account_id: Mapped[str] = mapped_column(ForeignKey("accounts.id"))
    endpoint_id: Mapped[str] = mapped_column(ForeignKey("webhook_endpoints.id"))
    event_id: Mapped[str] = mapped_column(ForeignKey("events.id"))
    state: Mapped[str]
    attempt: Mapped[int] = mapped_column(default=0)
    lane: Mapped[str] = mapped_column(default="", server_default="")
    sequence: Mapped[int] = mapped_column(BigInteger, default=0, server_default="0")
    is_replay: Mapped[bool] = mapped_column(default=False, server_default=text("false"))
    created_at: Mapped[datetime]
    finished_at: Mapped[datetime | None]

    __table_args__ = (
        CheckConstraint("(state <> 'pending') = (next_attempt_at IS NULL)", name="always_due"),
        CheckConstraint(ALWAYS_WOKEN, name="always_woken"),
        UniqueConstraint("endpoint_id", "event_id"),
        Index("ix_webhook_deliveries_endpoint_id_id", "endpoint_id", "id"),
        Index("ix_webhook_deliveries_event_id", "event_id"),
        Index(
            "ix_webhook_deliveries_waiting",
            "endpoint_id",
            "created_at",
            postgresql_where=text("next_wake_at IS NOT NULL"),
        ),
        Index("ix_webhook_deliveries_next_wake_at", "next_wake_at", postgresql_where=text("next_wake_at IS NOT NULL")),
        Index(
            "ix_webhook_deliveries_untried",
            "lane",
            "is_replay",
            "sequence",
            postgresql_where=text("next_wake_at IS NOT NULL AND attempt = 0"),
        ),
        Index(
            "ix_webhook_deliveries_retries",
            "lane",
            "next_attempt_at",
            postgresql_where=text("next_wake_at IS NOT NULL AND attempt > 0"),
        ),
        Index("ix_webhook_deliveries_on_their_way", "lane", postgresql_where=text("lease_until IS NOT NULL")),
    )


class WebhookAttempt(Base):
    """One try, as it went."""

    __tablename__ = "webhook_attempts"

    id: Mapped[str] = mapped_column(primary_key=True)
    account_id: Mapped[str] = mapped_column(ForeignKey("accounts.id"))
    delivery_id: Mapped[str] = mapped_column(ForeignKey("webhook_deliveries.id"), index=True)
    number: Mapped[int]
    started_at: Mapped[datetime] = mapped_column(index=True)
    duration_ms: Mapped[int]
    status: Mapped[int | None]
    error: Mapped[str | None]
    response_head: Mapped[str | None]
