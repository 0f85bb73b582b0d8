"""What endpoints are signed with: shared secrets, Ed25519 keys, the way from one to the other, callbacks' secrets."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import text
from standardwebhooks import Webhook, WebhookVerificationError

from shared.crypto.webhook_signature import SignatureRejected, verify
from shared.domain.webhooks import ROTATION_OVERLAP
from shared.usecases import webhook_secrets, webhooks
from shared.usecases.paging import PageRequest
from tests.support.api import Api, answer, build_api
from tests.support.receiver import Received, Receiver
from tests.support.webhook_world import World

PUBLIC = "https://example.com/hook"


@pytest.fixture
def api(world: World) -> Api:
    return build_api(world.fleet)


def created(api: Api, url: str = PUBLIC, **body: Any) -> dict[str, Any]:
    response = api.client.post("/v1/webhooks", {"url": url, **body})
    assert response.status_code == 201, response.text
    return answer(response)


def rotated(api: Api, made: dict[str, Any], **body: Any) -> dict[str, Any]:
    response = api.client.post(f"/v1/webhooks/{made['id']}/rotate", body)
    assert response.status_code == 200, response.text
    return answer(response)


def next_received(world: World, receiver: Receiver) -> Received:
    world.happen()
    world.deliver_waiting()
    return receiver.received[-1]


def schemes(received: Received) -> list[str]:
    return [part.split(",")[0] for part in received.headers["webhook-signature"].split(" ")]


def test_an_ed25519_endpoint_shows_its_public_key_and_never_a_secret(
    world: World, api: Api, receiver: Receiver
) -> None:
    made = created(api, receiver.url, signature_scheme="ed25519")
    assert (made["signature_scheme"], made["secret"]) == ("ed25519", None)
    assert made["public_key"].startswith("whpk_")
    shown = answer(api.client.get(f"/v1/webhooks/{made['id']}"))
    assert shown["public_key"] == made["public_key"]
    assert "whsk_" not in api.client.get("/v1/webhooks").text
    received = next_received(world, receiver)
    assert schemes(received) == ["v1a"]
    verify(received.body, received.headers, secrets=[made["public_key"]], now=world.now)


def test_the_private_key_is_sealed(world: World, api: Api) -> None:
    created(api, signature_scheme="ed25519")
    with world.transaction() as session:
        (row,) = session.execute(text("SELECT ciphertext FROM secrets WHERE purpose = 'webhook_secret'")).all()
        columns = session.execute(text("SELECT webhook_endpoints::text FROM webhook_endpoints")).scalars().all()
    assert b"whsk_" not in row.ciphertext
    assert not any("whsk_" in column for column in columns)


def test_a_rotated_key_signs_beside_the_old_one(world: World, api: Api, receiver: Receiver) -> None:
    made = created(api, receiver.url, signature_scheme="ed25519")
    new = rotated(api, made)
    assert new == {"signature_scheme": "ed25519", "secret": None, "public_key": new["public_key"]}
    received = next_received(world, receiver)
    assert schemes(received) == ["v1a", "v1a"]
    for key in (made["public_key"], new["public_key"]):
        verify(received.body, received.headers, secrets=[key], now=world.now)
    assert answer(api.client.get(f"/v1/webhooks/{made['id']}"))["public_key"] == new["public_key"]
    world.now += ROTATION_OVERLAP
    later = next_received(world, receiver)
    assert schemes(later) == ["v1a"]
    with pytest.raises(SignatureRejected):
        verify(later.body, later.headers, secrets=[made["public_key"]], now=world.now)


def test_a_rotation_changes_over_to_the_other_scheme_and_back(world: World, api: Api, receiver: Receiver) -> None:
    made = created(api, receiver.url)
    key = rotated(api, made, signature_scheme="ed25519")
    received = next_received(world, receiver)
    assert schemes(received) == ["v1a", "v1"]
    Webhook(made["secret"]).verify(received.body, received.headers)
    verify(received.body, received.headers, secrets=[key["public_key"]], now=world.now)
    back = rotated(api, made, signature_scheme="hmac-sha256", overlap_seconds=0)
    assert back["public_key"] is None
    last = next_received(world, receiver)
    assert schemes(last) == ["v1"]
    Webhook(back["secret"]).verify(last.body, last.headers)
    shown = answer(api.client.get(f"/v1/webhooks/{made['id']}"))
    assert (shown["signature_scheme"], shown["public_key"]) == ("hmac-sha256", None)


def test_an_unknown_scheme_is_refused(api: Api) -> None:
    path = f"/v1/webhooks/{created(api)['id']}/rotate"
    for refused in (
        api.client.post("/v1/webhooks", {"url": PUBLIC, "signature_scheme": "md5"}),
        api.client.post("/v1/webhooks", {"url": PUBLIC, "signature_scheme": None}),
        api.client.post(path, {"signature_scheme": "md5"}),
    ):
        assert refused.status_code == 422
        assert [fault["field"] for fault in answer(refused)["errors"]] == ["signature_scheme"]


def test_a_rotated_callback_secret_signs_beside_the_old_one_until_the_overlap_ends(
    world: World, api: Api, receiver: Receiver
) -> None:
    path = "/v1/webhooks/callback-secret"
    old = answer(api.client.get(path))["secret"]
    new = answer(api.client.post(f"{path}/rotate"))["secret"]
    job_id = api.submit(callback_url=receiver.url)["job"]["id"]
    world.deliver_waiting()
    (received,) = receiver.received
    for secret in (new, old):
        Webhook(secret).verify(received.body, received.headers)
    page = PageRequest(limit=1, cursor=None, binding=())
    with world.transaction() as session:
        (callback,) = webhooks.list_webhooks(session, world.caller.account_id, page, job_id=job_id).items
        end = world.now + ROTATION_OVERLAP
        vault = world.context.vault
        assert webhook_secrets.signing_secrets(session, vault, callback, now=end - timedelta(seconds=1)) == (new, old)
        assert webhook_secrets.signing_secrets(session, vault, callback, now=end) == (new,)


def test_a_leaked_callback_secret_is_stopped_at_once(world: World, api: Api, receiver: Receiver) -> None:
    path = "/v1/webhooks/callback-secret"
    leaked = answer(api.client.get(path))["secret"]
    api.client.post(f"{path}/rotate")
    new = answer(api.client.post(f"{path}/rotate", {"overlap_seconds": 0}))["secret"]
    api.submit(callback_url=receiver.url)
    world.deliver_waiting()
    (received,) = receiver.received
    assert schemes(received) == ["v1"]
    Webhook(new).verify(received.body, received.headers)
    with pytest.raises(WebhookVerificationError):
        Webhook(leaked).verify(received.body, received.headers)


def test_an_endpoint_is_disabled_with_a_reason_of_its_owner(api: Api) -> None:
    path = f"/v1/webhooks/{created(api)['id']}"
    disabled = answer(api.client.patch(path, {"enabled": False, "disabled_reason": "Maintenance till 6."}))
    assert (disabled["enabled"], disabled["disabled_reason"]) == (False, "Maintenance till 6.")
    enabled = answer(api.client.patch(path, {"enabled": True}))
    assert (enabled["enabled"], enabled["disabled_reason"]) == (True, None)
    for body in ({"disabled_reason": "why"}, {"enabled": True, "disabled_reason": "why"}):
        refused = api.client.patch(path, body)
        assert refused.status_code == 422
        assert [(fault["field"], fault["code"]) for fault in answer(refused)["errors"]] == [
            ("disabled_reason", "field_not_allowed")
        ]
