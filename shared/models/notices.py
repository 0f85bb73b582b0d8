"""Notices: mails about an account's own affairs, one a recipient and occasion, ever."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import CheckConstraint, ForeignKey, Index, UniqueConstraint, text
from sqlalchemy.orm import Mapped, mapped_column

from shared.models.base import ALWAYS_WOKEN, Base, Leased


class Notice(Leased, Base):
    """One mail to one recipient: ``pending → sent | failed | suppressed``; ``recorded``: there was nobody to tell.

    ``kind`` and ``subject`` say what about, ``occasion`` tells two of the same kind apart. ``content`` is what the
    mail's template shows, as it was when it happened.
    """

    __tablename__ = "notices"

    id: Mapped[str] = mapped_column(primary_key=True)
    account_id: Mapped[str] = mapped_column(ForeignKey("accounts.id"))
    kind: Mapped[str]
    subject: Mapped[str]
    occasion: Mapped[datetime]
    recipient: Mapped[str]
    content: Mapped[dict[str, Any]]
    state: Mapped[str]
    attempt: Mapped[int] = mapped_column(default=0)
    error: Mapped[str | None]
    created_at: Mapped[datetime]
    sent_at: Mapped[datetime | None]

    __table_args__ = (
        CheckConstraint("(state <> 'pending') = (next_attempt_at IS NULL)", name="always_due"),
        CheckConstraint(ALWAYS_WOKEN, name="always_woken"),
        UniqueConstraint("kind", "subject", "occasion", "recipient"),
        Index("ix_notices_next_wake_at", "next_wake_at", postgresql_where=text("next_wake_at IS NOT NULL")),
    )
