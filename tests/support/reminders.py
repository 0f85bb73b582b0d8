"""Rows for reminder tests: certificates, deployments, and a look at the ledger."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from sqlalchemy import select

from shared.domain.deadlines import Validity
from shared.domain.identifiers import new_id
from shared.domain.reminder_decisions import NOBODY
from shared.domain.rollout import DeploymentState, Intent, JobKind, JobState
from shared.models import Account, Certificate, Deployment, Event, Job, Listener, Reminder
from shared.models.certificates import LOOK_NOW
from shared.usecases.reminder_subjects import deadlines_of
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
        "names": [overrides.get("common_name") or "www.example.com"],
        "issuer": "CN=Example Issuing CA",
        "serial": "0a1b2c",
        "not_before": not_after - life,
        "not_after": not_after,
        "fingerprint_sha256": "ab" * 32,
        "contacts": [OPS],
        "created_at": fleet.now,
    }
    row = Certificate(**values | overrides)
    ends = deadlines_of(row.type, Validity(not_before=not_after - life, not_after=not_after), row.chain)
    row.ends_first_at, row.ends_last_at = ends[0].at, ends[-1].at
    with fleet.transaction() as session:
        session.add(row)
        return row.id


def change_certificate(fleet: Fleet, certificate_id: str, **values: Any) -> None:
    """As its use cases do, which have the scan look at it again."""
    with fleet.transaction() as session:
        row = session.get_one(Certificate, certificate_id)
        for name, value in ({"next_notice_at": LOOK_NOW} | values).items():
            setattr(row, name, value)


def change_account(fleet: Fleet, **values: Any) -> None:
    """As its use case does, which has the scan look at all of its certificates again."""
    with fleet.transaction() as session:
        account = session.get_one(Account, fleet.caller.account_id)
        for name, value in ({"reminders_recheck_after": ""} | values).items():
            setattr(account, name, value)


def set_account_contacts(fleet: Fleet, *contacts: str) -> None:
    change_account(fleet, contacts=list(contacts))


def change_deployment(fleet: Fleet, certificate_id: str, region: str, **values: Any) -> None:
    with fleet.transaction() as session:
        statement = select(Deployment).where(Deployment.certificate_id == certificate_id, Deployment.region == region)
        row = session.execute(statement).scalar_one()
        for name, value in values.items():
            setattr(row, name, value)


def add_listener(fleet: Fleet, certificate_id: str, region: str, *, served: str, **overrides: Any) -> None:
    """A bound listener that shows the certificate, by the last handshakes or not."""
    with fleet.transaction() as session:
        job_id = session.execute(select(Job.id).where(Job.certificate_id == certificate_id)).scalars().first()
        values = {
            "id": new_id("lst"),
            "account_id": fleet.caller.account_id,
            "region": region,
            "name": "www",
            "hosts": ["www.example.com"],
            "authentication": "one_way",
            "server_certificate_id": certificate_id,
            "state": "bound",
            "job_id": job_id,
            "served": served,
            "created_at": fleet.now,
            "updated_at": fleet.now,
        }
        session.add(Listener(**values | overrides))


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
