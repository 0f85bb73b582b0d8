"""Accounts, their API tokens, and what was done with them."""

from __future__ import annotations

from datetime import datetime, time
from typing import Any

from sqlalchemy import CheckConstraint, ForeignKey, Index, false, text
from sqlalchemy.orm import Mapped, mapped_column

from shared.models.base import Base


class Account(Base):
    """Owner of everything below; nothing is visible or usable across accounts."""

    __tablename__ = "accounts"

    id: Mapped[str] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(unique=True)
    contacts: Mapped[list[str]] = mapped_column(default=list)
    auto_renew: Mapped[bool] = mapped_column(default=False, server_default=false())
    """Whether managed certificates that do not say themselves are renewed without being asked to."""
    renew_before_days: Mapped[int | None]
    """How long before their end; null: a third of their life."""
    reminder_thresholds: Mapped[list[int] | None]
    """Days before the end, farthest first; empty: only what has expired; null: the usual ones."""
    time_zone: Mapped[str] = mapped_column(default="UTC", server_default="UTC")
    """A name of the IANA time zone database; in it the quiet window is meant."""
    quiet_from: Mapped[time | None]
    quiet_until: Mapped[time | None]
    """Between the two, on the wall clock of ``time_zone``, only urgent mail goes out; null both: always any."""
    reminders_recheck_after: Mapped[str | None]
    """The account's certificates with ids beyond this one are still to be looked at, because settings changed."""
    created_at: Mapped[datetime]

    __table_args__ = (
        CheckConstraint("(quiet_from IS NULL) = (quiet_until IS NULL)", name="quiet_window"),
        Index("ix_accounts_to_recheck", "id", postgresql_where=text("reminders_recheck_after IS NOT NULL")),
    )


class ApiToken(Base):
    """A bearer token, known by its hash."""

    __tablename__ = "api_tokens"

    id: Mapped[str] = mapped_column(primary_key=True)
    account_id: Mapped[str] = mapped_column(ForeignKey("accounts.id"), index=True)
    name: Mapped[str]
    prefix: Mapped[str]
    token_hash: Mapped[str] = mapped_column(unique=True)
    scopes: Mapped[list[str]]
    created_at: Mapped[datetime]
    expires_at: Mapped[datetime | None]
    last_used_at: Mapped[datetime | None]
    revoked_at: Mapped[datetime | None]


class AuditEntry(Base):
    """Who did what to what. Written in the transaction of the deed."""

    __tablename__ = "audit_entries"

    id: Mapped[str] = mapped_column(primary_key=True)
    account_id: Mapped[str] = mapped_column(ForeignKey("accounts.id"))
    actor: Mapped[str]
    action: Mapped[str]
    target: Mapped[str]
    details: Mapped[dict[str, Any]] = mapped_column(default=dict)
    at: Mapped[datetime]

    __table_args__ = (Index("ix_audit_entries_account_id_id", "account_id", "id"),)


class IdempotentAnswer(Base):
    """The answer of a POST that carried an Idempotency-Key; the body is sealed (``secrets``, purpose ``answer``)."""

    __tablename__ = "idempotent_answers"

    id: Mapped[str] = mapped_column(primary_key=True)
    account_id: Mapped[str] = mapped_column(ForeignKey("accounts.id"))
    key_hash: Mapped[str]
    request_hash: Mapped[str]
    status: Mapped[int | None]
    location: Mapped[str | None]
    created_at: Mapped[datetime] = mapped_column(index=True)

    __table_args__ = (Index("uq_idempotent_answers_account_id_key_hash", "account_id", "key_hash", unique=True),)
