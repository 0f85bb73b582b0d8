"""/v1/webhooks over HTTP: endpoints, secrets, deliveries, and nothing of another account's."""

from __future__ import annotations

from typing import Any

import pytest
from standardwebhooks import Webhook

from shared.domain.scopes import Scope
from shared.events.catalogue import EventType
from shared.usecases.webhooks import MOST
from tests.support.api import Api, answer, build_api, codes
from tests.support.receiver import Receiver, Reply
from tests.support.webhook_world import World

PUBLIC = "https://example.com/hook"


@pytest.fixture
def api(world: World) -> Api:
    return build_api(world.fleet)


def created(api: Api, url: str = PUBLIC, **body: Any) -> dict[str, Any]:
    response = api.client.post("/v1/webhooks", {"url": url, **body})
    assert response.status_code == 201, response.text
    assert response.headers["Location"] == f"/v1/webhooks/{answer(response)['id']}"
    return answer(response)


def test_an_endpoint_is_made_with_a_secret_that_is_shown_once(api: Api) -> None:
    made = created(api, types=["job.*"], description="ours")
    assert made.pop("secret").startswith("whsec_")
    assert made == {**made, "url": PUBLIC, "types": ["job.*"], "description": "ours", "enabled": True, "job_id": None}
    assert answer(api.client.get(f"/v1/webhooks/{made['id']}")) == made
    assert api.client.items("/v1/webhooks") == [made]


def test_the_same_key_makes_one_endpoint_with_one_secret(api: Api) -> None:
    headers = {"Idempotency-Key": "once"}
    first, second = (answer(api.client.post("/v1/webhooks", {"url": PUBLIC}, headers=headers)) for _ in range(2))
    assert first == second
    assert len(api.client.items("/v1/webhooks")) == 1


@pytest.mark.parametrize(
    ("body", "refused"),
    [
        ({}, {("url", "missing_field")}),
        ({"url": 5}, {("url", "wrong_type")}),
        ({"url": "http://example.com/\x00"}, {("url", "invalid_character")}),
        ({"url": "https://10.0.0.1/"}, {("url", "address_not_allowed")}),
        ({"url": "https://u:p@example.com/"}, {("url", "invalid_url")}),
        ({"url": PUBLIC, "types": []}, {("types", "wrong_length")}),
        ({"url": PUBLIC, "types": ["jobs.*"]}, {("types.0", "unknown_event_type")}),
        ({"url": PUBLIC, "types": ["job.[a-z]*"]}, {("types.0", "unknown_event_type")}),
        ({"url": PUBLIC, "types": ["*", "*"]}, {("types.1", "duplicate_value")}),
        ({"url": PUBLIC, "secret": "mine"}, {("secret", "unknown_field")}),
        ({"url": PUBLIC, "description": "x" * 201}, {("description", "wrong_length")}),
    ],
)
def test_a_bad_endpoint_is_refused_by_field(api: Api, body: dict[str, Any], refused: set[tuple[str, str]]) -> None:
    assert codes(api.client.post("/v1/webhooks", body)) == refused


def test_an_endpoint_is_changed_as_far_as_the_body_says(api: Api) -> None:
    made = created(api)
    path = f"/v1/webhooks/{made['id']}"
    changed = answer(api.client.patch(path, {"types": ["job.failed"], "enabled": False}))
    assert (changed["types"], changed["enabled"], changed["url"]) == (["job.failed"], False, PUBLIC)
    assert changed["disabled_reason"]
    enabled = answer(api.client.patch(path, {"enabled": True, "url": "https://example.org/"}))
    assert (enabled["enabled"], enabled["disabled_reason"], enabled["url"]) == (True, None, "https://example.org/")
    assert codes(api.client.patch(path, {"url": "https://127.1/"})) == {("url", "invalid_url")}
    assert codes(api.client.patch(path, {"enabled": "yes"})) == {("enabled", "wrong_type")}


def test_a_deleted_endpoint_is_gone(api: Api) -> None:
    path = f"/v1/webhooks/{created(api)['id']}"
    assert api.client.delete(path).status_code == 204
    for response in (api.client.get(path), api.client.delete(path), api.client.post(f"{path}/test")):
        assert response.status_code == 404
    assert api.client.items("/v1/webhooks") == []


def test_lists_go_on_by_cursor(api: Api) -> None:
    made = [created(api)["id"] for _ in range(3)]
    first = answer(api.client.get("/v1/webhooks?limit=2"))
    rest = answer(api.client.get(f"/v1/webhooks?limit=2&cursor={first['next_cursor']}"))
    assert [one["id"] for one in first["items"] + rest["items"]] == made[::-1]
    assert rest["next_cursor"] is None


def test_a_test_event_arrives_and_its_delivery_says_so(world: World, api: Api, receiver: Receiver) -> None:
    made = created(api, receiver.url)
    sent = api.client.post(f"/v1/webhooks/{made['id']}/test")
    assert sent.status_code == 202
    assert (answer(sent)["state"], answer(sent)["event_type"]) == ("pending", "webhook.test")
    world.deliver_waiting()
    Webhook(made["secret"]).verify(receiver.received[0].body, receiver.received[0].headers)
    (delivery,) = api.client.items(f"/v1/webhooks/{made['id']}/deliveries")
    assert (delivery["id"], delivery["state"]) == (answer(sent)["id"], "delivered")
    assert [(one["number"], one["status"]) for one in delivery["attempts"]] == [(1, 204)]
    assert answer(api.client.get(f"/v1/webhooks/{made['id']}/deliveries/{delivery['id']}")) == delivery


def test_a_disabled_endpoint_takes_no_test_and_no_replay(world: World, api: Api, receiver: Receiver) -> None:
    made = created(api, receiver.url)
    path = f"/v1/webhooks/{made['id']}"
    world.happen()
    world.deliver_waiting()
    (delivery,) = api.client.items(f"{path}/deliveries")
    api.client.patch(path, {"enabled": False})
    for verb in (f"{path}/test", f"{path}/deliveries/{delivery['id']}/replay"):
        refused = api.client.post(verb)
        assert (refused.status_code, answer(refused)["code"]) == (409, "webhook_disabled")


def test_an_exhausted_delivery_is_replayed(world: World, api: Api, receiver: Receiver) -> None:
    receiver.reply_with(*[Reply(status=500, body=b"broken")] * 3, Reply(status=200))
    made = created(api, receiver.url)
    world.happen()
    (delivery_id,) = world.waiting()
    for _ in range(3):
        world.deliver(delivery_id)
        world.now = world.delivery(delivery_id).next_attempt_at or world.now
    path = f"/v1/webhooks/{made['id']}/deliveries/{delivery_id}"
    exhausted = answer(api.client.get(path))
    assert (exhausted["state"], exhausted["attempts"][0]["response_head"]) == ("exhausted", "broken")
    replayed = api.client.post(f"{path}/replay")
    assert (replayed.status_code, answer(replayed)["state"]) == (202, "pending")
    world.deliver_waiting()
    assert answer(api.client.get(path))["state"] == "delivered"
    assert len({received.headers["webhook-id"] for received in receiver.wait_for(4)}) == 1


def test_rotating_answers_a_new_secret_once(api: Api) -> None:
    made = created(api)
    path = f"/v1/webhooks/{made['id']}/rotate"
    first, second = (answer(api.client.post(path, body)) for body in (None, {"overlap_seconds": 0}))
    assert len({made["secret"], first["secret"], second["secret"]}) == 3
    for wrong in (-1, 604_801, "5"):
        assert api.client.post(path, {"overlap_seconds": wrong}).status_code == 422


def test_a_jobs_callback_is_listed_by_its_job_and_has_no_secret_of_its_own(world: World, api: Api) -> None:
    job_id = api.submit(callback_url=PUBLIC)["job"]["id"]
    assert api.client.items("/v1/webhooks") == []
    (callback,) = api.client.items(f"/v1/webhooks?job_id={job_id}")
    assert (callback["job_id"], callback["url"]) == (job_id, PUBLIC)
    assert len(world.waiting()) == 1
    refused = api.client.post(f"/v1/webhooks/{callback['id']}/rotate")
    assert (refused.status_code, answer(refused)["code"]) == (409, "callback_has_no_secret")


def test_a_callback_url_that_may_not_be_called_is_refused_by_its_field(api: Api) -> None:
    response = api.client.post("/v1/certificates", {**_submission(), "callback_url": "https://169.254.169.254/"})
    assert codes(response) == {("callback_url", "address_not_allowed")}


def _submission() -> dict[str, Any]:
    return {"source": "third_party", "type": "ca", "certificate": "x", "regions": ["cn-hangzhou"]}


def test_the_callback_secret_is_shown_to_writers_and_rotated(api: Api) -> None:
    path = "/v1/webhooks/callback-secret"
    old = answer(api.client.get(path))["secret"]
    new = answer(api.client.post(f"{path}/rotate"))["secret"]
    assert new.startswith("whsec_")
    assert new != old
    assert answer(api.client.get(path))["secret"] == new
    assert api.scoped(Scope.READ).get(path).status_code == 403


def test_another_account_finds_nothing(world: World, api: Api, receiver: Receiver) -> None:
    made = created(api, receiver.url)
    world.happen()
    world.deliver_waiting()
    path = f"/v1/webhooks/{made['id']}"
    (delivery,) = api.client.items(f"{path}/deliveries")
    stranger = api.account("stranger")
    theirs = answer(stranger.post("/v1/webhooks", {"url": PUBLIC}))
    assert [one["id"] for one in stranger.items("/v1/webhooks")] == [theirs["id"]]
    requests = [
        stranger.get(path),
        stranger.patch(path, {"enabled": False}),
        stranger.delete(path),
        stranger.post(f"{path}/rotate"),
        stranger.post(f"{path}/test"),
        stranger.get(f"{path}/deliveries"),
        stranger.get(f"{path}/deliveries/{delivery['id']}"),
        stranger.post(f"{path}/deliveries/{delivery['id']}/replay"),
        stranger.get(f"/v1/webhooks/{theirs['id']}/deliveries/{delivery['id']}"),
        stranger.post(f"/v1/webhooks/{theirs['id']}/deliveries/{delivery['id']}/replay"),
    ]
    assert [response.status_code for response in requests] == [404] * len(requests)
    assert answer(api.client.get(path))["enabled"]


def test_an_account_has_so_many_endpoints_and_no_more(world: World, api: Api) -> None:
    """Every event is written once for each of them, in the transaction of what happened."""
    first = created(api)["id"]
    for _ in range(MOST - 1):
        world.create(PUBLIC)
    refused = api.client.post("/v1/webhooks", {"url": PUBLIC})
    assert (refused.status_code, answer(refused)["code"]) == (409, "too_many_webhooks")
    assert api.account("stranger").post("/v1/webhooks", {"url": PUBLIC}).status_code == 201
    api.client.delete(f"/v1/webhooks/{first}")
    created(api)


def test_another_accounts_events_are_not_delivered(world: World, api: Api) -> None:
    stranger = api.account("stranger")
    stranger.post("/v1/webhooks", {"url": PUBLIC})
    world.happen(EventType.JOB_FAILED)
    assert world.waiting() == []


def test_reading_needs_read_and_changing_needs_write(api: Api) -> None:
    path = f"/v1/webhooks/{created(api)['id']}"
    reader, outsider = api.scoped(Scope.READ), api.scoped(Scope.DOWNLOAD)
    assert reader.get(path).status_code == 200
    assert reader.delete(path).status_code == reader.post(f"{path}/test").status_code == 403
    assert outsider.get(path).status_code == 403
