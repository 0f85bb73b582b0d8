"""Rows for reminder tests: certificates, deployments, and a look at the ledger."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from sqlalchemy import select

from shared.domain.identifiers import new_id
from shared.domain.rollout import DeploymentState, Intent, JobKind, JobState
from shared.models import Account, Certificate, Deployment, Event, Job, Reminder
from shared.usecases.reminder_scan import NOBODY
from tests.support.fleet import Fleet

OPS = "ops@example.com"


def add_certificate(fleet: Fleet, *, left: timedelta, life: timedelta = timedelta(days=398), **overrides: Any) -> str:
    """A validated certificate that expires ``left`` after the fleet's now; its id."""
    not_after = fleet.now + left
    values: dict[str, Any] = {
        "id": new_id("crt"),
        "account_id": fleet.caller.account_id,
        "name": "Shop",
        "type": "server",
        "source": "third_party",
        "state": "valid",
        "common_name": "www.example.com",
        "names": ["www.example.com"],
        "issuer": "CN=Example Issuing CA",
        "serial": "0a1b2c",
        "not_before": not_after - life,
        "not_after": not_after,
        "fingerprint_sha256": "ab" * 32,
        "contacts": [OPS],
        "created_at": fleet.now,
    }
    row = Certificate(**values | overrides)
    with fleet.transaction() as session:
        session.add(row)
        return row.id


def change_certificate(fleet: Fleet, certificate_id: str, **values: Any) -> None:
    with fleet.transaction() as session:
        row = session.get_one(Certificate, certificate_id)
        for name, value in values.items():
            setattr(row, name, value)


def set_account_contacts(fleet: Fleet, *contacts: str) -> None:
    with fleet.transaction() as session:
        session.get_one(Account, fleet.caller.account_id).contacts = list(contacts)


def add_deployment(fleet: Fleet, certificate_id: str, region: str, *, state: DeploymentState, served: str) -> None:
    """A settled deployment with the job that made it."""
    with fleet.transaction() as session:
        job = Job(
            id=new_id("job"),
            account_id=fleet.caller.account_id,
            certificate_id=certificate_id,
            kind=JobKind.CREATE,
            state=JobState.SUCCEEDED,
            created_at=fleet.now,
        )
        session.add(job)
        session.flush()
        session.add(
            Deployment(
                id=new_id("dep"),
                account_id=fleet.caller.account_id,
                certificate_id=certificate_id,
                certificate_type="server",
                region=region,
                job_id=job.id,
                intent=Intent.DEPLOY,
                state=state,
                served=served,
                created_at=fleet.now,
                updated_at=fleet.now,
            )
        )


def ledger(fleet: Fleet, *, with_nobody: bool = False) -> list[Reminder]:
    """All notices in order of writing."""
    with fleet.transaction() as session:
        rows = session.execute(select(Reminder).order_by(Reminder.created_at, Reminder.id)).scalars().all()
    return [row for row in rows if with_nobody or row.recipient != NOBODY]


def notices(fleet: Fleet) -> list[tuple[str, int, str]]:
    """Certificate, threshold, recipient of every notice; sorted."""
    return sorted((row.certificate_id, row.threshold, row.recipient) for row in ledger(fleet))


def expiry_events(fleet: Fleet) -> list[Event]:
    with fleet.transaction() as session:
        statement = select(Event).where(Event.type.in_(["certificate.expiring", "certificate.expired"]))
        return list(session.execute(statement.order_by(Event.sequence)).scalars())
