"""Deliveries and replays in the console: what was sent, what was answered, and sending it again."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from services.api.console.pages.webhook import DELIVERIES
from shared.events.catalogue import EventType
from shared.usecases import webhook_replay
from shared.wakeups import Task
from tests.support.api import Api, build_api
from tests.support.console import signed_in, stranger
from tests.support.receiver import Receiver, Reply, running_receiver
from tests.support.webhook_world import World, running_world

HOSTILE = "<script>alert(1)</script><b>"


@pytest.fixture
def world(database_url: str, tmp_path: Path) -> Iterator[World]:
    with running_world(database_url, tmp_path) as running:
        yield running


@pytest.fixture
def api(world: World) -> Api:
    return build_api(world.fleet)


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with running_receiver() as running:
        yield running


def test_a_test_is_followed_from_waiting_to_the_answer_of_the_receiver(
    api: Api, world: World, receiver: Receiver
) -> None:
    endpoint_id, _secret = world.create(receiver.url)
    one, path = signed_in(api), f"/webhooks/{endpoint_id}"
    sent = one.submit(path, f"{path}/test")
    assert sent.status_code == 303
    waiting = one.page(sent.headers["Location"])
    assert 'data-poll="2"' in waiting
    assert 'http-equiv="refresh"' in waiting
    world.deliver_waiting()
    page = one.page(sent.headers["Location"])
    assert '<span class="badge good">delivered</span>' in page
    assert "data-poll" not in page
    assert "HTTP <code>204</code>" in page
    assert "&#34;webhook.test&#34;" in page


def test_what_a_receiver_answers_is_shown_as_text(api: Api, world: World, receiver: Receiver) -> None:
    receiver.reply_with(Reply(status=500, body=HOSTILE.encode()))
    endpoint_id, _secret = world.create(receiver.url)
    world.happen()
    (delivery_id,) = world.waiting()
    world.deliver(delivery_id)
    page = signed_in(api).page(f"/webhooks/{endpoint_id}/deliveries/{delivery_id}")
    assert HOSTILE not in page
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in page
    assert "<details open>" in page


def test_deliveries_are_filtered_and_paged(api: Api, world: World, receiver: Receiver) -> None:
    endpoint_id, _secret = world.create(receiver.url)
    for _ in range(DELIVERIES):
        world.happen(EventType.JOB_SUCCEEDED)
    world.happen(EventType.JOB_FAILED)
    one, path = signed_in(api), f"/webhooks/{endpoint_id}"
    page = one.page(path)
    assert page.count('<th scope="row">') == DELIVERIES
    assert 'rel="next"' in page
    for query, count in (
        ("type=job.failed", 1),
        ("type=*.failed", 1),
        ("state=delivered", 0),
        ("state=wrong&type=", 25),
    ):
        assert one.page(f"{path}?{query}").count('<th scope="row">') == count, query
    assert "Nothing matches" in one.page(f"{path}?state=delivered")
    assert one.get(f"{path}?cursor=x").status_code == 422


def test_one_delivery_is_sent_again(api: Api, world: World, receiver: Receiver) -> None:
    endpoint_id, _secret = world.create(receiver.url)
    world.happen()
    (delivery_id,) = world.waiting()
    world.deliver(delivery_id)
    one, path = signed_in(api), f"/webhooks/{endpoint_id}/deliveries/{delivery_id}"
    assert one.submit(path, f"{path}/replay").status_code == 303
    world.deliver_waiting()
    assert [len(receiver.received), one.page(path).count("HTTP <code>204</code>")] == [2, 2]


def test_a_replay_shows_how_far_it_is_and_is_cancelled(api: Api, world: World, receiver: Receiver) -> None:
    endpoint_id, _secret = world.create(receiver.url)
    for _ in range(3):
        world.happen()
    world.deliver_waiting()
    one, path = signed_in(api), f"/webhooks/{endpoint_id}/replays"
    assert one.submit(path, path, {"begin": "after", "after": "0"}).status_code == 303
    page = one.page(path)
    assert 'data-poll="2"' in page
    assert '<progress max="100" value="0"' in page
    assert "running" in one.submit(path, path, {"begin": "after", "after": "0"}).text
    (replay_id,) = [wake_up.id for wake_up in world.fleet.room.waiting if wake_up.task is Task.REPLAY]
    webhook_replay.advance(world.context, replay_id, now=world.now)
    page = one.page(path)
    assert "3 queued, 0 left out" in page
    world.deliver_waiting()
    assert len(receiver.received) == 6
    assert one.submit(path, path, {"begin": "since", "since": "2020-01-01T00:00"}).status_code in {303, 409}
    running = [wake_up.id for wake_up in world.fleet.room.waiting if wake_up.task is Task.REPLAY]
    assert one.submit(path, f"{path}/{(running or [replay_id])[0]}/cancel").status_code == 303


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"begin": "after", "after": "x"}, "after"),
        ({"begin": "after", "after": "-1"}, "after"),
        ({"begin": "after", "after": ""}, "after"),
        ({"begin": "since", "since": ""}, "since"),
        ({"begin": "since", "since": "yesterday"}, "since"),
        ({"begin": "after", "after": "0", "types": "nothing"}, "types"),
        ({"begin": "after", "after": "0", "until": "1"}, "until"),
    ],
)
def test_a_replay_that_cannot_be_says_why_at_its_field(
    api: Api, world: World, receiver: Receiver, fields: dict[str, str], field: str
) -> None:
    endpoint_id, _secret = world.create(receiver.url)
    world.happen()
    path = f"/webhooks/{endpoint_id}/replays"
    page = signed_in(api).submit(path, path, fields)
    assert page.status_code == 422
    assert f'id="{field}-mistake"' in page.text


def test_a_stranger_sees_no_delivery_and_no_replay(api: Api, world: World, receiver: Receiver) -> None:
    endpoint_id, _secret = world.create(receiver.url)
    world.happen()
    (delivery_id,) = world.waiting()
    eve, path = stranger(api), f"/webhooks/{endpoint_id}"
    assert eve.get(f"{path}/deliveries/{delivery_id}").status_code == 404
    assert eve.submit("/webhooks", f"{path}/deliveries/{delivery_id}/replay").status_code == 404
    assert eve.submit("/webhooks", f"{path}/replays", {"begin": "after", "after": "0"}).status_code == 404
    assert eve.submit("/webhooks", f"{path}/replays/rpl_x/cancel").status_code == 404
