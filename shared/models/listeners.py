"""Listeners: what each shows to clients, what the last handshakes proved, and who may write to a balancer."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import BigInteger, CheckConstraint, ForeignKey, Index, text
from sqlalchemy.orm import Mapped, mapped_column

from shared.domain.listeners import FINAL_LISTENERS
from shared.models.base import ALWAYS_WOKEN, Base, Leased
from shared.models.jobs import always_due

_PRESENT = text("deleted_at IS NULL")
_DUE = text("next_attempt_at IS NOT NULL")


class Listener(Leased, Base):
    """An HTTPS listener of one region.

    ``hosts``, ``authentication`` and the certificates are what was last proven to be served (before that, what was
    asked for). ``change`` is what its job wants instead, in the same words (``ListenerShape``); null: nothing.
    ``revision`` grows with each binding, so that a proof of the one before is not taken for a proof of this one.
    """

    __tablename__ = "listeners"

    id: Mapped[str] = mapped_column(primary_key=True)
    account_id: Mapped[str] = mapped_column(ForeignKey("accounts.id"))
    region: Mapped[str]
    name: Mapped[str]
    hosts: Mapped[list[str]]
    authentication: Mapped[str]
    server_certificate_id: Mapped[str] = mapped_column(ForeignKey("certificates.id"))
    ca_certificate_id: Mapped[str | None] = mapped_column(ForeignKey("certificates.id"))
    state: Mapped[str]
    change: Mapped[dict[str, Any] | None]
    job_id: Mapped[str] = mapped_column(ForeignKey("jobs.id"), index=True)
    attempt: Mapped[int] = mapped_column(default=0)
    error: Mapped[dict[str, Any] | None]
    revision: Mapped[int] = mapped_column(default=0)
    served: Mapped[str] = mapped_column(default="not_checked")
    served_fingerprint_sha256: Mapped[str | None]
    served_message: Mapped[str | None]
    served_checked_at: Mapped[datetime | None]
    next_probe_at: Mapped[datetime | None]
    created_at: Mapped[datetime]
    updated_at: Mapped[datetime]
    deleted_at: Mapped[datetime | None]

    __table_args__ = (
        CheckConstraint(always_due(FINAL_LISTENERS), name="always_due"),
        CheckConstraint(ALWAYS_WOKEN, name="always_woken"),
        Index("ix_listeners_account_id_id", "account_id", "id"),
        Index("ix_listeners_server_certificate_id", "server_certificate_id", postgresql_where=_PRESENT),
        Index("ix_listeners_ca_certificate_id", "ca_certificate_id", postgresql_where=_PRESENT),
        Index("ix_listeners_region", "region", postgresql_where=_PRESENT),
        Index(
            "ix_listeners_region_due", "region", "next_attempt_at", postgresql_where=text("next_attempt_at IS NOT NULL")
        ),
        Index("ix_listeners_next_wake_at", "next_wake_at", postgresql_where=text("next_wake_at IS NOT NULL")),
        Index("ix_listeners_next_probe_at", "next_probe_at", postgresql_where=text("next_probe_at IS NOT NULL")),
    )


class ListenerHost(Base):
    """A host name of a region belongs to one listener, whoever owns it: two would make it chance who answers."""

    __tablename__ = "listener_hosts"

    region: Mapped[str] = mapped_column(primary_key=True)
    host: Mapped[str] = mapped_column(primary_key=True)
    listener_id: Mapped[str] = mapped_column(ForeignKey("listeners.id"), index=True)


class JobListener(Base):
    """A job's answer from one listener. ``state`` is null while it is still being worked on for this job."""

    __tablename__ = "job_listeners"

    job_id: Mapped[str] = mapped_column(ForeignKey("jobs.id"), primary_key=True)
    listener_id: Mapped[str] = mapped_column(ForeignKey("listeners.id"), primary_key=True)
    state: Mapped[str | None]
    attempt: Mapped[int] = mapped_column(default=0)
    error: Mapped[dict[str, Any] | None]
    finished_at: Mapped[datetime | None]

    __table_args__ = (Index("ix_job_listeners_listener_id", "listener_id"),)


class Balancer(Base):
    """Who writes to a region's load balancer now, and the newest fencing number given out for it."""

    __tablename__ = "balancers"

    region: Mapped[str] = mapped_column(primary_key=True)
    fence: Mapped[int] = mapped_column(BigInteger, default=0)
    lease_until: Mapped[datetime | None]
    patrolled_at: Mapped[datetime | None]
    """When its own word was last compared with ours."""
    next_patrol_at: Mapped[datetime | None]
    patrol_error: Mapped[dict[str, Any] | None]
    """Why it could not be asked the last time, ``{code, message, retryable}``; none once it answered."""
    silences: Mapped[int] = mapped_column(default=0, server_default="0")
    """Attempts in a row that the balancer did not answer (``shared/domain/circuits.py``)."""
    circuit_opened_at: Mapped[datetime | None]
    circuit_retry_at: Mapped[datetime | None]
    circuit_error: Mapped[dict[str, Any] | None]
