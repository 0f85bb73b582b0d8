"""/v1/listeners: bound and proven, changed without a gap, busy while others are at work on it."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

from sqlalchemy import update

from shared.config.regions import RetryLimits
from shared.models import Deployment
from shared.usecases.sweep import sweep
from tests.support import pki
from tests.support.api import Api, answer
from tests.support.listener_requests import HOST, REGION, body, bound, ca, server, server_of, show
from tests.support.memory_balancers import MemoryDriver, balancer


def give_up(api: Api) -> None:
    """Let every attempt be used up."""
    for _ in range(10):
        api.fleet.pass_time(timedelta(minutes=15))
        sweep(api.fleet.context, now=api.fleet.now)
        api.fleet.run()


def test_a_listener_is_bound_and_proven_by_a_handshake(api: Api) -> None:
    server_id = server(api)
    response = api.client.post("/v1/listeners", body(server_id))
    accepted = answer(response)
    assert (response.status_code, response.headers["Location"]) == (202, f"/v1/jobs/{accepted['job']['id']}")
    assert accepted["listener"]["state"] == "pending"
    api.fleet.run()
    listener = show(api.client, accepted["listener"]["id"])
    job = answer(api.client.get(response.headers["Location"]))
    certificate = answer(api.client.get(f"/v1/certificates/{server_id}"))
    assert (job["state"], [one["state"] for one in job["listeners"]]) == ("succeeded", ["bound"])
    assert (listener["state"], listener["served"]["state"]) == ("bound", "match")
    assert listener["served"]["fingerprint_sha256"] == certificate["fingerprint_sha256"]
    served = {one["region"]: one["served"]["state"] for one in certificate["deployments"]}
    assert served == {REGION: "match", "eu-central-1": "not_checked", "us-west-1": "not_checked"}


def test_a_mutual_listener_asks_for_clients_of_its_ca(api: Api) -> None:
    listener = bound(api, server(api), authentication="mutual", ca_certificate_id=ca(api))
    assert (listener["state"], listener["served"]["state"]) == ("bound", "match")


def test_a_balancer_that_lets_anybody_in_is_not_taken_for_mutual(api: Api) -> None:
    balancer(REGION).answers_anyone = True
    listener = bound(api, server(api), authentication="mutual", ca_certificate_id=ca(api))
    give_up(api)
    listener = show(api.client, listener["id"])
    assert (listener["state"], listener["error"]["code"]) == ("failed", "not_served")
    assert balancer(REGION).shown_to(HOST) is None


def test_a_listener_is_given_up_at_its_regions_deadline_though_attempts_are_left(api: Api) -> None:
    regions = api.fleet.context.settings.regions
    regions[REGION] = replace(regions[REGION], retry=RetryLimits(max_attempts=99, deadline=timedelta(minutes=20)))
    balancer(REGION).faults.lie("bind", times=None)
    listener = bound(api, server(api))
    assert listener["state"] == "pending"
    give_up(api)
    listener = show(api.client, listener["id"])
    assert (listener["state"], listener["error"]["code"], listener["error"]["retryable"]) == (
        "failed",
        "not_served",
        False,
    )


def test_a_change_is_served_and_names_that_it_gave_up_are_free(api: Api) -> None:
    server_id = server(api)
    listener = bound(api, server_id)
    changed = api.client.patch(f"/v1/listeners/{listener['id']}", {"hosts": ["www.shop.example.com"], "name": "www"})
    assert answer(changed)["listener"]["change"]["hosts"] == ["www.shop.example.com"]
    api.fleet.run()
    after = show(api.client, listener["id"])
    assert (after["hosts"], after["name"], after["change"]) == (["www.shop.example.com"], "www", None)
    assert balancer(REGION).shown_to(HOST) is None
    assert bound(api, server_id)["state"] == "bound"


def test_a_change_that_fails_leaves_what_was_served(api: Api) -> None:
    listener = bound(api, server(api))
    balancer(REGION).faults.lie("bind", times=None)
    job = answer(api.client.patch(f"/v1/listeners/{listener['id']}", {"hosts": ["www.shop.example.com"]}))["job"]
    api.fleet.run()
    give_up(api)
    after = show(api.client, listener["id"])
    assert (after["state"], after["hosts"], after["change"]) == ("bound", [HOST], None)
    assert after["error"]["code"] == "not_served"
    assert answer(api.client.get(f"/v1/jobs/{job['id']}"))["state"] == "failed"
    assert balancer(REGION).shown_to(HOST) is not None


def test_a_deleted_listener_is_served_no_more_and_gone(api: Api) -> None:
    listener = bound(api, server(api))
    assert api.client.delete(f"/v1/listeners/{listener['id']}").status_code == 202
    api.fleet.run()
    assert api.client.get(f"/v1/listeners/{listener['id']}").status_code == 404
    assert api.client.items("/v1/listeners") == []
    assert balancer(REGION).shown_to(HOST) is None


def test_a_certificate_in_use_is_not_removed_and_the_listeners_are_named(api: Api) -> None:
    server_id = server(api)
    listener = bound(api, server_id)
    for path in (f"/v1/certificates/{server_id}", f"/v1/certificates/{server_id}/deployments/{REGION}"):
        refused = api.client.delete(path)
        assert refused.status_code == 409
        assert answer(refused)["code"] == "in_use"
        assert listener["id"] in refused.text
    assert api.client.delete(f"/v1/certificates/{server_id}/deployments/us-west-1").status_code == 202


def test_a_listener_at_work_is_busy(api: Api) -> None:
    server_id = server(api)
    listener_id = answer(api.client.post("/v1/listeners", body(server_id)))["listener"]["id"]
    refused = api.client.patch(f"/v1/listeners/{listener_id}", {"name": "other"})
    assert (refused.status_code, answer(refused)["code"]) == (409, "busy")


def test_a_failed_listener_is_tried_again_by_an_empty_change(api: Api) -> None:
    balancer(REGION).faults.lie("bind", times=None)
    listener = bound(api, server(api))
    give_up(api)
    assert show(api.client, listener["id"])["state"] == "failed"
    balancer(REGION).faults.clear()
    assert api.client.patch(f"/v1/listeners/{listener['id']}", {}).status_code == 202
    api.fleet.run()
    assert show(api.client, listener["id"])["state"] == "bound"


def test_lists_are_filtered(api: Api) -> None:
    server_id = server(api)
    one = bound(api, server_id)["id"]
    other = bound(api, server_id, region="us-west-1", name="west")["id"]
    for query, expected in {
        f"region={REGION}": [one],
        "q=west": [other],
        "q=shop.example": [other, one],
        f"certificate_id={server_id}": [other, one],
        "state=failed": [],
    }.items():
        assert [item["id"] for item in api.client.items(f"/v1/listeners?{query}")] == expected


def test_a_listener_of_a_certificate_that_is_being_replaced_is_busy_and_nothing_old_comes_back(api: Api) -> None:
    server_id = server_of(api, api.client)
    listener_id = bound(api, server_id)["id"]
    accepted = replaced(api, server_id)
    for refused in (
        api.client.delete(f"/v1/listeners/{listener_id}"),
        api.client.patch(f"/v1/listeners/{listener_id}", {"name": "other"}),
    ):
        assert (refused.status_code, answer(refused)["code"]) == (409, "busy")
        assert answer(refused)["context"]["jobs"] == [accepted["job"]["id"]]
    api.fleet.run()
    assert show(api.client, listener_id)["server_certificate_id"] == accepted["certificate"]["id"]
    assert api.client.delete(f"/v1/listeners/{listener_id}").status_code == 202
    api.fleet.run()
    held = {one.ref.name.certificate_id for one in balancer(REGION).snapshot().objects}
    assert held == {accepted["certificate"]["id"]}


def test_a_listener_that_a_replacement_left_on_the_old_certificate_can_be_changed(api: Api) -> None:
    server_id = server(api)
    listener_id = bound(api, server_id)["id"]
    balancer(REGION).faults.lie("bind", times=None)
    accepted = replaced(api, server_id)
    api.fleet.run()
    give_up(api)
    balancer(REGION).faults.clear()
    assert answer(api.client.get(f"/v1/jobs/{accepted['job']['id']}"))["state"] == "partially_succeeded"
    assert api.client.patch(f"/v1/listeners/{listener_id}", {"hosts": ["www.shop.example.com"]}).status_code == 202
    api.fleet.run()
    after = show(api.client, listener_id)
    assert (after["hosts"], after["server_certificate_id"]) == (["www.shop.example.com"], server_id)
    assert (after["state"], after["served"]["state"]) == ("bound", "match")


def test_a_callback_hears_of_the_listeners_job(api: Api) -> None:
    wanted = body(server(api), callback_url="https://8.8.8.8/hook")
    job_id = answer(api.client.post("/v1/listeners", wanted))["job"]["id"]
    assert [one["url"] for one in api.client.items(f"/v1/webhooks?job_id={job_id}")] == ["https://8.8.8.8/hook"]


def test_the_same_key_makes_one_listener(api: Api) -> None:
    wanted, headers = body(server(api)), {"Idempotency-Key": "k"}
    first, again = (api.client.post("/v1/listeners", wanted, headers=headers) for _ in range(2))
    assert (first.status_code, first.data) == (again.status_code, again.data)
    assert again.headers["Idempotency-Replayed"] == "true"
    assert len(api.client.items("/v1/listeners")) == 1


def test_every_request_is_audited(api: Api) -> None:
    listener_id = bound(api, server(api))["id"]
    api.client.patch(f"/v1/listeners/{listener_id}", {"name": "other"})
    api.fleet.run()
    api.client.delete(f"/v1/listeners/{listener_id}")
    noted = [one["action"] for one in api.client.items("/v1/audit") if one["target"] == listener_id]
    assert noted == ["listener.deletion_requested", "listener.changed", "listener.created"]


def replaced(api: Api, certificate_id: str) -> dict[str, Any]:
    """The answer to new content, before anybody has worked on it."""
    issued = pki.server_with_chain(HOST, "www.shop.example.com")
    content = {"certificate": issued.chain_pem, "private_key": issued.key_pem}
    response = api.client.post(f"/v1/certificates/{certificate_id}/replace", content)
    assert response.status_code == 202, response.text
    return answer(response)


def test_deleting_puts_nothing_on_the_balancer_that_nobody_remembers_there(api: Api) -> None:
    listener = bound(api, server(api))
    with api.fleet.transaction() as session:
        session.execute(update(Deployment).values(remote_id=None, evidence=None))
    balancer(REGION).wipe()
    api.client.delete(f"/v1/listeners/{listener['id']}")
    api.fleet.run()
    assert api.client.get(f"/v1/listeners/{listener['id']}").status_code == 404
    assert MemoryDriver.for_region(api.fleet.context.settings.regions[REGION]).snapshot().objects == ()


def test_a_listener_of_a_region_that_is_no_longer_declared_cannot_be_deleted_and_says_what_to_do(api: Api) -> None:
    listener = bound(api, server(api))
    declared = api.fleet.context.settings.regions.pop(REGION)
    job = answer(api.client.delete(f"/v1/listeners/{listener['id']}"))["job"]
    api.fleet.run()
    job = answer(api.client.get(f"/v1/jobs/{job['id']}"))
    assert (job["state"], job["error"]["code"]) == ("failed", "unknown_region")
    assert show(api.client, listener["id"])["state"] == "bound"
    api.fleet.context.settings.regions[REGION] = declared
    api.client.delete(f"/v1/listeners/{listener['id']}")
    api.fleet.run()
    assert api.client.get(f"/v1/listeners/{listener['id']}").status_code == 404
