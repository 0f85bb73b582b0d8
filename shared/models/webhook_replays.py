"""Replays: many events for one endpoint again, batch by batch."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import BigInteger, CheckConstraint, ForeignKey, Index, text
from sqlalchemy.orm import Mapped, mapped_column

from shared.models.base import ALWAYS_WOKEN, Base, Leased


class WebhookReplay(Leased, Base):
    """The events after ``after_sequence`` up to ``until_sequence``, once more: ``running → finished | cancelled``.

    ``position`` is the last sequence looked at, ``batch_after`` where its batch began; ``since`` and ``until`` narrow
    the events by their time. An endpoint has one that runs: whoever makes one holds the endpoint's row.
    """

    __tablename__ = "webhook_replays"

    id: Mapped[str] = mapped_column(primary_key=True)
    account_id: Mapped[str] = mapped_column(ForeignKey("accounts.id"))
    endpoint_id: Mapped[str] = mapped_column(ForeignKey("webhook_endpoints.id"))
    state: Mapped[str]
    attempt: Mapped[int] = mapped_column(default=0)
    types: Mapped[list[str]]
    only_failed: Mapped[bool]
    after_sequence: Mapped[int] = mapped_column(BigInteger)
    until_sequence: Mapped[int] = mapped_column(BigInteger)
    since: Mapped[datetime | None]
    until: Mapped[datetime | None]
    position: Mapped[int] = mapped_column(BigInteger)
    batch_after: Mapped[int] = mapped_column(BigInteger)
    queued: Mapped[int] = mapped_column(BigInteger, default=0)
    skipped: Mapped[int] = mapped_column(BigInteger, default=0)
    created_at: Mapped[datetime]
    finished_at: Mapped[datetime | None]

    __table_args__ = (
        CheckConstraint("(state <> 'running') = (next_attempt_at IS NULL)", name="always_due"),
        CheckConstraint(ALWAYS_WOKEN, name="always_woken"),
        Index("ix_webhook_replays_endpoint_id_id", "endpoint_id", "id"),
        Index("ix_webhook_replays_next_wake_at", "next_wake_at", postgresql_where=text("next_wake_at IS NOT NULL")),
    )
