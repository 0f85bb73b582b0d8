"""Bulk replay: from a cursor or a time, in order, batch by batch, once at a time, and nothing of another account's."""

from __future__ import annotations

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import event as listening
from sqlalchemy import select, text
from sqlalchemy.engine import Engine
from sqlalchemy.orm import Session

from shared.domain.webhooks import DeliveryState
from shared.events.catalogue import EventType
from shared.models import AuditEntry, WebhookDelivery, WebhookReplay
from shared.usecases import sweep, webhook_deliveries, webhook_replay, webhooks
from shared.usecases.webhook_delivery import work_in_lane
from shared.usecases.webhook_replay import NewReplay, advance
from shared.usecases.webhooks import Changes
from shared.wakeups import Task
from tests.support.api import Api, answer, build_api, codes
from tests.support.receiver import Receiver, Reply
from tests.support.webhook_world import World

NONE = Reply(status=500)


@pytest.fixture
def api(world: World) -> Api:
    return build_api(world.fleet)


@pytest.fixture
def small_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    """Three events a batch, so that a few events are several batches."""
    monkeypatch.setattr(webhook_replay, "BATCH", 3)


def events(world: World, count: int, event_type: EventType = EventType.JOB_SUCCEEDED) -> None:
    for _ in range(count):
        world.happen(event_type)


def run(world: World) -> None:
    """Do what was woken, in order, until nothing is: the queue of the workers."""
    room = world.fleet.room.waiting
    while room:
        wake_up = room.popleft()
        if wake_up.task is Task.LANE:
            work_in_lane(world.courier(), wake_up.id)
        elif wake_up.task is Task.REPLAY:
            advance(world.context, wake_up.id, now=world.now)


def started(world: World, endpoint_id: str, **request: Any) -> str:
    with world.transaction() as session:
        new = NewReplay(**request)
        return webhook_replay.start_replay(session, world.caller, endpoint_id, request=new, now=world.now).id


def replay_of(world: World, replay_id: str) -> WebhookReplay:
    with world.transaction() as session:
        return session.get_one(WebhookReplay, replay_id)


def sequences(receiver: Receiver) -> list[int]:
    return [json.loads(received.body)["sequence"] for received in receiver.received]


@pytest.mark.usefixtures("small_batches")
def test_what_happened_before_the_endpoint_was_made_is_sent_in_order(world: World, receiver: Receiver) -> None:
    events(world, 8)
    endpoint_id, _ = world.create(receiver.url)
    replay_id = started(world, endpoint_id, after=1)
    run(world)
    assert sequences(receiver) == [2, 3, 4, 5, 6, 7, 8]
    replay = replay_of(world, replay_id)
    assert (replay.state, replay.position, replay.queued, replay.skipped) == ("finished", 8, 7, 0)
    assert replay.finished_at == world.now


@pytest.mark.usefixtures("small_batches")
def test_a_replay_sends_the_same_ids_and_bytes_again(world: World, receiver: Receiver) -> None:
    endpoint_id, _ = world.create(receiver.url)
    events(world, 4)
    run(world)
    started(world, endpoint_id, after=0)
    run(world)
    first, second = receiver.received[:4], receiver.received[4:]
    assert [(one.headers["webhook-id"], one.body) for one in first] == [
        (one.headers["webhook-id"], one.body) for one in second
    ]


@pytest.mark.usefixtures("small_batches")
def test_only_failed_leaves_out_what_was_delivered(world: World, receiver: Receiver) -> None:
    receiver.reply_with(Reply(status=204), NONE, Reply(status=204), NONE)
    endpoint_id, _ = world.create(receiver.url)
    events(world, 4)
    run(world)
    replay_id = started(world, endpoint_id, after=0, only_failed=True)
    run(world)
    assert sequences(receiver)[4:] == [2, 4]
    assert (replay_of(world, replay_id).queued, replay_of(world, replay_id).skipped) == (2, 2)


def test_what_was_missed_while_disabled_is_sent_after_enabling(world: World, receiver: Receiver) -> None:
    endpoint_id, _ = world.create(receiver.url)
    events(world, 1)
    switch(world, endpoint_id, enabled=False)
    events(world, 2)
    run(world)
    switch(world, endpoint_id, enabled=True)
    started(world, endpoint_id, after=0, only_failed=True)
    run(world)
    assert sequences(receiver) == [1, 2, 3]


def test_the_filters_of_the_endpoint_and_of_the_replay_both_count(world: World, receiver: Receiver) -> None:
    events(world, 1, EventType.JOB_SUCCEEDED)
    events(world, 1, EventType.JOB_FAILED)
    events(world, 1, EventType.DEPLOYMENT_FAILED)
    endpoint_id, _ = world.create(receiver.url, "job.*")
    with world.transaction() as session:
        webhook_deliveries.send_test(session, world.caller, endpoint_id, now=world.now)
    run(world)
    started(world, endpoint_id, after=0, types=("*.failed",))
    run(world)
    assert sequences(receiver) == [4, 2]  # the test event, sent, is not replayed


def test_a_time_is_where_it_begins_and_ends(world: World, receiver: Receiver) -> None:
    begin = world.now
    for hour in range(5):
        world.now = begin + timedelta(hours=hour)
        events(world, 1)
    endpoint_id, _ = world.create(receiver.url)
    since, until = begin + timedelta(hours=1), begin + timedelta(hours=3)
    replay_id = started(world, endpoint_id, since=since, until=until)
    run(world)
    assert sequences(receiver) == [2, 3, 4]
    assert replay_of(world, replay_id).after_sequence == 1  # found by halving, not by reading everything


def test_an_event_committed_late_is_not_left_out_by_its_time(world: World, receiver: Receiver) -> None:
    begin = world.now
    world.now = begin + timedelta(seconds=20)
    events(world, 1)
    world.now = begin  # a transaction that began earlier and was committed later
    events(world, 1)
    world.now = begin + timedelta(minutes=1)
    endpoint_id, _ = world.create(receiver.url)
    started(world, endpoint_id, since=begin + timedelta(seconds=10))
    run(world)
    assert sequences(receiver) == [1]


@pytest.mark.usefixtures("small_batches")
def test_a_batch_waits_until_the_one_before_has_been_tried(world: World, receiver: Receiver) -> None:
    events(world, 6)
    endpoint_id, _ = world.create(receiver.url)
    replay_id = started(world, endpoint_id, after=0)
    advance(world.context, replay_id, now=world.now)
    advance(world.context, replay_id, now=world.now)
    assert replay_of(world, replay_id).position == 3
    waiting = world.waiting()
    assert len(waiting) == 3
    for delivery_id in waiting:
        world.deliver(delivery_id)
    world.now += timedelta(seconds=1)
    advance(world.context, replay_id, now=world.now)
    assert replay_of(world, replay_id).position == 6


@pytest.mark.usefixtures("small_batches")
def test_a_receiver_that_is_down_gathers_no_mountain(
    world: World, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(webhook_replay, "MOST_WAITING", 5)
    receiver.reply_with(*[NONE] * 20)
    events(world, 20)
    endpoint_id, _ = world.create(receiver.url)
    replay_id = started(world, endpoint_id, after=0)
    run(world)
    assert replay_of(world, replay_id).queued == 6
    world.now += timedelta(seconds=2)
    advance(world.context, replay_id, now=world.now)
    assert (replay_of(world, replay_id).queued, replay_of(world, replay_id).state) == (6, "running")


@pytest.mark.usefixtures("small_batches")
def test_a_replay_that_lost_every_wake_up_is_finished_by_the_sweep(world: World, receiver: Receiver) -> None:
    events(world, 7)
    endpoint_id, _ = world.create(receiver.url)
    replay_id = started(world, endpoint_id, after=0)
    for _ in range(20):
        world.fleet.room.waiting.clear()
        world.now += timedelta(seconds=31)
        sweep.sweep(world.context, now=world.now)
        run_swept(world)
    assert replay_of(world, replay_id).state == "finished"
    assert sorted(sequences(receiver)) == [1, 2, 3, 4, 5, 6, 7]


def run_swept(world: World) -> None:
    """Do what the sweep woke; whatever that wakes in turn is lost."""
    for wake_up in list(world.fleet.room.waiting):
        if wake_up.task is Task.LANE:
            work_in_lane(world.courier(), wake_up.id)
        elif wake_up.task is Task.REPLAY:
            advance(world.context, wake_up.id, now=world.now)


@contextmanager
def dying_at(statement: str) -> Iterator[None]:
    """Whoever sends such a statement dies before it."""

    def die(_connection: Any, _cursor: Any, sent: str, *_rest: Any) -> None:
        if statement in sent:
            raise KeyboardInterrupt

    listening.listen(Engine, "before_cursor_execute", die)
    try:
        yield
    finally:
        listening.remove(Engine, "before_cursor_execute", die)


@pytest.mark.usefixtures("small_batches")
@pytest.mark.parametrize("statement", ["UPDATE webhook_deliveries AS", "SET position="])
def test_killed_in_a_batch_it_is_done_once_by_the_next(world: World, receiver: Receiver, statement: str) -> None:
    events(world, 5)
    endpoint_id, _ = world.create(receiver.url)
    replay_id = started(world, endpoint_id, after=0)
    with dying_at(statement), pytest.raises(KeyboardInterrupt):
        advance(world.context, replay_id, now=world.now)
    assert (replay_of(world, replay_id).position, replay_of(world, replay_id).queued) == (0, 0)
    run(world)
    assert sequences(receiver) == [1, 2, 3, 4, 5]
    assert replay_of(world, replay_id).queued == 5


def test_two_workers_at_the_same_replay_queue_each_event_once(world: World, receiver: Receiver) -> None:
    events(world, 50)
    endpoint_id, _ = world.create(receiver.url)
    replay_id = started(world, endpoint_id, after=0)
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda _: advance(world.context, replay_id, now=world.now), range(8)))
    assert replay_of(world, replay_id).queued == 50
    assert len(world.waiting()) == 50


def test_of_replays_asked_for_at_once_one_runs(world: World, api: Api, receiver: Receiver) -> None:
    events(world, 3)
    endpoint_id, _ = world.create(receiver.url)
    clients = [api.scoped("write") for _ in range(6)]  # type: ignore[arg-type]  # the scope's own word
    with ThreadPoolExecutor(6) as pool:
        responses = list(pool.map(lambda each: each.post(f"/v1/webhooks/{endpoint_id}/replay", {"after": 0}), clients))
    assert sorted(response.status_code for response in responses) == [202, 409, 409, 409, 409, 409]
    (begun,) = [answer(response) for response in responses if response.status_code == 202]
    for response in responses:
        if response.status_code == 409:
            refused = answer(response)
            assert (refused["code"], refused["context"]["replay_id"]) == ("replay_running", begun["id"])
    run(world)
    assert api.client.post(f"/v1/webhooks/{endpoint_id}/replay", {"after": 0}).status_code == 202


def test_the_same_key_begins_one_replay(world: World, api: Api, receiver: Receiver) -> None:
    events(world, 3)
    endpoint_id, _ = world.create(receiver.url)
    path, headers = f"/v1/webhooks/{endpoint_id}/replay", {"Idempotency-Key": "again"}
    first, second = (api.client.post(path, {"after": 0}, headers=headers) for _ in range(2))
    assert answer(first) == answer(second)
    assert second.headers["Idempotency-Replayed"] == "true"
    run(world)
    assert len(api.client.items(f"/v1/webhooks/{endpoint_id}/replays")) == 1
    assert sequences(receiver) == [1, 2, 3]


def test_progress_is_seen_and_the_deed_is_in_the_audit(world: World, api: Api, receiver: Receiver) -> None:
    events(world, 3)
    endpoint_id, _ = world.create(receiver.url)
    begun = api.client.post(f"/v1/webhooks/{endpoint_id}/replay", {"since": "2020-01-01"})
    assert begun.status_code == 202
    shown = answer(api.client.get(begun.headers["Location"]))
    assert (shown["state"], shown["position"], shown["until_sequence"]) == ("running", 0, 3)
    run(world)
    shown = answer(api.client.get(begun.headers["Location"]))
    assert (shown["state"], shown["position"], shown["queued"]) == ("finished", 3, 3)
    with world.transaction() as session:
        actions = session.execute(select(AuditEntry.action)).scalars().all()
    assert "webhook.replay_started" in actions


@pytest.mark.parametrize(
    ("body", "refused"),
    [
        ({}, {("after", "after_or_since")}),
        ({"after": 1, "since": "2030-01-01"}, {("after", "after_or_since")}),
        ({"after": -1}, {("after", "out_of_range")}),
        ({"after": 2**63}, {("after", "out_of_range")}),
        ({"after": 2**62}, {("after", "not_yet")}),
        ({"after": "1"}, {("after", "wrong_type")}),
        ({"since": "yesterday"}, {("since", "invalid_time")}),
        ({"since": "9999-12-31T23:59:59Z"}, {("since", "not_yet")}),
        ({"since": "2020-01-02", "until": "2020-01-01"}, {("until", "ends_before_it_begins")}),
        ({"after": 0, "types": ["jobs.*"]}, {("types.0", "unknown_event_type")}),
        ({"after": 0, "only_failed": "yes"}, {("only_failed", "wrong_type")}),
        ({"after": 0, "limit": 5}, {("limit", "unknown_field")}),
    ],
)
def test_a_bad_replay_is_refused_by_field(
    world: World, api: Api, body: dict[str, Any], refused: set[tuple[str, str]]
) -> None:
    events(world, 1)
    endpoint_id, _ = world.create("https://example.com/")
    assert codes(api.client.post(f"/v1/webhooks/{endpoint_id}/replay", body)) == refused


@pytest.mark.parametrize("since", ["0001-01-01T00:00:00Z", "0001-01-01T00:00:00+14:00"])
def test_since_the_beginning_of_time_until_its_end_is_everything(
    world: World, api: Api, receiver: Receiver, since: str
) -> None:
    events(world, 2)
    endpoint_id, _ = world.create(receiver.url)
    body = {"since": since, "until": "9999-12-31T23:59:59-14:00"}
    assert api.client.post(f"/v1/webhooks/{endpoint_id}/replay", body).status_code == 202
    run(world)
    assert sequences(receiver) == [1, 2]


def test_an_account_without_events_has_nothing_to_replay(world: World, api: Api) -> None:
    endpoint_id, _ = world.create("https://example.com/")
    begun = answer(api.client.post(f"/v1/webhooks/{endpoint_id}/replay", {"after": 0}))
    run(world)
    shown = answer(api.client.get(f"/v1/webhooks/{endpoint_id}/replays/{begun['id']}"))
    assert (shown["state"], shown["queued"]) == ("finished", 0)


def test_another_account_can_neither_replay_nor_see(world: World, api: Api, receiver: Receiver) -> None:
    events(world, 2)
    endpoint_id, _ = world.create(receiver.url)
    replay_id = started(world, endpoint_id, after=0)
    stranger = api.account("stranger")
    theirs = answer(stranger.post("/v1/webhooks", {"url": "https://example.com/"}))["id"]
    refused = [
        stranger.post(f"/v1/webhooks/{endpoint_id}/replay", {"after": 0}),
        stranger.get(f"/v1/webhooks/{endpoint_id}/replays"),
        stranger.get(f"/v1/webhooks/{endpoint_id}/replays/{replay_id}"),
        stranger.post(f"/v1/webhooks/{endpoint_id}/replays/{replay_id}/cancel"),
        stranger.get(f"/v1/webhooks/{theirs}/replays/{replay_id}"),
        stranger.post(f"/v1/webhooks/{theirs}/replays/{replay_id}/cancel"),
    ]
    assert [response.status_code for response in refused] == [404] * len(refused)
    # another account's sequences are no place of this one's
    assert codes(stranger.post(f"/v1/webhooks/{theirs}/replay", {"after": 2})) == {("after", "not_yet")}
    stranger.post(f"/v1/webhooks/{theirs}/replay", {"after": 0})
    run(world)
    with world.transaction() as session:
        found = session.execute(select(WebhookDelivery.id).where(WebhookDelivery.endpoint_id == theirs))
        assert found.all() == []


def test_reading_does_not_replay(world: World, api: Api) -> None:
    endpoint_id, _ = world.create("https://example.com/")
    reader = api.scoped("read")  # type: ignore[arg-type]  # the scope's own word
    assert reader.post(f"/v1/webhooks/{endpoint_id}/replay", {"after": 0}).status_code == 403
    assert reader.get(f"/v1/webhooks/{endpoint_id}/replays").status_code == 200


@pytest.mark.usefixtures("small_batches")
def test_a_cancelled_replay_queues_nothing_more(world: World, api: Api, receiver: Receiver) -> None:
    events(world, 6)
    endpoint_id, _ = world.create(receiver.url)
    replay_id = started(world, endpoint_id, after=0)
    advance(world.context, replay_id, now=world.now)
    path = f"/v1/webhooks/{endpoint_id}/replays/{replay_id}/cancel"
    first, second = (answer(api.client.post(path)) for _ in range(2))
    assert (first["state"], second) == ("cancelled", first)
    run(world)
    assert sequences(receiver) == [1, 2, 3]


@pytest.mark.usefixtures("small_batches")
@pytest.mark.parametrize("how", ["disable", "delete"])
def test_disabling_or_deleting_ends_the_replay(world: World, receiver: Receiver, how: str) -> None:
    events(world, 6)
    endpoint_id, _ = world.create(receiver.url)
    replay_id = started(world, endpoint_id, after=0)
    advance(world.context, replay_id, now=world.now)
    if how == "disable":
        switch(world, endpoint_id, enabled=False)
    else:
        with world.transaction() as session:
            webhooks.delete_webhook(session, world.caller, endpoint_id, now=world.now)
    run(world)
    assert sequences(receiver) == []
    assert replay_of(world, replay_id).state == "cancelled"
    with world.transaction() as session:
        states = session.execute(select(WebhookDelivery.state)).scalars().all()
    assert set(states) == {DeliveryState.CANCELLED}


def test_a_delivery_on_its_way_is_left_alone(world: World, receiver: Receiver) -> None:
    endpoint_id, _ = world.create(receiver.url)
    events(world, 1)
    (delivery_id,) = world.waiting()
    with world.transaction() as session:
        own(session, delivery_id, until=world.now + timedelta(seconds=25))
    replay_id = started(world, endpoint_id, after=0)
    run(world)
    assert (replay_of(world, replay_id).queued, replay_of(world, replay_id).skipped) == (0, 1)
    assert world.delivery(delivery_id).lease_until == world.now + timedelta(seconds=25)


def own(session: Session, delivery_id: str, *, until: datetime) -> None:
    statement = text("UPDATE webhook_deliveries SET lease_until = :until, next_wake_at = :until WHERE id = :id")
    session.execute(statement, {"until": until, "id": delivery_id})


def test_deliveries_are_listed_by_state_and_type(world: World, api: Api, receiver: Receiver) -> None:
    receiver.reply_with(Reply(status=204), NONE)
    endpoint_id, _ = world.create(receiver.url)
    events(world, 1, EventType.JOB_FAILED)
    events(world, 1, EventType.DEPLOYMENT_FAILED)
    run(world)
    path = f"/v1/webhooks/{endpoint_id}/deliveries"
    assert [one["event_type"] for one in api.client.items(f"{path}?state=pending")] == ["deployment.failed"]
    assert [one["event_type"] for one in api.client.items(f"{path}?event_type=job.*")] == ["job.failed"]
    assert api.client.items(f"{path}?event_type=job.failed&state=pending") == []
    assert codes(api.client.get(f"{path}?state=lost")) == {("state", "not_one_of")}
    first = answer(api.client.get(f"{path}?limit=1"))
    assert codes(api.client.get(f"{path}?state=pending&cursor={first['next_cursor']}")) == {
        ("cursor", "invalid_cursor")
    }


def switch(world: World, endpoint_id: str, *, enabled: bool) -> None:
    with world.transaction() as session:
        webhooks.update_webhook(
            world.context, session, world.caller, endpoint_id, changes=Changes(enabled=enabled), now=world.now
        )
