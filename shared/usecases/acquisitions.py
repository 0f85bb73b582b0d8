"""Acquisitions as rows: opened with a job, waited for by its validation, cancelled with it."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import select, update
from sqlalchemy.orm import Session

from shared.domain.acquisitions import FINAL_ACQUISITIONS, AcquisitionKind, AcquisitionState, ManagedId
from shared.domain.identifiers import new_id
from shared.events.log import FIRST_WAKE
from shared.models import Acquisition, Job, leases


def new_acquisition(
    job: Job, managed: ManagedId, kind: AcquisitionKind, *, now: datetime, reference: str | None = None
) -> Acquisition:
    """Due at once; ``managed`` is what to fetch, or to renew under this reference."""
    is_fetch = kind is AcquisitionKind.FETCH
    row = Acquisition(
        id=new_id("acq"),
        account_id=job.account_id,
        job_id=job.id,
        certificate_id=job.certificate_id,
        kind=kind,
        state=AcquisitionState.FETCHING if is_fetch else AcquisitionState.PENDING,
        source=managed.source,
        offer_id=managed.offer,
        reference=reference,
        issued_offer_id=managed.offer if is_fetch else None,
        attempt=0,
        fence=0,
        created_at=now,
        updated_at=now,
    )
    leases.due(row, now, wake_at=now + FIRST_WAKE)
    return row


def is_waited_for(session: Session, job: Job) -> bool:
    """Whether the job's content is still on its way from a certificate service."""
    statement = select(Acquisition.id).where(Acquisition.job_id == job.id, Acquisition.state.not_in(FINAL_ACQUISITIONS))
    return session.execute(statement.limit(1)).first() is not None


def cancel_acquisition(session: Session, job: Job, *, now: datetime) -> None:
    """Get nothing more for the job; whoever is at it writes no more. The caller holds the job's row."""
    statement = update(Acquisition).where(Acquisition.job_id == job.id, Acquisition.state.not_in(FINAL_ACQUISITIONS))
    values = {
        "state": AcquisitionState.CANCELLED,
        "fence": Acquisition.fence + 1,
        "next_attempt_at": None,
        "next_wake_at": None,
        "lease_until": None,
        "updated_at": now,
    }
    session.execute(statement.values(values).execution_options(synchronize_session=False))
