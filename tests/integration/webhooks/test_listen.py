"""``certfleet listen`` as a program: what it prints, what it leaves behind, and what it says when it cannot."""

from __future__ import annotations

import json
import signal
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from typing import Any

import pytest
import urllib3
from standardwebhooks import Webhook

from shared.domain.webhooks import DeliveryState
from shared.events.catalogue import EventType
from tests.support.api import Api, build_api
from tests.support.listening import FOLLOWING, READY, Listening, running_listen
from tests.support.live_api import courier, live_api
from tests.support.programs import WAIT_SECONDS
from tests.support.receiver import Receiver, Reply
from tests.support.stack import wait_until
from tests.support.webhook_world import World


@contextmanager
def listen(url: str, token: str, *options: str) -> Iterator[Listening]:
    with running_listen("--url", url, *options, environ={"CERTFLEET_TOKEN": token}) as listening:
        yield listening


@pytest.fixture
def api(world: World) -> Api:
    return build_api(world.fleet)


@pytest.fixture
def url(world: World, api: Api) -> Iterator[str]:
    with live_api(api.app) as running, courier(world):
        yield running


def endpoints(api: Api) -> list[dict[str, Any]]:
    return api.client.items("/v1/webhooks")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_it_prints_verified_webhooks_and_removes_its_endpoint_at_the_end(
    world: World, api: Api, url: str, number: signal.Signals
) -> None:
    with listen(url, api.client.token, "--types", "deployment.*,job.failed") as listening:
        listening.wait_until_told(READY)
        (endpoint,) = endpoints(api)
        assert (endpoint["types"], endpoint["enabled"]) == (["deployment.*", "job.failed"], True)
        error = {"code": "busy", "message": "Not\x1b[31m now.", "retryable": False}
        world.happen(EventType.JOB_SUCCEEDED)
        world.happen(EventType.DEPLOYMENT_FAILED, region="eu-1", error=error)
        line = listening.wait_for("deployment.failed")
        assert "✓ #3 " in line
        assert "eu-1" in line
        assert "busy: Not" in line
        assert "\x1b" not in line
        assert len(listening.out.lines) == 1
        assert listening.end(number) == 0
    assert endpoints(api) == []


def test_json_is_the_bytes_of_the_events_one_a_line(world: World, api: Api, url: str) -> None:
    with listen(url, api.client.token, "--json", "--count", "2") as listening:
        listening.wait_until_told(READY)
        for name in ("Zürich", "one\ntwo"):
            world.happen(EventType.JOB_SUCCEEDED, name=name)
        assert listening.process.wait(WAIT_SECONDS) == 0
        printed = sorted(listening.out.lines, key=lambda line: int(json.loads(line)["sequence"]))
    listed = api.client.get("/v1/events?after=1").get_data(as_text=True)
    assert f'"items":[{",".join(printed)}]' in listed
    assert endpoints(api) == []


def test_a_request_that_is_not_signed_is_refused_and_told(world: World, api: Api, url: str) -> None:
    with listen(url, api.client.token) as listening:
        place = listening.wait_until_told(READY).split("webhooks to ")[1].split(",")[0]
        forged = {"webhook-id": "evt_1", "webhook-timestamp": "1", "webhook-signature": "v1,AAAA"}
        body = b'{"type":"job.succeeded","id":"evt_1","sequence":1}'
        assert urllib3.request("POST", place, body=body, headers=forged).status == 400
        listening.wait_until_told("not signed")
        world.happen(EventType.JOB_FAILED)
        listening.wait_for("job.failed")
        assert len(listening.out.lines) == 1


def test_where_this_machine_may_not_be_called_it_pulls(world: World) -> None:
    settings = replace(world.context.settings, webhook_allowed_networks=())
    api = build_api(world.fleet, context=replace(world.context, settings=settings))
    world.happen(EventType.JOB_CANCELLED)
    with live_api(api.app) as url, listen(url, api.client.token) as listening:
        listening.wait_until_told("does not call http://127.0.0.1:")
        listening.wait_until_told(f"{FOLLOWING}number 1.")
        world.happen(EventType.JOB_FAILED)
        assert "· #2 " in listening.wait_for("job.failed")
        assert listening.end() == 0
        assert len(listening.out.lines) == 1
    assert endpoints(api) == []


def test_pulling_goes_on_over_a_break_without_a_gap_or_a_repetition(world: World, api: Api) -> None:
    with ExitStack() as stack:
        with live_api(api.app) as url:
            for _ in range(3):
                world.happen(EventType.JOB_SUCCEEDED)
            options = ("--after", "1", "--json", "--types", "job.*")
            listening = stack.enter_context(listen(url, api.client.token, *options))
            listening.wait_for('"sequence":3')
        listening.wait_until_told("does not answer")
        world.happen(EventType.CERTIFICATE_REPLACED)
        world.happen(EventType.JOB_FAILED)
        with live_api(api.app, port=int(url.rpartition(":")[2])):
            listening.wait_for('"job.failed"')
            world.happen(EventType.JOB_CANCELLED)
            listening.wait_for('"job.cancelled"')
            assert [json.loads(line)["sequence"] for line in listening.out.lines] == [2, 3, 5, 6]
            assert len([line for line in listening.err.lines if "does not answer" in line]) == 1


def test_a_receiver_gets_webhooks_passed_on_and_its_answers_count(
    world: World, api: Api, url: str, receiver: Receiver
) -> None:
    receiver.reply_with(Reply(status=503), Reply(status=204))
    with listen(url, api.client.token, "--forward", receiver.url) as listening:
        secret = listening.wait_until_told("Passing on to").partition("CERTFLEET_WEBHOOK_SECRET=")[2]
        world.happen(EventType.JOB_FAILED)
        assert "→ 503" in listening.wait_for("job.failed")
        (endpoint,) = endpoints(api)
        path = f"/v1/webhooks/{endpoint['id']}/deliveries"
        wait_until(lambda: api.client.items(path)[0]["attempts"], seconds=WAIT_SECONDS, otherwise=lambda: "no attempt")
        (delivery, _test) = api.client.items(path)
        assert [attempt["status"] for attempt in delivery["attempts"]] == [503]
        assert delivery["state"] == DeliveryState.PENDING
        api.client.post(f"{path}/{delivery['id']}/replay")
        listening.wait_for("→ 204")
    first, second = receiver.wait_for(2)
    assert first.body == second.body
    for received in (first, second):
        assert json.loads(received.body) == Webhook(secret).verify(received.body, received.headers)


def test_pulled_events_are_passed_on_signed(world: World, api: Api, url: str, receiver: Receiver) -> None:
    event_id = world.happen(EventType.JOB_FAILED, name="Zürich")
    with listen(url, api.client.token, "--after", "0", "--forward", receiver.url, "--count", "1") as listening:
        secret = listening.wait_until_told("Passing on to").partition("CERTFLEET_WEBHOOK_SECRET=")[2]
        assert "→ 204" in listening.wait_for("job.failed")
        assert listening.process.wait(WAIT_SECONDS) == 0
    (received,) = receiver.received
    assert received.headers["webhook-id"] == event_id
    Webhook(secret).verify(received.body, received.headers)


def test_what_a_killed_one_left_behind_is_removed_by_the_next(api: Api, url: str) -> None:
    api.client.post(
        "/v1/webhooks", {"url": "https://example.com/", "description": "certfleet listen, elsewhere, process 1"}
    )
    with listen(url, api.client.token) as killed:
        killed.wait_until_told(READY)
        assert killed.end(signal.SIGKILL) == -signal.SIGKILL
    left = [endpoint["id"] for endpoint in endpoints(api)]
    assert len(left) == 2
    with listen(url, api.client.token) as listening:
        listening.wait_until_told(READY)
        descriptions = [endpoint["description"] for endpoint in endpoints(api)]
        assert len(descriptions) == 2
        assert f"process {killed.process.pid}" not in " ".join(descriptions)
        listening.end()
    (kept,) = endpoints(api)
    assert kept["description"] == "certfleet listen, elsewhere, process 1"


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--types", "jobs.*"), "No type of event matches 'jobs.*'"),
        (("--types", "jobs.*", "--pull"), "No event has the type 'jobs.*'"),
        (("--public-url", "https://10.0.0.1/"), "url: The URL leads to an address that is private"),
    ],
)
def test_what_cannot_be_is_said_in_a_sentence(api: Api, url: str, options: tuple[str, ...], words: str) -> None:
    with listen(url, api.client.token, *options) as listening:
        assert listening.process.wait(WAIT_SECONDS) == 2
        listening.err.reader.join()
        told = " ".join(listening.err.lines)
        assert words in told
        assert "Traceback" not in told
    assert endpoints(api) == []


def test_a_wrong_token_ends_it_at_once(url: str) -> None:
    with listen(url, "certfleet_nonsense") as listening:
        assert listening.process.wait(WAIT_SECONDS) == 2
        assert "401" in listening.wait_until_told("certfleet: ")
