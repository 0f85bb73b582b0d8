"""``certfleet webhooks``: lists, deliveries and replays over the real API."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator

import pytest

from shared.events.catalogue import EventType
from tests.support.api import Api, build_api
from tests.support.live_api import courier, live_api
from tests.support.programs import WAIT_SECONDS
from tests.support.receiver import Receiver, Reply
from tests.support.stack import wait_until
from tests.support.webhook_world import World


@pytest.fixture
def api(world: World) -> Api:
    return build_api(world.fleet)


@pytest.fixture
def url(world: World, api: Api) -> Iterator[str]:
    with live_api(api.app) as running, courier(world):
        yield running


def called(url: str, api: Api, *arguments: str) -> list[str]:
    """The lines that a successful command printed."""
    done = ended(url, api, *arguments)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def ended(url: str, api: Api, *arguments: str) -> subprocess.CompletedProcess[str]:
    """A command that has ended."""
    environ = {**os.environ, "CERTFLEET_URL": url, "CERTFLEET_TOKEN": api.client.token}
    command = [sys.executable, "-m", "services.cli.main", "webhooks", *arguments]
    return subprocess.run(command, env=environ, capture_output=True, text=True, check=False, timeout=WAIT_SECONDS)


def test_a_test_event_shows_what_the_receiver_answered(world: World, api: Api, url: str, receiver: Receiver) -> None:
    receiver.reply_with(Reply(status=204), Reply(status=503, body=b"down for an hour"))
    endpoint_id, _ = world.create(receiver.url, "job.failed")
    (line,) = called(url, api, "test", endpoint_id)
    assert ("webhook.test  delivered" in line, "1x  204 in" in line) == (True, True)
    failed = ended(url, api, "test", endpoint_id)
    assert failed.returncode == 1
    line, head = failed.stdout.splitlines()
    assert ("webhook.test  pending" in line, "1x  503 in" in line, head) == (True, True, "down for an hour")
    unknown = ended(url, api, "test", "whk_1")
    assert (unknown.returncode != 0, "There is no webhook whk_1" in unknown.stderr) == (True, True)


def test_endpoints_and_failed_deliveries_are_listed_and_replayed(
    world: World, api: Api, url: str, receiver: Receiver
) -> None:
    receiver.reply_with(Reply(status=500, body=b"no"), Reply(status=204))
    endpoint_id, _ = world.create(receiver.url)
    world.happen(EventType.JOB_FAILED)
    world.happen(EventType.JOB_SUCCEEDED)
    path = f"/v1/webhooks/{endpoint_id}/deliveries?state="
    delivered, pending = f"{path}delivered", f"{path}pending"
    wait_until(
        lambda: bool(api.client.items(delivered)) and bool(api.client.items(pending)[0]["attempts"]),
        seconds=WAIT_SECONDS,
        otherwise=lambda: api.client.items(pending),
    )
    assert called(url, api, "list") == [f"{endpoint_id}  enabled (fine, 1 waiting)  {receiver.url}"]
    (line,) = called(url, api, "deliveries", endpoint_id, "--state", "pending")
    assert ("pending" in line, "1x  500 in" in line) == (True, True)
    (document,) = called(url, api, "deliveries", endpoint_id, "--type", "job.succeeded", "--json")
    assert json.loads(document)["event_type"] == "job.succeeded"
    replayed = called(url, api, "replay", endpoint_id, "--after", "0", "--only-failed", "--type", "job.*")
    assert replayed[-1].endswith("finished  1 queued, 1 left out")
    ids = [received.headers["webhook-id"] for received in receiver.wait_for(3)]
    assert len(set(ids)) == 2
