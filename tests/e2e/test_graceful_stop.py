"""Workers and the API are stopped at work: within a bound, nothing is lost, and others go on at once.

Leases last for an hour here: whatever goes on was given back. No beat runs: the test sweeps once.
"""

from __future__ import annotations

import http.client
import json
import signal
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import psycopg
import pytest
from sqlalchemy import select

from services.cli.embedded.plan import choose_port
from shared.events import log
from shared.events.catalogue import EventType
from shared.events.log import Fact
from shared.models import WebhookDelivery
from shared.usecases import webhooks
from shared.usecases.clock import utc_now
from shared.usecases.sweep import sweep
from shared.usecases.webhooks import NewWebhook
from tests.support.event_samples import sample
from tests.support.processes import Installation, installation, seconds_until_end, slow_region, upload
from tests.support.receiver import Reply, running_receiver
from tests.support.stack import wait_until

pytestmark = [pytest.mark.e2e, pytest.mark.xdist_group("stack")]

REGION: Final = "cn-hangzhou"
SUBMISSIONS: Final = 12
SETTINGS: Final = {"CERTFLEET_LEASE_SECONDS": "3600", "CERTFLEET_WEBHOOK_ALLOWED_NETWORKS": "127.0.0.0/8"}
BOUND: Final = 26.0
"""Seconds: 20 to finish, 5 to give back, one to end."""


@pytest.fixture
def fleet(database_url: str, redis_url: str, place: Path) -> Iterator[Installation]:
    regions = slow_region(place, REGION, delay_seconds=0.8)
    with installation(place, database_url=database_url, redis_url=redis_url, regions=regions, **SETTINGS) as found:
        yield found


def test_a_worker_that_is_stopped_at_work_finishes_its_row_and_another_does_the_rest_at_once(
    fleet: Installation,
) -> None:
    first, second = fleet.worker(), None
    for number in range(SUBMISSIONS):
        fleet.submit(REGION, number=number)
    wait_until(lambda: deployed(fleet) > 0, seconds=30, otherwise=fleet.log)
    assert seconds_until_end(first, signal.SIGTERM) < BOUND
    assert first.returncode == 0, fleet.log()
    assert 0 < deployed(fleet) < SUBMISSIONS
    assert all(row.lease_until is None for row in fleet.deployments())
    second = fleet.worker()
    sweep(fleet.context, now=utc_now())
    fleet.wait_for_jobs(seconds=60)
    assert set(fleet.jobs()) == {"succeeded"}
    assert {row.attempt for row in fleet.deployments()} == {1}
    assert seconds_until_end(second, signal.SIGTERM) < 5


def test_a_second_signal_ends_a_worker_that_hangs_and_another_goes_on_at_once(fleet: Installation) -> None:
    (fleet.place / "hanging.toml").write_text(slow_region(fleet.place, REGION, delay_seconds=3600), encoding="utf-8")
    hanging = fleet.worker(CERTFLEET_REGIONS=str(fleet.place / "hanging.toml"))
    fleet.submit(REGION)
    wait_until(lambda: any(row.state == "deploying" for row in fleet.deployments()), seconds=30, otherwise=fleet.log)
    assert seconds_until_end(hanging, signal.SIGTERM, signal.SIGQUIT) < 10
    assert hanging.returncode == 1
    fleet.worker()
    sweep(fleet.context, now=utc_now())
    fleet.wait_for_jobs(seconds=60)
    assert [(row.state, row.attempt) for row in fleet.deployments()] == [("deployed", 2)]


def test_a_worker_that_hangs_ends_within_its_bound_by_itself(fleet: Installation) -> None:
    (fleet.place / "hanging.toml").write_text(slow_region(fleet.place, REGION, delay_seconds=3600), encoding="utf-8")
    hanging = fleet.worker(CERTFLEET_REGIONS=str(fleet.place / "hanging.toml"))
    fleet.submit(REGION)
    wait_until(lambda: any(row.state == "deploying" for row in fleet.deployments()), seconds=30, otherwise=fleet.log)
    assert 19 < seconds_until_end(hanging, signal.SIGTERM, signal.SIGTERM) < BOUND
    assert all(row.lease_until is None for row in fleet.deployments())


def test_a_courier_that_is_stopped_in_a_delivery_writes_down_how_it_went(fleet: Installation) -> None:
    courier = fleet.worker("courier", CERTFLEET_WEBHOOK_TIMEOUT_SECONDS="2")
    with running_receiver(Reply(hang=True)) as receiver:
        with fleet.context.transaction() as session:
            request = NewWebhook(url=receiver.url, types=("*",))
            webhooks.create_webhook(fleet.context, session, fleet.caller, request, now=utc_now())
            fact = Fact(type=EventType.JOB_SUCCEEDED, data=sample(EventType.JOB_SUCCEEDED))
            log.append(session, fleet.caller.account_id, [fact], now=utc_now())
        receiver.wait_for(1)
        assert seconds_until_end(courier, signal.SIGTERM) < 10
    assert courier.returncode == 0, fleet.log()
    with fleet.context.transaction() as session:
        delivery = session.execute(select(WebhookDelivery)).scalar_one()
        assert (delivery.state, delivery.attempt, delivery.lease_until) == ("pending", 1, None)


def test_a_request_that_is_under_way_when_the_api_is_stopped_gets_its_answer(fleet: Installation) -> None:
    port = choose_port(0)
    api = fleet.api(port)
    answers: list[tuple[int, dict[str, Any]]] = []

    def post() -> None:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
        headers = {"Authorization": f"Bearer {fleet.token}", "Content-Type": "application/json"}
        connection.request("POST", "/v1/certificates", json.dumps(upload(REGION)), headers)
        answer = connection.getresponse()
        answers.append((answer.status, json.loads(answer.read())))
        connection.close()

    with psycopg.connect(fleet.environ["DATABASE_URL"]) as holder:
        holder.execute("LOCK TABLE jobs IN ACCESS EXCLUSIVE MODE")
        request = threading.Thread(target=post)
        request.start()
        wait_until(lambda: somebody_waits(fleet), seconds=20, otherwise=fleet.log)
        api.send_signal(signal.SIGTERM)
        wait_until(lambda: "Handling signal: term" in fleet.log(), seconds=20, otherwise=fleet.log)
    request.join(30)
    assert [status for status, _ in answers] == [202]
    assert api.wait(20) == 0
    assert len(fleet.jobs()) == 1


def deployed(fleet: Installation) -> int:
    return sum(row.state == "deployed" for row in fleet.deployments())


def somebody_waits(fleet: Installation) -> bool:
    with psycopg.connect(fleet.environ["DATABASE_URL"]) as connection:
        found = connection.execute("SELECT count(*) FROM pg_locks WHERE NOT granted").fetchone()
    return bool(found and found[0])
