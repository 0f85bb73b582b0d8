"""The receivers of docs/webhooks.md are real: they run as written, and take what we send and nothing else.

They verify with code that is not ours: the packages standardwebhooks of PyPI and npm, and Node's own Ed25519.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from typing import Final

import pytest

from shared.domain.webhooks import Answer, SignatureScheme
from shared.events.catalogue import EventType
from shared.usecases import webhook_deliveries, webhook_lanes, webhooks
from shared.usecases.webhook_delivery import Request, WebhookSender
from tests.support.examples import running_example
from tests.support.node import EXAMPLES, installed_examples, node
from tests.support.programs import Output
from tests.support.webhook_world import World

PYTHON: Final = {
    "flask": ("flask", "--app", "flask_receiver", "run", "--port", "0"),
    "fastapi": ("uvicorn", "fastapi_receiver:app", "--port", "0"),
}
NODE: Final = {"node": "node_receiver.js", "ed25519": "ed25519_receiver.js"}


@dataclass(slots=True, kw_only=True)
class Running:
    """An example, the endpoint that it serves, and the world that sends to it."""

    world: World
    endpoint_id: str
    program: Output

    def handled(self) -> list[str]:
        """The lines that its own ``handle`` has printed."""
        types = {event_type.value for event_type in EventType}
        return [line for line in self.program.lines if line.split(" ")[0] in types]

    def sent(self, *, sender: WebhookSender | None = None) -> tuple[str, int | None]:
        """Let something happen, and deliver it, whatever was answered before; the delivery's id and the answer."""
        with self.world.transaction() as session:
            webhook_lanes.forget(session, self.endpoint_id)
        self.world.happen(name="Zürich ✓", line="one\ntwo")
        (delivery_id,) = self.world.waiting()
        self.world.deliver(delivery_id, sender=sender)
        return delivery_id, self.world.attempts(delivery_id)[-1].status


@dataclass(slots=True, kw_only=True)
class ForgingSender:
    """A sender whose requests were changed on the way."""

    inner: WebhookSender
    body: bytes | None = None
    headers: dict[str, str]

    def send(self, request: Request, *, deadline: timedelta) -> Answer:
        changed = {**request.headers, **self.headers}
        forged = replace(request, headers=changed, body=self.body or request.body)
        return self.inner.send(forged, deadline=deadline)


@pytest.fixture(scope="session")
def node_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return installed_examples(tmp_path_factory.mktemp("node"))


@pytest.fixture(params=[*PYTHON, *NODE])
def running(request: pytest.FixtureRequest, world: World) -> Iterator[Running]:
    name = str(request.param)
    if name in PYTHON:
        command: tuple[str | Path, ...] = (sys.executable, "-m", *PYTHON[name])
        folder = EXAMPLES
    else:
        command = (node(), NODE[name])
        folder = EXAMPLES if name == "ed25519" else request.getfixturevalue("node_folder")
    scheme = SignatureScheme.ED25519 if name == "ed25519" else SignatureScheme.HMAC
    endpoint_id, secret = world.create("http://127.0.0.1/", signature_scheme=scheme)
    variable = "CERTFLEET_WEBHOOK_KEY" if name == "ed25519" else "CERTFLEET_WEBHOOK_SECRET"
    with running_example(command, folder, {variable: secret, "PORT": "0"}) as (program, url):
        with world.transaction() as session:
            webhooks.get_webhook(session, world.caller.account_id, endpoint_id).url = url
        yield Running(world=world, endpoint_id=endpoint_id, program=program)


def replay(running: Running, delivery_id: str) -> int | None:
    world = running.world
    with world.transaction() as session:
        webhook_deliveries.replay_delivery(
            session, world.caller, running.endpoint_id, delivery_id=delivery_id, now=world.now
        )
    world.deliver_waiting()
    return world.attempts(delivery_id)[-1].status


def test_an_example_takes_what_we_send_once(running: Running) -> None:
    delivery_id, status = running.sent()
    assert status == 204
    assert replay(running, delivery_id) == 204
    assert running.sent()[1] == 204
    running.program.wait_for(lambda line: line == "job.succeeded 2")
    assert running.handled() == ["job.succeeded 1", "job.succeeded 2"]


def test_an_example_refuses_what_is_not_signed_by_us(running: Running) -> None:
    old = str(int((running.world.now - timedelta(minutes=6)).timestamp()))
    forgeries: list[tuple[bytes | None, dict[str, str]]] = [
        (b'{"type":"job.succeeded","sequence":666}', {}),
        (b"\xff\xfe", {}),
        (None, {"webhook-id": "evt_666"}),
        (None, {"webhook-timestamp": old}),
        (None, {"webhook-timestamp": "soon"}),
        (None, {"webhook-signature": "garbage"}),
        (None, {"webhook-signature": "v1,AAAA v1a,AAAA"}),
    ]
    inner = running.world.sender
    answers = [
        running.sent(sender=ForgingSender(inner=inner, body=body, headers=headers))[1] for body, headers in forgeries
    ]
    assert answers == [400] * len(forgeries)
    assert running.handled() == []


def test_an_example_goes_on_through_a_rotation(running: Running) -> None:
    world = running.world
    with world.transaction() as session:
        webhooks.rotate_secret(world.context, session, world.caller, running.endpoint_id, now=world.now)
    assert running.sent()[1] == 204
