"""What is pulled is what is pushed: one event has one body, byte for byte, however it is read."""

from __future__ import annotations

import json

import pytest

from shared.domain.webhooks import DeliveryState
from tests.support import pki
from tests.support.api import Api, answer, build_api
from tests.support.receiver import Receiver
from tests.support.webhook_world import World


@pytest.fixture
def api(world: World) -> Api:
    world.now = pki.NOW
    return build_api(world.fleet)


def pulled(api: Api) -> list[bytes]:
    """The items of GET /v1/events as they stand in the answer."""
    body = api.client.get("/v1/events?limit=200").get_data()
    head, tail = (
        b'{"items":[',
        b'],"next_cursor":"%d"}\n' % len(answer(api.client.get("/v1/events?limit=200"))["items"]),
    )
    assert body.startswith(head)
    assert body.endswith(tail)
    items, decoder = body[len(head) : -len(tail)].decode(), json.JSONDecoder()
    found = []
    while items:
        _, end = decoder.raw_decode(items)
        found.append(items[:end].encode())
        items = items[end + 1 :]
    return found


def streamed(api: Api) -> list[bytes]:
    """The data lines of the stream of events."""
    frames = api.client.get("/v1/events", headers={"Accept": "text/event-stream"}).get_data()
    return [line.removeprefix(b"data: ") for line in frames.split(b"\n") if line.startswith(b"data: ")]


def test_pushed_pulled_and_streamed_bodies_are_the_same_bytes(world: World, api: Api, receiver: Receiver) -> None:
    made = answer(api.client.post("/v1/webhooks", {"url": receiver.url, "description": "Zürich"}))
    world.happen(name="Zürich \u2028 \U0001f512", b=1, a={"z": None, "y": [1.5, True]}, line="one\ntwo\r")
    api.deployed(tags={"where": "Zürich"})
    while waiting := world.waiting():
        for delivery_id in waiting:
            world.deliver(delivery_id)
    deliveries = api.client.items(f"/v1/webhooks/{made['id']}/deliveries?limit=200")
    assert {delivery["state"] for delivery in deliveries} == {DeliveryState.DELIVERED}
    pushed = {json.loads(received.body)["sequence"]: received.body for received in receiver.received}
    assert len(pushed) == len(receiver.received) == len(deliveries) > 5
    in_order = [pushed[sequence] for sequence in sorted(pushed)]
    assert pulled(api) == in_order
    assert streamed(api) == in_order
