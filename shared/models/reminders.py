"""The reminder ledger: one row per certificate, expiry, threshold and recipient, ever."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import CheckConstraint, ForeignKey, Index, UniqueConstraint, text
from sqlalchemy.orm import Mapped, mapped_column

from shared.models.base import ALWAYS_WOKEN, Base, Leased


class Reminder(Leased, Base):
    """One notice to one recipient about one certificate at one threshold: ``pending → sent | failed | suppressed``.

    ``not_after`` is the end that it is about: the certificate's own, or that of one of its chain or bundle.
    ``threshold`` is in days before expiry; -1 means "expired". Nearer thresholds supersede farther ones. An empty
    ``recipient`` (state ``recorded``) remembers a crossing of which there was nobody to tell.
    """

    __tablename__ = "reminders"

    id: Mapped[str] = mapped_column(primary_key=True)
    account_id: Mapped[str] = mapped_column(ForeignKey("accounts.id"))
    certificate_id: Mapped[str] = mapped_column(ForeignKey("certificates.id"))
    not_after: Mapped[datetime]
    threshold: Mapped[int]
    recipient: Mapped[str]
    state: Mapped[str]
    attempt: Mapped[int] = mapped_column(default=0)
    error: Mapped[str | None]
    message_id: Mapped[str | None]
    created_at: Mapped[datetime]
    sent_at: Mapped[datetime | None]

    __table_args__ = (
        CheckConstraint("(state <> 'pending') = (next_attempt_at IS NULL)", name="always_due"),
        CheckConstraint(ALWAYS_WOKEN, name="always_woken"),
        UniqueConstraint("certificate_id", "not_after", "threshold", "recipient"),
        Index("ix_reminders_account_id_id", "account_id", "id"),
        Index("ix_reminders_next_wake_at", "next_wake_at", postgresql_where=text("next_wake_at IS NOT NULL")),
    )


class Unsubscribed(Base):
    """A recipient who wants no reminders of an account's certificates any more."""

    __tablename__ = "unsubscribed"

    account_id: Mapped[str] = mapped_column(ForeignKey("accounts.id"), primary_key=True)
    recipient: Mapped[str] = mapped_column(primary_key=True)
    at: Mapped[datetime]


class CalendarFeed(Base):
    """An address at which calendars read an account's expiries; its token is known by its hash."""

    __tablename__ = "calendar_feeds"

    id: Mapped[str] = mapped_column(primary_key=True)
    account_id: Mapped[str] = mapped_column(ForeignKey("accounts.id"), index=True)
    name: Mapped[str]
    token_hash: Mapped[str] = mapped_column(unique=True)
    created_at: Mapped[datetime]
    rotated_at: Mapped[datetime | None]


class PeriodicRun(Base):
    """When a periodic task last succeeded; what catches a silent scheduler."""

    __tablename__ = "periodic_runs"

    name: Mapped[str] = mapped_column(primary_key=True)
    last_run_at: Mapped[datetime]
    last_count: Mapped[int] = mapped_column(default=0)
