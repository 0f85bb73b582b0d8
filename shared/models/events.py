"""Events: facts that happened, numbered per account without gaps."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import BigInteger, ForeignKey, Index, UniqueConstraint, text
from sqlalchemy.orm import Mapped, mapped_column

from shared.models.base import Base


class EventCounter(Base):
    """The last sequence of an account. Its row lock makes commit order and sequence order the same.

    Events up to ``removed_through`` are no longer kept; the newest of them happened at ``removed_until``.
    """

    __tablename__ = "event_counters"

    account_id: Mapped[str] = mapped_column(ForeignKey("accounts.id"), primary_key=True)
    last_sequence: Mapped[int] = mapped_column(BigInteger, default=0)
    removed_through: Mapped[int] = mapped_column(BigInteger, default=0, server_default="0")
    removed_until: Mapped[datetime | None]


class Event(Base):
    """A fact. ``data`` is public: identifiers, states, errors; never a key or PEM."""

    __tablename__ = "events"

    id: Mapped[str] = mapped_column(primary_key=True)
    account_id: Mapped[str] = mapped_column(ForeignKey("accounts.id"))
    sequence: Mapped[int] = mapped_column(BigInteger)
    type: Mapped[str]
    job_id: Mapped[str | None]
    certificate_id: Mapped[str | None]
    data: Mapped[dict[str, Any]]
    timestamp: Mapped[datetime]

    __table_args__ = (
        UniqueConstraint("account_id", "sequence"),
        Index("ix_events_job_id_sequence", "job_id", "sequence"),
        Index(
            "ix_events_certificate_without_job",
            "certificate_id",
            "sequence",
            postgresql_where=text("job_id IS NULL AND certificate_id IS NOT NULL"),
        ),
    )
