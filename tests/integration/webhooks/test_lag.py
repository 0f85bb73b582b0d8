"""Consumer lag: on the endpoint, in the metrics, and bounded both in labels and in what it costs."""

from __future__ import annotations

import re
from datetime import timedelta

import pytest
from sqlalchemy import text

from shared.usecases import webhook_lag
from tests.support.api import Api, answer, build_api
from tests.support.receiver import Receiver, Reply
from tests.support.webhook_world import World

URL = "https://example.com/"


@pytest.fixture
def api(world: World) -> Api:
    return build_api(world.fleet)


def gauges(api: Api, name: str) -> dict[str, float]:
    page = api.client.get("/metrics").text
    return {
        label: float(value) for label, value in re.findall(rf'^{name}{{endpoint="(.+)"}} (.+)$', page, re.MULTILINE)
    }


def test_an_endpoint_shows_what_waits_and_for_how_long(world: World, api: Api, receiver: Receiver) -> None:
    endpoint_id, _ = world.create(receiver.url)
    path = f"/v1/webhooks/{endpoint_id}"
    assert answer(api.client.get(path))["lag"] == {"pending": 0, "oldest_seconds": 0.0}
    world.happen()
    world.now += timedelta(seconds=90)
    world.happen()
    assert answer(api.client.get(path))["lag"] == {"pending": 2, "oldest_seconds": 90.0}
    assert [one["lag"]["pending"] for one in api.client.items("/v1/webhooks")] == [2]
    world.deliver_waiting()
    assert answer(api.client.get(path))["lag"] == {"pending": 0, "oldest_seconds": 0.0}


def test_what_waits_for_a_retry_counts(world: World, api: Api, receiver: Receiver) -> None:
    receiver.reply_with(Reply(status=500))
    endpoint_id, _ = world.create(receiver.url)
    world.happen()
    world.deliver_waiting()
    world.now += timedelta(seconds=3)
    assert gauges(api, "certfleet_webhook_pending") == {endpoint_id: 1}
    assert gauges(api, "certfleet_webhook_oldest_seconds") == {endpoint_id: 3}


def test_the_metrics_name_only_those_farthest_behind(world: World, api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(webhook_lag, "MOST_SHOWN", 2)
    ids = []
    for _ in range(4):
        ids.append(world.create(URL)[0])
        world.happen()  # each endpoint hears one event less than the one before
        world.now += timedelta(seconds=10)
    assert gauges(api, "certfleet_webhook_pending") == {ids[0]: 4, ids[1]: 3}
    assert gauges(api, "certfleet_webhook_oldest_seconds") == {ids[0]: 40, ids[1]: 30}


def test_a_count_stops_where_it_costs_too_much(world: World, api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(webhook_lag, "MOST_COUNTED", 2)
    endpoint_id, _ = world.create(URL)
    for _ in range(4):
        world.happen()
    assert answer(api.client.get(f"/v1/webhooks/{endpoint_id}"))["lag"]["pending"] == 2


def test_it_is_read_from_the_index_however_much_has_been_delivered(world: World) -> None:
    endpoint_id, _ = world.create(URL)
    world.happen()
    with world.transaction() as session:
        session.execute(text("SET LOCAL session_replication_role = replica"))
        session.execute(
            text("""
                INSERT INTO webhook_deliveries
                    (id, account_id, endpoint_id, event_id, state, attempt, created_at, fence)
                SELECT 'done-' || n, account_id, endpoint_id, 'event-' || n, 'delivered', 1, created_at, 0
                FROM webhook_deliveries, generate_series(1, 100000) n
            """)
        )
    with world.transaction() as session:
        session.execute(text("ANALYZE webhook_deliveries"))
        values = {"looked_at": 1000, "shown": 20, "most": 10_000}
        explain = text("EXPLAIN (ANALYZE, BUFFERS, FORMAT TEXT) " + webhook_lag._FARTHEST.text)  # noqa: SLF001 - its plan is what is looked at
        plan = "\n".join(session.execute(explain, values).scalars())
    assert "Seq Scan on webhook_deliveries" not in plan
    read = re.search(r"Buffers: shared hit=(\d+)", plan)
    assert read is not None
    assert int(read[1]) < 100
    with world.transaction() as session:
        assert webhook_lag.farthest_behind(session)[endpoint_id].pending == 1
