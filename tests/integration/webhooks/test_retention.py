"""What is old is forgotten from the front, never what is wanted, and never without a word to who comes for it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import event as listening
from sqlalchemy import select, text
from sqlalchemy.engine import Engine

from shared.errors import Transient
from shared.models import Event, EventCounter, PeriodicRun, WebhookAttempt, WebhookDelivery
from shared.usecases import retention, webhook_deliveries, webhook_replay
from shared.usecases.periodic import Periodic
from shared.usecases.retention import forget
from shared.usecases.webhook_replay import NewReplay, advance
from tests.support.api import Api, answer, build_api, codes
from tests.support.receiver import Receiver, Reply
from tests.support.stack import wait_until
from tests.support.webhook_world import World

DAY = timedelta(days=1)


@pytest.fixture
def api(world: World) -> Api:
    return build_api(world.fleet)


def happened(world: World, *ages: int) -> None:
    """One event each, so many days ago."""
    today = world.now
    for age in ages:
        world.now = today - age * DAY
        world.happen()
    world.now = today


def kept(world: World) -> list[int]:
    with world.transaction() as session:
        return list(session.execute(select(Event.sequence).order_by(Event.sequence)).scalars())


def rows(world: World) -> tuple[int, int]:
    """How many deliveries and attempts there are."""
    with world.transaction() as session:
        return session.query(WebhookDelivery).count(), session.query(WebhookAttempt).count()


def test_events_go_with_their_deliveries_and_attempts_when_they_are_old(world: World, receiver: Receiver) -> None:
    world.create(receiver.url)
    happened(world, 100, 91, 89, 1)
    world.deliver_waiting()
    assert forget(world.context, now=world.now) == 2
    assert kept(world) == [3, 4]
    assert rows(world) == (2, 2)
    assert forget(world.context, now=world.now) == 0


def test_numbers_go_on_after_everything_is_forgotten(world: World) -> None:
    happened(world, 100, 100)
    forget(world.context, now=world.now)
    world.happen()
    assert kept(world) == [3]


def test_attempts_go_earlier_than_their_deliveries(world: World, receiver: Receiver) -> None:
    receiver.reply_with(Reply(status=204), Reply(status=500))
    world.create(receiver.url)
    today = world.now
    world.now = today - 40 * DAY
    world.happen()
    world.deliver_waiting()
    world.happen()
    world.deliver_waiting()
    world.now = today
    forget(world.context, now=world.now)
    assert rows(world) == (2, 1)  # the one that still waits keeps its history


def test_what_waits_for_an_endpoint_is_kept_with_all_after_it(world: World, receiver: Receiver) -> None:
    receiver.reply_with(Reply(status=204), Reply(status=500), Reply(status=204))
    world.create(receiver.url)
    happened(world, 103, 102, 101)
    world.deliver_waiting()
    forget(world.context, now=world.now)
    assert kept(world) == [2, 3]


def test_events_in_front_of_a_replay_are_kept(
    world: World, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(webhook_replay, "BATCH", 2)
    happened(world, *[100] * 6)
    endpoint_id, _ = world.create(receiver.url)
    with world.transaction() as session:
        request = NewReplay(after=0)
        replay = webhook_replay.start_replay(session, world.caller, endpoint_id, request=request, now=world.now)
        replay_id = replay.id
    forget(world.context, now=world.now)
    assert kept(world) == [1, 2, 3, 4, 5, 6]
    advance(world.context, replay_id, now=world.now)
    for delivery_id in world.waiting():
        world.deliver(delivery_id)
    forget(world.context, now=world.now)
    assert kept(world) == [3, 4, 5, 6]
    world.now += timedelta(seconds=1)
    for _ in range(2):
        advance(world.context, replay_id, now=world.now)
        for delivery_id in world.waiting():
            world.deliver(delivery_id)
    assert len(receiver.received) == 6


def test_a_reader_whose_place_is_gone_is_told(world: World, api: Api) -> None:
    happened(world, 100, 100, 100, 1)
    forget(world.context, now=world.now)
    for path in ("/v1/events?after=2", "/v1/events?after=1&types=job.failed"):
        refused = api.client.get(path)
        assert (refused.status_code, answer(refused)["code"]) == (410, "events_expired")
        assert "after=3" in answer(refused)["hint"]
    assert [one["sequence"] for one in api.client.items("/v1/events?after=3")] == [4]
    assert [one["sequence"] for one in api.client.items("/v1/events?after=0")] == [4]
    assert [one["sequence"] for one in api.client.items("/v1/events")] == [4]
    streams = [
        api.client.get("/v1/events?after=2", headers={"Accept": "text/event-stream"}),
        api.client.get("/v1/events", headers={"Accept": "text/event-stream", "Last-Event-ID": "2"}),
    ]
    assert [response.status_code for response in streams] == [410, 410]


def test_an_account_that_forgot_nothing_of_its_own_is_not_told_of_anothers(world: World, api: Api) -> None:
    happened(world, 100, 100, 100)
    stranger = api.account("stranger")
    forget(world.context, now=world.now)
    assert stranger.get("/v1/events?after=2").status_code == 200


def test_a_replay_of_what_is_gone_is_refused_and_one_of_all_there_is_is_not(
    world: World, api: Api, receiver: Receiver
) -> None:
    happened(world, 100, 100, 100, 1)
    forget(world.context, now=world.now)
    endpoint_id, _ = world.create(receiver.url)
    path = f"/v1/webhooks/{endpoint_id}/replay"
    since = (world.now - 101 * DAY).isoformat()
    for body in ({"after": 2}, {"since": since}):
        refused = api.client.post(path, body)
        assert (refused.status_code, answer(refused)["code"]) == (410, "events_expired")
    assert api.client.post(path, {"since": (world.now - 2 * DAY).isoformat()}).status_code == 202
    (replay,) = api.client.items(f"/v1/webhooks/{endpoint_id}/replays")
    advance(world.context, replay["id"], now=world.now)
    assert len(world.waiting()) == 1
    assert codes(api.client.post(path, {"after": 5})) == {("after", "not_yet")}
    assert api.client.post(path, {"after": 0}).status_code == 202


def test_batches_are_small_and_a_run_is_bounded(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retention, "BATCH", 2)
    monkeypatch.setattr(retention, "MOST_BATCHES", 2)
    happened(world, *[100] * 7)
    assert [forget(world.context, now=world.now) for _ in range(3)] == [4, 3, 0]


def test_every_account_has_its_turn(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retention, "ACCOUNTS", 1)
    happened(world, 100)
    mine = world.fleet.caller
    world.fleet.caller = world.stranger()
    happened(world, 100)
    world.fleet.caller = mine
    assert forget(world.context, now=world.now) == 2
    assert kept(world) == []


def test_an_account_whose_turn_fails_keeps_no_other_from_its_own_and_the_run_is_not_noted(world: World) -> None:
    mine, other = world.fleet.caller, world.stranger()
    first, second = sorted((mine, other), key=lambda caller: caller.account_id)
    for world.fleet.caller in (first, second):
        happened(world, 100)
    world.fleet.caller = mine
    with refused(world, account_id=first.account_id), pytest.raises(Transient):
        forget(world.context, now=world.now)
    with world.transaction() as session:
        assert session.get_one(EventCounter, second.account_id).removed_through == 1
        assert session.get_one(EventCounter, first.account_id).removed_through == 0
        assert session.get(PeriodicRun, Periodic.RETENTION) is None
    assert forget(world.context, now=world.now) == 1


@contextmanager
def refused(world: World, *, account_id: str) -> Iterator[None]:
    """PostgreSQL gives up whenever an event of the account is to be deleted, as after its statement timeout (57014)."""
    with world.transaction() as session:
        session.execute(
            text("""
            CREATE FUNCTION give_up() RETURNS trigger LANGUAGE plpgsql
            AS $$ BEGIN RAISE EXCEPTION 'given up' USING ERRCODE = '57014'; END $$
        """)
        )
        session.execute(
            text(f"""
            CREATE TRIGGER give_up BEFORE DELETE ON events
            FOR EACH ROW WHEN (OLD.account_id = '{account_id}') EXECUTE FUNCTION give_up()
        """)
        )
    try:
        yield
    finally:
        with world.transaction() as session:
            session.execute(text("DROP FUNCTION give_up CASCADE"))


@pytest.fixture
def dying_before_events_go() -> Iterator[None]:
    """Whoever deletes events dies before it."""

    def die(_connection: object, _cursor: object, statement: str, *_rest: object) -> None:
        if statement.startswith("DELETE FROM events"):
            raise KeyboardInterrupt

    listening.listen(Engine, "before_cursor_execute", die)
    yield
    listening.remove(Engine, "before_cursor_execute", die)


@pytest.mark.usefixtures("dying_before_events_go")
def test_killed_in_a_batch_it_has_forgotten_nothing_of_it(world: World, receiver: Receiver) -> None:
    world.create(receiver.url)
    happened(world, 100, 100)
    world.deliver_waiting()
    with pytest.raises(KeyboardInterrupt):
        forget(world.context, now=world.now)
    assert kept(world) == [1, 2]
    assert rows(world)[0] == 2
    with world.transaction() as session:
        assert session.get_one(EventCounter, world.caller.account_id).removed_through == 0


def test_several_at_once_with_deliveries_and_new_events_lose_nothing(
    world: World, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retention, "BATCH", 3)
    world.create(receiver.url)
    happened(world, *[100] * 30)
    waiting = world.waiting()
    with ThreadPoolExecutor(6) as pool:
        jobs: list[Future[Any]] = [pool.submit(world.deliver, delivery_id) for delivery_id in waiting]
        jobs += [pool.submit(forget, world.context, now=world.now) for _ in range(6)]
        jobs += [pool.submit(world.happen) for _ in range(5)]
        for job in jobs:
            job.result()
    came = {json.loads(received.body)["sequence"] for received in receiver.received}
    assert came >= set(range(1, 31))
    assert kept(world)[-5:] == [31, 32, 33, 34, 35]
    forget(world.context, now=world.now)
    assert kept(world) == [31, 32, 33, 34, 35]


def test_a_clock_far_ahead_is_not_believed(world: World) -> None:
    happened(world, 1)
    forget(world.context, now=world.now + 400 * DAY)
    assert kept(world) == [1]


def test_how_long_is_the_operators_choice(world: World) -> None:
    settings = replace(world.context.settings, keep_events=2 * DAY)
    world.fleet.context = replace(world.context, settings=settings)
    happened(world, 3, 1)
    forget(world.context, now=world.now)
    assert kept(world) == [2]


def test_it_reads_by_index_however_much_is_young(world: World) -> None:
    happened(world, 100, 1)
    with world.transaction() as session:
        session.execute(text("SET LOCAL session_replication_role = replica"))
        session.execute(
            text("""
                INSERT INTO events (id, account_id, sequence, type, data, timestamp)
                SELECT 'young-' || n, account_id, 10 + n, type, data, timestamp
                FROM events, generate_series(1, 50000) n WHERE sequence = 2
            """)
        )
        session.execute(
            text("""
                INSERT INTO webhook_attempts (id, account_id, delivery_id, number, started_at, duration_ms)
                SELECT 'young-' || n, 'acc', 'delivery-' || n, 1, now(), 1 FROM generate_series(1, 50000) n
            """)
        )
    with world.transaction() as session:
        session.execute(text("ANALYZE events"))
        session.execute(text("ANALYZE webhook_attempts"))
    before = world.now - 90 * DAY
    accounts = plan(world, retention._WITH_OLD_EVENTS.text, after="", before=before, most=100)  # noqa: SLF001 - its plan is what is looked at
    attempts = plan(world, retention._OLD_ATTEMPTS.text, before=before, most=500)  # noqa: SLF001 - as above
    assert "Seq Scan on events" not in accounts
    assert "Seq Scan on webhook_attempts" not in attempts


def plan(world: World, statement: str, **values: object) -> str:
    with world.transaction() as session:
        return "\n".join(session.execute(text("EXPLAIN " + statement), values).scalars())


def test_a_delivery_replayed_meanwhile_keeps_its_event(world: World, receiver: Receiver) -> None:
    endpoint_id, _ = world.create(receiver.url)
    happened(world, 100, 100)
    waiting = world.waiting()
    for delivery_id in waiting:
        world.deliver(delivery_id)
    with ThreadPoolExecutor(1) as pool:
        with world.transaction() as session:
            webhook_deliveries.replay_delivery(
                session, world.caller, endpoint_id, delivery_id=waiting[1], now=world.now
            )
            forgetting = pool.submit(forget, world.context, now=world.now)
            wait_until(lambda: is_waiting(world), seconds=10, otherwise=lambda: "nobody waits for the delivery")
        assert forgetting.result() == 1
    assert kept(world) == [2]
    for delivery_id in world.waiting():
        world.deliver(delivery_id)
    assert len(receiver.received) == 3


def is_waiting(world: World) -> bool:
    """Whether somebody waits for a lock."""
    with world.transaction() as session:
        waiting = text("SELECT count(*) FROM pg_locks WHERE NOT granted")
        return bool(session.execute(waiting).scalar_one())


def test_a_delivery_that_was_forgotten_meanwhile_cannot_be_replayed(world: World, api: Api, receiver: Receiver) -> None:
    endpoint_id, _ = world.create(receiver.url)
    happened(world, 100)
    (delivery_id,) = world.waiting()
    world.deliver(delivery_id)
    forget(world.context, now=world.now)
    path = f"/v1/webhooks/{endpoint_id}/deliveries"
    assert api.client.post(f"{path}/{delivery_id}/replay").status_code == 404
    assert api.client.items(path) == []
    world.deliver(delivery_id)  # a wake-up that came late
    assert len(receiver.received) == 1
