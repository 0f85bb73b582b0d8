"""One row of each kind that workers own, due now, made as the service makes it."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from sqlalchemy import select, text

from shared.domain.acquisitions import AcquisitionKind, CatalogueState, ManagedId
from shared.domain.notices import NoticeKind
from shared.events import log
from shared.events.catalogue import EventType
from shared.events.log import Fact
from shared.models import (
    Acquisition,
    Base,
    Deployment,
    Job,
    Leased,
    Listener,
    Notice,
    Reminder,
    SourceCatalogue,
    WebhookDelivery,
    WebhookEndpoint,
    WebhookReplay,
    leases,
)
from shared.usecases import acquisitions, notices, reminder_scan, webhook_replay, webhooks
from shared.usecases.notices import News
from shared.usecases.validation import validate_job
from shared.usecases.webhook_replay import NewReplay
from shared.usecases.webhooks import NewWebhook
from tests.support.event_samples import sample
from tests.support.fleet import Fleet, server_upload
from tests.support.listeners import add_listener
from tests.support.reminders import OPS, add_certificate, set_account_contacts

REGION = "cn-hangzhou"


def leased_models() -> list[type[Any]]:
    """Every mapped class whose rows workers own."""
    mapped = (mapper.class_ for mapper in Base.registry.mappers)
    return sorted((each for each in mapped if issubclass(each, Leased)), key=lambda each: str(each.__tablename__))


def due_row(fleet: Fleet, model: type[Any]) -> str:
    """The id of a row that is due at ``fleet.now`` and that nobody owns."""
    makers = {
        Job: _job,
        Deployment: _deployment,
        Listener: _listener,
        WebhookDelivery: _delivery,
        WebhookReplay: _replay,
        Notice: _notice,
        Reminder: _reminder,
        Acquisition: _acquisition,
        SourceCatalogue: _catalogue,
    }
    return makers[model](fleet)


def fill(fleet: Fleet, model: type[Any], row_id: str, *, rows: int, final: str | None) -> None:
    """Copies of a row, straight into the table; ``final``: the state of those that are never due again."""
    columns = [column.name for column in model.__table__.columns]
    values = {name: f'"{name}"' for name in columns} | {"id": f"'{final or 'due'}-' || n || '-' || id"}
    if final is not None:
        values |= {"state": f"'{final}'", "next_attempt_at": "NULL", "next_wake_at": "NULL", "lease_until": "NULL"}
    # Copies share what is unique of their subjects (certificate, event): each gets one of its own that is not there.
    values |= {
        name: f"'{name}-' || n || '-{final}'"
        for name in ("certificate_id", "event_id", "name", "source", "job_id", "subject")
    }
    chosen = ", ".join(values[name] for name in columns)
    names = ", ".join(f'"{name}"' for name in columns)
    table = model.__tablename__
    with fleet.transaction() as session:
        session.execute(text("SET LOCAL session_replication_role = replica"))  # the subjects need not be there
        session.execute(
            text(
                f"INSERT INTO {table} ({names}) SELECT {chosen} "  # noqa: S608 - our own names
                f"FROM {table}, generate_series(1, :rows) n WHERE id = :id"
            ),
            {"rows": rows, "id": row_id},
        )


def _job(fleet: Fleet) -> str:
    return fleet.submit(server_upload(regions=[REGION]))[0]


def _deployment(fleet: Fleet) -> str:
    job_id, certificate_id = fleet.submit(server_upload(regions=[REGION]))
    validate_job(fleet.context, job_id, now=fleet.now)
    return fleet.deployments(certificate_id)[REGION].id


def _listener(fleet: Fleet) -> str:
    _, certificate_id = fleet.submit(server_upload(regions=[REGION]))
    fleet.run()
    return add_listener(fleet, REGION, ["www.example.com"], server=certificate_id)


def _delivery(fleet: Fleet) -> str:
    with fleet.transaction() as session:
        request = NewWebhook(url="https://hooks.example.com/", types=("*",))
        webhooks.create_webhook(fleet.context, session, fleet.caller, request, now=fleet.now)
        fact = Fact(type=EventType.JOB_SUCCEEDED, data=sample(EventType.JOB_SUCCEEDED))
        log.append(session, fleet.caller.account_id, [fact], now=fleet.now)
        session.flush()
        return session.execute(select(WebhookDelivery.id)).scalar_one()


def _replay(fleet: Fleet) -> str:
    delivery_id = _delivery(fleet)
    with fleet.transaction() as session:
        endpoint_id = session.get_one(WebhookDelivery, delivery_id).endpoint_id
        request = NewReplay(after=0)
        return webhook_replay.start_replay(session, fleet.caller, endpoint_id, request=request, now=fleet.now).id


def _notice(fleet: Fleet) -> str:
    _delivery(fleet)
    set_account_contacts(fleet, OPS)
    with fleet.transaction() as session:
        endpoint_id = session.execute(select(WebhookEndpoint.id)).scalar_one()
        news = News(
            kind=NoticeKind.WEBHOOK_DISABLED, subject=endpoint_id, occasion=fleet.now, content={"title": "It is so"}
        )
        notices.tell(session, fleet.caller.account_id, news, now=fleet.now)
        return session.execute(select(Notice.id)).scalar_one()


def _reminder(fleet: Fleet) -> str:
    add_certificate(fleet, left=timedelta(days=10))
    reminder_scan.scan(fleet.context, now=fleet.now)
    with fleet.transaction() as session:
        return session.execute(select(Reminder.id)).scalar_one()


def _acquisition(fleet: Fleet) -> str:
    job_id, _ = fleet.submit(server_upload(regions=[REGION]))
    with fleet.transaction() as session:
        managed = ManagedId(source="memory", offer="m0001")
        row = acquisitions.new_acquisition(session.get_one(Job, job_id), managed, AcquisitionKind.FETCH, now=fleet.now)
        session.add(row)
        return row.id


def _catalogue(fleet: Fleet) -> str:
    row = SourceCatalogue(
        id="cat_1",
        account_id=fleet.caller.account_id,
        source="memory",
        state=CatalogueState.DECLARED,
        created_at=fleet.now,
    )
    leases.due(row, fleet.now)
    with fleet.transaction() as session:
        session.add(row)
    return "cat_1"
