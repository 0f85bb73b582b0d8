"""Lanes: a sick receiver keeps its own lane waiting and no other, whatever it does and however many there are."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace
from datetime import timedelta

import pytest
from sqlalchemy import event as listening
from sqlalchemy import func, select, text
from sqlalchemy.engine import Engine

from shared.domain.lanes import OUTAGE, Lane, Pace
from shared.domain.webhooks import Answer
from shared.models import WebhookDelivery, WebhookEndpoint, WebhookLane, leases
from shared.usecases import webhook_deliveries, webhook_lanes, webhooks
from shared.usecases.sweep import sweep
from shared.usecases.webhook_delivery import Request, lease_of, work_in_lane
from shared.usecases.webhook_lanes import Standing
from shared.usecases.webhooks import Changes
from shared.wakeups import Task, WakeUp
from tests.support.api import answer, build_api
from tests.support.couriers import running_couriers
from tests.support.fleet import server_upload
from tests.support.receiver import Receiver, Reply, running_receiver
from tests.support.webhook_world import InterruptedSender, World

HANG = Reply(hang=True)
NO = Reply(status=500)
LONG = timedelta(seconds=120)
"""The timeout where a black hole must hold its connections for longer than the test takes."""


@pytest.fixture
def receivers() -> Iterator[list[Receiver]]:
    with ExitStack() as stack:
        yield [stack.enter_context(running_receiver()) for _ in range(5)]


def change(world: World, **settings: object) -> None:
    world.fleet.context = replace(world.context, settings=replace(world.context.settings, **settings))  # type: ignore[arg-type] # fields of Settings


def sequences(receiver: Receiver, count: int = 0) -> list[int]:
    """In order of arrival, once so many have come."""
    return [json.loads(received.body)["sequence"] for received in receiver.wait_for(count)]


def show(world: World, lane_id: str, lane: Lane) -> None:
    """Write down that the receiver has shown this."""
    with world.transaction() as session:
        webhook_lanes.keep(webhook_lanes.hold(session, lane_id), lane)


def lane_of(world: World, lane_id: str) -> Lane:
    with world.transaction() as session:
        return webhook_lanes.value_of(session.get_one(WebhookLane, lane_id))


def happen(world: World, count: int) -> None:
    for _ in range(count):
        world.happen()


def test_while_a_black_hole_holds_its_connections_every_healthy_delivery_arrives(
    world: World, receivers: list[Receiver]
) -> None:
    change(world, webhook_timeout=LONG)
    hole, *healthy = receivers
    hole.reply_with(HANG)
    hole_id, _ = world.create(hole.url)
    show(world, hole_id, Lane(pace=Pace.BRISK))  # it was fine until now, and gets as many threads as one may have
    for each in healthy:
        world.create(each.url)
    with running_couriers(world, processes=2, threads=6, places=2, holes=[hole]) as shared:
        happen(world, 20)
        for each in healthy:
            assert sorted(sequences(each, 20)) == list(range(1, 21))
        hole.wait_for(4)
        assert (len(hole.received), hole.most_at_once) == (4, 4)
    assert shared.failures == []


def test_however_many_new_receivers_are_black_holes_threads_are_left_for_those_that_answer(
    world: World, receivers: list[Receiver]
) -> None:
    change(world, webhook_timeout=LONG)
    healthy = receivers.pop()
    healthy_id, _ = world.create(healthy.url)
    show(world, healthy_id, Lane(pace=Pace.SWIFT))
    for hole in receivers * 5:
        hole.reply_with(HANG)
        world.create(hole.url)
    with running_couriers(world, processes=1, threads=4, places=3, holes=receivers):
        happen(world, 10)
        assert sequences(healthy, 10) == list(range(1, 11))
        assert sum(len(hole.received) for hole in receivers) <= 3


def test_callbacks_of_many_jobs_to_one_dead_host_are_one_lane(world: World, receiver: Receiver) -> None:
    change(world, webhook_timeout=LONG)
    receiver.reply_with(HANG)
    with running_receiver() as healthy, running_couriers(world, processes=2, threads=4, places=3, holes=[receiver]):
        for _ in range(6):
            world.fleet.submit(server_upload(callback_url=receiver.url))
        world.create(healthy.url)
        happen(world, 3)
        healthy.wait_for(3)
        receiver.wait_for(1)
        assert receiver.most_at_once == 1


def test_two_accounts_callbacks_to_one_host_are_two_lanes() -> None:
    url = "https://ci.example.com/hooks?job=1"
    ours, theirs = (webhook_lanes.lane_of_callback(each, url) for each in ("acc_1", "acc_2"))
    assert ours != theirs
    assert ours == webhook_lanes.lane_of_callback("acc_1", "https://ci.example.com:443/others")


def test_with_one_at_a_time_any_number_of_couriers_deliver_in_the_order_of_the_events(
    world: World, receiver: Receiver
) -> None:
    change(world, webhook_at_once=1)
    world.create(receiver.url)
    with running_couriers(world, processes=2, threads=4, places=2):
        happen(world, 30)
        arrived = sequences(receiver, 30)
    assert arrived == list(range(1, 31))
    assert receiver.most_at_once == 1


def test_no_number_of_couriers_has_more_on_the_way_than_may_be(world: World, receiver: Receiver) -> None:
    change(world, webhook_timeout=LONG, webhook_at_once=3)
    receiver.reply_with(HANG)
    endpoint_id, _ = world.create(receiver.url)
    show(world, endpoint_id, Lane(pace=Pace.BRISK))
    with running_couriers(world, processes=4, threads=4, places=4, holes=[receiver]) as shared:
        happen(world, 30)
        shared.publish(WakeUp(Task.LANE, endpoint_id) for _ in range(3))
        receiver.wait_for(3)
        assert receiver.most_at_once == 3
        assert on_their_way(world) == 3


def on_their_way(world: World) -> int:
    with world.transaction() as session:
        counted = select(func.count()).where(WebhookDelivery.lease_until.is_not(None))
        return session.execute(counted).scalar_one()


class Killed(BaseException):
    """A worker's end in the middle of a request."""


class KilledSender:
    """The process is killed while the receiver has the request."""

    def send(self, request: Request, *, deadline: timedelta) -> Answer:
        raise Killed(request.url, deadline)


def test_a_courier_that_is_killed_in_a_delivery_holds_its_lane_for_one_lease_and_nothing_is_lost(
    world: World, receiver: Receiver
) -> None:
    endpoint_id, _ = world.create(receiver.url)
    happen(world, 3)
    with pytest.raises(Killed):
        work_in_lane(world.courier(sender=KilledSender()), endpoint_id)
    world.fleet.room.waiting.clear()  # and every wake-up with it
    first = waiting_of(world)[0]
    assert world.standing(first) is Standing.FULL
    world.now += lease_of(world.context.settings)
    sweep(world.context, now=world.now)
    world.deliver_waiting()
    assert sequences(receiver) == [1, 2, 3]


def waiting_of(world: World) -> list[str]:
    with world.transaction() as session:
        return list(session.execute(select(WebhookDelivery.id).order_by(WebhookDelivery.sequence)).scalars())


@pytest.mark.parametrize("how", ["disable", "delete"])
def test_disabled_or_deleted_in_the_middle_of_a_turn_nothing_more_is_sent(
    world: World, receiver: Receiver, how: str
) -> None:
    endpoint_id, _ = world.create(receiver.url)
    show(world, endpoint_id, Lane(pace=Pace.SWIFT))
    happen(world, 4)

    def stop() -> None:
        with world.transaction() as session:
            if how == "disable":
                off = Changes(enabled=False)
                webhooks.update_webhook(world.context, session, world.caller, endpoint_id, changes=off, now=world.now)
            else:
                webhooks.delete_webhook(session, world.caller, endpoint_id, now=world.now)

    work_in_lane(world.courier(sender=InterruptedSender(world.sender, stop)), endpoint_id)
    assert sequences(receiver) == [1]
    assert [world.delivery(each).state for each in waiting_of(world)] == ["delivered", *["cancelled"] * 3]


def test_a_lane_whose_every_wake_up_was_lost_is_found_by_the_sweep_with_one_message(
    world: World, receiver: Receiver
) -> None:
    endpoint_id, _ = world.create(receiver.url)
    happen(world, 50)
    world.fleet.room.waiting.clear()
    world.now += timedelta(seconds=11)
    sweep(world.context, now=world.now)
    assert list(world.fleet.room.waiting) == [WakeUp(Task.LANE, endpoint_id)]
    world.deliver_waiting()
    assert sequences(receiver) == list(range(1, 51))


def test_an_event_that_came_while_the_lane_was_full_is_delivered_by_whoever_filled_it(
    world: World, receiver: Receiver
) -> None:
    endpoint_id, _ = world.create(receiver.url)
    show(world, endpoint_id, Lane(pace=Pace.SWIFT))
    happen(world, 1)
    world.fleet.room.waiting.clear()

    def another_comes() -> None:
        if len(receiver.received) == 1:
            happen(world, 1)
            work_in_lane(world.courier(), endpoint_id)  # finds it full, and leaves
            world.fleet.room.waiting.clear()

    work_in_lane(world.courier(sender=InterruptedSender(world.sender, another_comes)), endpoint_id)
    assert sequences(receiver) == [1, 2]


def test_after_failures_in_a_row_the_receiver_rests_and_is_woken_when_the_rest_is_over(
    world: World, receiver: Receiver
) -> None:
    receiver.reply_with(NO)
    endpoint_id, _ = world.create(receiver.url)
    happen(world, 10)
    world.deliver_waiting()
    assert len(receiver.received) == 3
    lane = lane_of(world, endpoint_id)
    assert lane.failures == 3
    assert lane.rests_until is not None
    assert timedelta(seconds=5) <= lane.rests_until - world.now < timedelta(seconds=7)
    with world.transaction() as session:
        taken = leases.take_unowned(session, WebhookDelivery, now=lane.rests_until, limit=100)
    assert taken != []
    world.now = lane.rests_until
    work_in_lane(world.courier(), endpoint_id)
    assert len(receiver.received) == 4
    work_in_lane(world.courier(), endpoint_id)
    assert len(receiver.received) == 4  # twice as long now


def test_a_receiver_that_asks_for_a_pause_gets_no_other_event_meanwhile(world: World, receiver: Receiver) -> None:
    receiver.reply_with(Reply(status=429, headers={"retry-after": "30"}), Reply())
    endpoint_id, _ = world.create(receiver.url)
    happen(world, 3)
    world.deliver_waiting()
    assert len(receiver.received) == 1
    world.now += timedelta(seconds=29)
    work_in_lane(world.courier(), endpoint_id)
    assert len(receiver.received) == 1
    world.now += timedelta(seconds=3)
    world.fleet.room.publish([WakeUp(Task.LANE, endpoint_id)])
    world.deliver_waiting()
    assert sorted(sequences(receiver)[1:]) == [1, 2, 3]


def test_an_event_that_its_receiver_cannot_take_keeps_no_other_waiting(world: World, receiver: Receiver) -> None:
    receiver.reply_with(Reply(), NO, *[Reply()] * 8)
    world.create(receiver.url)
    happen(world, 10)
    world.deliver_waiting()
    assert sequences(receiver) == list(range(1, 11))
    world.now += timedelta(seconds=10)
    sweep(world.context, now=world.now)
    world.deliver_waiting()
    assert sequences(receiver)[10:] == [2]


def test_after_an_outage_what_waited_is_sent_in_the_order_of_the_events(world: World, receiver: Receiver) -> None:
    change(world, webhook_retry_schedule=(timedelta(seconds=5), *[timedelta(hours=5)] * 20))
    receiver.reply_with(NO)
    endpoint_id, _ = world.create(receiver.url)
    happen(world, 20)
    world.deliver_waiting()
    while lane_of(world, endpoint_id).failures < OUTAGE + 2:
        world.now += timedelta(seconds=61)
        sweep(world.context, now=world.now)
        world.deliver_waiting()
    tried = len(receiver.received)
    receiver.reply_with(Reply())
    world.now += timedelta(seconds=61)
    sweep(world.context, now=world.now)
    world.deliver_waiting()
    probe, *rest = sequences(receiver)[tried:]
    assert sorted([probe, *rest]) == list(range(1, 21))
    assert rest == sorted(rest)
    ids: dict[str, set[bytes]] = {}
    for received in receiver.received:
        ids.setdefault(received.headers["webhook-id"], set()).add(received.body)
    assert len(ids) == 20
    assert {len(bodies) for bodies in ids.values()} == {1}


def test_new_events_do_not_wait_for_replayed_ones(world: World, receiver: Receiver) -> None:
    endpoint_id, _ = world.create(receiver.url)
    happen(world, 3)
    world.deliver_waiting()
    for delivery_id in waiting_of(world):
        with world.transaction() as session:
            webhook_deliveries.replay_delivery(
                session, world.caller, endpoint_id, delivery_id=delivery_id, now=world.now
            )
    happen(world, 2)
    world.deliver_waiting()
    assert sequences(receiver) == [1, 2, 3, 4, 5, 1, 2, 3]


def test_a_test_event_is_tried_at_once_though_the_receiver_rests(world: World, receiver: Receiver) -> None:
    receiver.reply_with(*[NO] * 3, Reply())
    endpoint_id, _ = world.create(receiver.url)
    happen(world, 5)
    world.deliver_waiting()
    assert len(receiver.received) == 3
    with world.transaction() as session:
        webhook_deliveries.send_test(session, world.caller, endpoint_id, now=world.now)
    world.deliver_waiting()
    assert len(receiver.received) > 3


@pytest.mark.parametrize("changes", [Changes(url="https://example.org/new"), Changes(enabled=False)])
def test_another_url_or_enabling_it_again_forgets_what_the_receiver_has_shown(world: World, changes: Changes) -> None:
    endpoint_id, _ = world.create("https://example.com/")
    show(world, endpoint_id, Lane(pace=Pace.SLOW, failures=9, rests_until=world.now + timedelta(minutes=1)))
    for each in (changes, Changes(enabled=True)):
        with world.transaction() as session:
            webhooks.update_webhook(world.context, session, world.caller, endpoint_id, changes=each, now=world.now)
    assert lane_of(world, endpoint_id) == Lane()


def test_after_the_clock_went_back_no_receiver_is_left_alone_for_long(world: World) -> None:
    show(world, "whk_1", Lane(failures=9, rests_until=world.now + timedelta(hours=1)))
    sweep(world.context, now=world.now)
    assert lane_of(world, "whk_1").rests_until == world.now + world.context.settings.webhook_rest


def test_what_a_release_without_lanes_has_written_is_delivered_too(world: World, receiver: Receiver) -> None:
    endpoint_id, _ = world.create(receiver.url)
    happen(world, 2)
    world.fleet.room.waiting.clear()
    with world.transaction() as session:
        for table in ("webhook_deliveries", "webhook_endpoints"):
            session.execute(text(f"UPDATE {table} SET lane = ''"))  # noqa: S608 - names of our own tables
    world.now += timedelta(seconds=11)
    sweep(world.context, now=world.now)
    world.deliver_waiting()
    happen(world, 1)
    world.deliver_waiting()
    assert sequences(receiver) == [1, 2, 3]
    with world.transaction() as session:
        assert set(session.execute(select(WebhookDelivery.lane)).scalars()) == {endpoint_id}
        assert session.get_one(WebhookEndpoint, endpoint_id).lane == ""


def test_the_owner_sees_how_the_receiver_answers(world: World, receiver: Receiver) -> None:
    client = build_api(world.fleet).client
    endpoint_id, _ = world.create(receiver.url)

    def shown() -> dict[str, object]:
        (listed,) = client.items("/v1/webhooks")
        single = answer(client.get(f"/v1/webhooks/{endpoint_id}"))
        assert listed["receiver"] == single["receiver"]
        return dict(single["receiver"])

    assert shown() == {"state": "new", "failures": 0, "rests_until": None}
    happen(world, 1)
    world.deliver_waiting()
    assert shown() == {"state": "fine", "failures": 0, "rests_until": None}
    receiver.reply_with(NO)
    happen(world, 5)
    world.deliver_waiting()
    resting = shown()
    assert (resting["state"], resting["failures"]) == ("resting", 3)
    assert str(resting["rests_until"]) > world.now.isoformat()
    show(world, endpoint_id, Lane(pace=Pace.SLOW))
    assert shown()["state"] == "slow"


def test_a_delivery_of_a_backlog_costs_four_statements(world: World, receiver: Receiver) -> None:
    endpoint_id, _ = world.create(receiver.url)
    show(world, endpoint_id, Lane(pace=Pace.SWIFT))
    happen(world, 20)
    said: list[str] = []

    def note(_connection: object, _cursor: object, statement: str, *_more: object) -> None:
        said.append(statement)

    listening.listen(Engine, "before_cursor_execute", note)
    try:
        work_in_lane(world.courier(), endpoint_id)
    finally:
        listening.remove(Engine, "before_cursor_execute", note)
    assert sequences(receiver) == list(range(1, 21))
    assert len(said) <= 4 * 20 + 5


STATEMENTS = ("_LOOK", "_CLAIM", "_WAKE_AFTER_REST")


@pytest.mark.parametrize("name", STATEMENTS)
def test_a_lane_is_read_by_index_however_much_waits_in_others_and_is_final(world: World, name: str) -> None:
    endpoint_id, _ = world.create("https://example.com/")
    happen(world, 3)
    delivery_id = waiting_of(world)[0]
    with world.transaction() as session:
        session.execute(text("SET LOCAL session_replication_role = replica"))
        for lane, final in (("whk_other", False), (endpoint_id, True)):
            session.execute(
                text(f"""
                    INSERT INTO webhook_deliveries
                        (id, account_id, endpoint_id, event_id, lane, sequence, state, attempt, fence, created_at,
                         next_attempt_at, next_wake_at)
                    SELECT '{lane}-' || n, account_id, endpoint_id, '{lane}-' || n, '{lane}', n,
                           CASE WHEN {final} THEN 'delivered' ELSE 'pending' END, 0, 0, created_at,
                           CASE WHEN {final} THEN NULL ELSE next_attempt_at END,
                           CASE WHEN {final} THEN NULL ELSE next_wake_at END
                    FROM webhook_deliveries, generate_series(1, 20000) n WHERE id = :id
                """),  # noqa: S608 - our own text
                {"id": delivery_id},
            )
    with world.transaction() as session:
        session.execute(text("ANALYZE webhook_deliveries"))
    values = {"lane": endpoint_id, "now": world.now, "until": world.now + LONG, "width": 1, "retry": 0}
    statement = getattr(webhook_lanes, name).text
    with world.transaction() as session:
        plan = session.execute(text(f"EXPLAIN (ANALYZE, BUFFERS) {statement}"), values).scalars().all()
        session.rollback()
    assert "Seq Scan on webhook_deliveries" not in "\n".join(plan)
    hits = re.search(r"Buffers: shared hit=(\d+)", "\n".join(plan))
    assert hits is not None
    assert int(hits[1]) < 200, "\n".join(plan)
