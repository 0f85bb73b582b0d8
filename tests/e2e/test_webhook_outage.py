"""A receiver that is down for the schedule's first hours, on real couriers; an hour passes in four seconds."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Final

import pytest
from sqlalchemy import ColumnElement, func, select

from services.cli.embedded.plan import choose_port
from shared.config.settings import WEBHOOK_RETRY_SCHEDULE
from shared.domain.lanes import OUTAGE
from shared.events import log
from shared.events.catalogue import EventType
from shared.events.log import Fact, body_of
from shared.models import Event, WebhookAttempt, WebhookDelivery, WebhookLane
from shared.usecases import webhooks
from shared.usecases.clock import utc_now
from shared.usecases.webhooks import NewWebhook
from tests.support.event_samples import sample
from tests.support.processes import Installation, installation, slow_region
from tests.support.receiver import Received, Reply, running_receiver
from tests.support.stack import wait_until

pytestmark = [pytest.mark.e2e, pytest.mark.xdist_group("stack")]

REGION: Final = "cn-hangzhou"
FASTER: Final = 900
HOUR: Final = timedelta(hours=1) / FASTER
EVENTS: Final = 30
SETTINGS: Final = {
    "CERTFLEET_WEBHOOK_ALLOWED_NETWORKS": "127.0.0.0/8",
    "CERTFLEET_WEBHOOK_RETRY_SCHEDULE": ",".join(f"{each / FASTER:.4f}" for each in WEBHOOK_RETRY_SCHEDULE),
    "CERTFLEET_WEBHOOK_REST_SECONDS": f"{60 / FASTER:.4f}",
    "CERTFLEET_WEBHOOK_DISABLE_AFTER_SECONDS": f"{5 * 24 * 3600 / FASTER:.4f}",
    "CERTFLEET_SWEEP_SECONDS": "0.2",
}


@pytest.fixture
def fleet(database_url: str, redis_url: str, place: Path) -> Iterator[Installation]:
    regions = slow_region(place, REGION, delay_seconds=0)
    with installation(place, database_url=database_url, redis_url=redis_url, regions=regions, **SETTINGS) as found:
        yield found


def test_a_receiver_that_was_down_for_hours_gets_everything_in_order_and_each_under_one_id(fleet: Installation) -> None:
    port = choose_port(0)
    endpoint_id = create(fleet, f"http://127.0.0.1:{port}/hook")
    fleet.worker("worker")
    fleet.worker("courier")
    fleet.beat()
    began = time.monotonic()
    happen(fleet, EVENTS // 2)
    wait_until(lambda: attempts(fleet) >= OUTAGE // 2, seconds=60, otherwise=fleet.log)  # nobody listens
    with running_receiver(Reply(status=503), port=port) as receiver:
        happen(fleet, EVENTS - EVENTS // 2)
        wait_until(
            lambda: time.monotonic() - began > 2.6 * HOUR.total_seconds() and failures(fleet, endpoint_id) >= OUTAGE,
            seconds=60,
            otherwise=fleet.log,
        )
        down = time.monotonic() - began
        receiver.reply_with(Reply())
        back = time.monotonic()
        wait_until(lambda: waiting(fleet) == 0, seconds=60, otherwise=fleet.log)
        took = time.monotonic() - back
        received = receiver.received
    refused = attempts(fleet, WebhookAttempt.status == 503)
    taken = received[refused:]
    in_vain = attempts(fleet, WebhookAttempt.status.is_distinct_from(204))
    lines = (
        f"{EVENTS} events; the receiver was down for {down / HOUR.total_seconds():.1f} hours, {FASTER} times faster",
        f"  attempts in vain {in_vain}, {refused} of them answered",
        f"  delivered afterwards {len(taken)}, all within {took:.1f} s; out of order {out_of_order(taken)}",
    )
    print("", *lines, sep="\n")  # noqa: T201 - what a run of it is for
    check(fleet, received, taken)


def check(fleet: Installation, received: list[Received], taken: list[Received]) -> None:
    """What ``docs/webhooks.md`` promises."""
    with fleet.context.transaction() as session:
        events = {event.id: body_of(event) for event in session.execute(select(Event)).scalars()}
        states = set(session.execute(select(WebhookDelivery.state)).scalars())
    assert states == {"delivered"}
    assert {each.headers["webhook-id"] for each in taken} == set(events)
    assert all(each.body == events[each.headers["webhook-id"]] for each in received)
    assert out_of_order(taken) <= 1  # the one that found that the receiver was back


def out_of_order(taken: list[Received]) -> int:
    """How many came before one of a lower sequence."""
    places = [json.loads(each.body)["sequence"] for each in taken]
    return sum(place > min(places[number:]) for number, place in enumerate(places))


def create(fleet: Installation, url: str) -> str:
    with fleet.context.transaction() as session:
        request = NewWebhook(url=url, types=("*",))
        return webhooks.create_webhook(fleet.context, session, fleet.caller, request, now=utc_now())[0].id


def happen(fleet: Installation, count: int) -> None:
    for _ in range(count):
        with fleet.context.transaction() as session:
            fact = Fact(type=EventType.JOB_SUCCEEDED, data=sample(EventType.JOB_SUCCEEDED))
            log.append(session, fleet.caller.account_id, [fact], now=utc_now())


def attempts(fleet: Installation, *which: ColumnElement[bool]) -> int:
    with fleet.context.transaction() as session:
        return session.execute(select(func.count()).select_from(WebhookAttempt).where(*which)).scalar_one()


def failures(fleet: Installation, lane_id: str) -> int:
    with fleet.context.transaction() as session:
        return session.get_one(WebhookLane, lane_id).failures


def waiting(fleet: Installation) -> int:
    with fleet.context.transaction() as session:
        counted = select(func.count()).where(WebhookDelivery.next_wake_at.is_not(None))
        return session.execute(counted).scalar_one()
