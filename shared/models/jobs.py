"""Jobs, deployments, and what each job achieved in each region."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import CheckConstraint, ForeignKey, Index, UniqueConstraint, text
from sqlalchemy.orm import Mapped, mapped_column

from shared.domain.rollout import FINAL_DEPLOYMENTS, FINAL_JOBS
from shared.models.base import ALWAYS_WOKEN, Base, Leased


def always_due(final: frozenset[Any]) -> str:
    """A non-final row has a time at which it is due; a final one has none. The database holds it."""
    states = ", ".join(f"'{state}'" for state in sorted(final))
    return f"(state IN ({states})) = (next_attempt_at IS NULL)"


_WAITING = text("next_wake_at IS NOT NULL")
_DUE = text("next_attempt_at IS NOT NULL")


class Job(Leased, Base):
    """One asynchronous request and its outcome."""

    __tablename__ = "jobs"

    id: Mapped[str] = mapped_column(primary_key=True)
    account_id: Mapped[str] = mapped_column(ForeignKey("accounts.id"))
    certificate_id: Mapped[str] = mapped_column(ForeignKey("certificates.id"), index=True)
    kind: Mapped[str]
    state: Mapped[str]
    error: Mapped[dict[str, Any] | None]
    findings: Mapped[list[dict[str, Any]]] = mapped_column(default=list)
    attempt: Mapped[int] = mapped_column(default=0)
    created_at: Mapped[datetime]
    started_at: Mapped[datetime | None]
    finished_at: Mapped[datetime | None]
    cancel_requested_at: Mapped[datetime | None]
    """Since then nothing is begun for the job any more; what has begun is finished."""
    certificate_state_before: Mapped[str | None]
    """Of a deletion: what the certificate is again when the job is cancelled."""

    __table_args__ = (
        CheckConstraint(always_due(FINAL_JOBS), name="always_due"),
        CheckConstraint(ALWAYS_WOKEN, name="always_woken"),
        Index("ix_jobs_account_id_id", "account_id", "id"),
        Index("ix_jobs_next_wake_at", "next_wake_at", postgresql_where=_WAITING),
    )


class Deployment(Leased, Base):
    """One certificate in one region: the truth about it, and the current job's progress with it."""

    __tablename__ = "deployments"

    id: Mapped[str] = mapped_column(primary_key=True)
    account_id: Mapped[str] = mapped_column(ForeignKey("accounts.id"))
    certificate_id: Mapped[str] = mapped_column(ForeignKey("certificates.id"))
    certificate_type: Mapped[str]
    region: Mapped[str]
    job_id: Mapped[str] = mapped_column(ForeignKey("jobs.id"), index=True)
    intent: Mapped[str]
    state: Mapped[str]
    attempt: Mapped[int] = mapped_column(default=0)
    error: Mapped[dict[str, Any] | None]
    remote_id: Mapped[str | None]
    evidence: Mapped[dict[str, Any] | None]
    holds_slot: Mapped[bool] = mapped_column(default=False)
    served: Mapped[str] = mapped_column(default="not_checked")
    served_checked_at: Mapped[datetime | None]
    drift: Mapped[dict[str, Any] | None]
    """What is wrong with it at the region since when: ``{code, message, since}``; null while all is as deployed."""
    created_at: Mapped[datetime]
    updated_at: Mapped[datetime]
    deployed_at: Mapped[datetime | None]

    __table_args__ = (
        CheckConstraint(always_due(FINAL_DEPLOYMENTS), name="always_due"),
        CheckConstraint(ALWAYS_WOKEN, name="always_woken"),
        UniqueConstraint("certificate_id", "region"),
        Index("ix_deployments_slots", "account_id", "region", "certificate_type", postgresql_where=text("holds_slot")),
        Index("ix_deployments_next_wake_at", "next_wake_at", postgresql_where=_WAITING),
        Index("ix_deployments_region_due", "region", "next_attempt_at", postgresql_where=_DUE),
    )


class JobDeployment(Base):
    """A job's answer from one region. ``state`` is null while the region is still at work for this job.

    ``before``: what the deployment was when the job took it over, ``{state, intent, holds_slot, error}``; null: it was
    made for this job. The region is that again when the job is cancelled.
    """

    __tablename__ = "job_deployments"

    job_id: Mapped[str] = mapped_column(ForeignKey("jobs.id"), primary_key=True)
    deployment_id: Mapped[str] = mapped_column(ForeignKey("deployments.id"), primary_key=True)
    state: Mapped[str | None]
    attempt: Mapped[int] = mapped_column(default=0)
    error: Mapped[dict[str, Any] | None]
    finished_at: Mapped[datetime | None]
    before: Mapped[dict[str, Any] | None]

    __table_args__ = (Index("ix_job_deployments_deployment_id", "deployment_id"),)
