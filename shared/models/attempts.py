"""Attempts at regions: one row each, written with the claim, completed with the answer."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import CheckConstraint, ForeignKey, Index, text
from sqlalchemy.orm import Mapped, mapped_column

from shared.models.base import Base


class Attempt(Base):
    """One try of a deployment or of a listener (one of the two is null). ``fence`` says whose try it was.

    ``error``: ``{code, message, retryable, hint?, next_attempt_at?}`` as the job shows it.
    """

    __tablename__ = "attempts"

    id: Mapped[str] = mapped_column(primary_key=True)
    account_id: Mapped[str] = mapped_column(ForeignKey("accounts.id"))
    job_id: Mapped[str] = mapped_column(ForeignKey("jobs.id"))
    deployment_id: Mapped[str | None] = mapped_column(ForeignKey("deployments.id"))
    listener_id: Mapped[str | None] = mapped_column(ForeignKey("listeners.id"))
    region: Mapped[str]
    action: Mapped[str]
    number: Mapped[int]
    fence: Mapped[int]
    outcome: Mapped[str]
    error: Mapped[dict[str, Any] | None]
    started_at: Mapped[datetime]
    ended_at: Mapped[datetime | None]

    __table_args__ = (
        CheckConstraint("(deployment_id IS NULL) <> (listener_id IS NULL)", name="one_subject"),
        CheckConstraint("(outcome = 'started') = (ended_at IS NULL)", name="ended"),
        Index("ix_attempts_job_id_id", "job_id", "id"),
        Index("ix_attempts_deployment_id_fence", "deployment_id", "fence", postgresql_where=text("ended_at IS NULL")),
        Index("ix_attempts_listener_id_fence", "listener_id", "fence", postgresql_where=text("ended_at IS NULL")),
    )
