"""Filters at work: what reaches which endpoint, of real jobs in several regions."""

from __future__ import annotations

import json
from typing import Any

import pytest

from shared.events.catalogue import EventType
from tests.support import pki
from tests.support.api import Api, answer, build_api, codes
from tests.support.fleet import REGIONS
from tests.support.receiver import Receiver
from tests.support.webhook_world import World

PUBLIC = "https://example.com/hook"


@pytest.fixture
def api(world: World) -> Api:
    world.now = pki.NOW
    return build_api(world.fleet)


def heard(world: World, receiver: Receiver) -> list[dict[str, Any]]:
    """Deliver all that waits; what arrived."""
    world.deliver_waiting()
    return [json.loads(received.body) for received in receiver.received]


def test_a_filter_of_regions_holds_back_what_other_regions_tell(world: World, api: Api, receiver: Receiver) -> None:
    chosen, *others = REGIONS
    world.create(receiver.url, regions=(chosen,))
    api.deployed()
    events = heard(world, receiver)
    assert {event["data"].get("region") for event in events} == {None, chosen}
    assert {"job.queued", "certificate.validated", "deployment.succeeded", "job.succeeded"} <= {
        event["type"] for event in events
    }
    assert set(events[-1]["data"].get("regions", {chosen: ""})) <= {chosen, *others}


def test_a_job_that_never_went_to_the_region_is_held_back_at_its_end(
    world: World, api: Api, receiver: Receiver
) -> None:
    world.create(receiver.url, "job.succeeded", regions=(REGIONS[0],))
    api.deployed(regions=[REGIONS[1]])
    assert heard(world, receiver) == []
    api.deployed(regions=[REGIONS[0]])
    assert [event["type"] for event in heard(world, receiver)] == ["job.succeeded"]


def test_a_filter_of_tags_looks_at_the_certificate_as_it_is_then(world: World, api: Api, receiver: Receiver) -> None:
    world.create(receiver.url, "job.*", tags={"team": "web"})
    untagged = api.deployed()
    tagged = api.deployed(tags={"team": "web", "stage": "live"})
    assert {event["data"]["certificate_id"] for event in heard(world, receiver)} == {tagged["id"]}
    assert [event["type"] for event in heard(world, receiver)] == ["job.queued", "job.succeeded"]

    api.client.patch(f"/v1/certificates/{tagged['id']}", {"tags": {}})
    api.client.patch(f"/v1/certificates/{untagged['id']}", {"tags": {"team": "web"}})
    for certificate in (tagged, untagged):
        api.client.delete(f"/v1/certificates/{certificate['id']}/deployments/{REGIONS[0]}")
    (late,) = heard(world, receiver)[2:]
    assert (late["type"], late["data"]["certificate_id"]) == ("job.queued", untagged["id"])


def test_a_filter_is_shown_changed_and_cleared(api: Api) -> None:
    made = answer(
        api.client.post("/v1/webhooks", {"url": PUBLIC, "tags": {"team": "*"}, "regions": [REGIONS[0]], "types": ["*"]})
    )
    assert (made["tags"], made["regions"]) == ({"team": "*"}, [REGIONS[0]])
    path = f"/v1/webhooks/{made['id']}"
    changed = answer(api.client.patch(path, {"regions": list(REGIONS)}))
    assert (changed["tags"], changed["regions"]) == ({"team": "*"}, list(REGIONS))
    cleared = answer(api.client.patch(path, {"regions": [], "tags": {}}))
    assert (cleared["tags"], cleared["regions"]) == ({}, [])
    assert answer(api.client.get(path)) == cleared


@pytest.mark.parametrize(
    ("part", "refused"),
    [
        ({"regions": ["atlantis"]}, {("regions.0", "unknown_region")}),
        ({"regions": [REGIONS[0], REGIONS[0]]}, {("regions.1", "duplicate_value")}),
        ({"regions": "cn-hangzhou"}, {("regions", "wrong_type")}),
        ({"tags": {"team": 5}}, {("tags.team.value", "wrong_type")}),
        ({"tags": {"": "web"}}, {("tags..key", "wrong_length")}),
        ({"tags": {str(number): "" for number in range(51)}}, {("tags", "wrong_length")}),
    ],
)
def test_a_bad_filter_is_refused_by_field(api: Api, part: dict[str, Any], refused: set[tuple[str, str]]) -> None:
    assert codes(api.client.post("/v1/webhooks", {"url": PUBLIC, **part})) == refused
    path = f"/v1/webhooks/{answer(api.client.post('/v1/webhooks', {'url': PUBLIC}))['id']}"
    assert codes(api.client.patch(path, part)) == refused


def test_a_callback_hears_of_its_job_to_the_end_and_of_no_drift_after_it(
    world: World, api: Api, receiver: Receiver
) -> None:
    accepted = api.submit(callback_url=receiver.url)
    world.deliver_waiting()
    world.happen(EventType.DEPLOYMENT_DRIFTED, job_id=accepted["job"]["id"], region=REGIONS[0])
    assert world.waiting() == []
    world.happen(EventType.JOB_SUCCEEDED, job_id=accepted["job"]["id"])
    assert [event["type"] for event in heard(world, receiver)] == ["job.queued", "job.succeeded"]
