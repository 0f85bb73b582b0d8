"""/v1/listeners: bound and proven, changed without a gap, refused with names, never across accounts."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any

import pytest

from shared.usecases.sweep import sweep
from tests.support import pki
from tests.support.api import Api, Client, answer, codes
from tests.support.memory_balancers import balancer

REGION = "cn-hangzhou"
HOST = "shop.example.com"


def ca(api: Api) -> str:
    """A deployed CA certificate; its id."""
    pem = pki.authority("Clients").pem
    certificate = api.deployed(type="ca", certificate=pem, private_key=..., regions=[REGION])
    assert certificate["state"] == "valid", certificate
    return str(certificate["id"])


def server(api: Api) -> str:
    """A deployed certificate of shop.example.com and www.shop.example.com; its id."""
    return str(api.deployed()["id"])


def body(server_id: str, **overrides: Any) -> dict[str, Any]:
    wanted = {"region": REGION, "name": "shop", "hosts": [HOST], "server_certificate_id": server_id, **overrides}
    return {name: value for name, value in wanted.items() if value is not ...}


def bound(api: Api, server_id: str, **overrides: Any) -> dict[str, Any]:
    """A listener after its job."""
    response = api.client.post("/v1/listeners", body(server_id, **overrides))
    assert response.status_code == 202, response.text
    api.fleet.run()
    return show(api.client, answer(response)["listener"]["id"])


def show(client: Client, listener_id: str) -> dict[str, Any]:
    response = client.get(f"/v1/listeners/{listener_id}")
    assert response.status_code == 200, response.text
    return answer(response)


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


@pytest.mark.parametrize(
    ("overrides", "expected"),
    [
        ({"region": "mars"}, ("region", "unknown_region")),
        ({"region": "files-only"}, ("region", "listeners_not_supported")),
        ({"hosts": ["other.example.com"]}, ("hosts", "host_not_covered")),
        ({"hosts": ["10.0.0.1"]}, ("hosts.0", "invalid_host")),
        ({"hosts": ["bücher.example.com"]}, ("hosts.0", "invalid_host")),
        ({"hosts": [HOST, HOST.upper() + "."]}, ("hosts.1", "duplicate")),
        ({"authentication": "mutual"}, ("ca_certificate_id", "ca_required")),
        ({"server_certificate_id": "cert_nobody"}, ("server_certificate_id", "unknown_certificate")),
    ],
)
def test_what_cannot_be_is_refused_by_field(api: Api, overrides: dict[str, Any], expected: tuple[str, str]) -> None:
    assert expected in codes(api.client.post("/v1/listeners", body(server(api), **overrides)))


def test_a_ca_certificate_is_no_server_certificate_nor_the_other_way_round(api: Api) -> None:
    server_id, ca_id = server(api), ca(api)
    wanted = body(ca_id, authentication="mutual", ca_certificate_id=server_id)
    assert codes(api.client.post("/v1/listeners", wanted)) == {
        ("server_certificate_id", "wrong_type"),
        ("ca_certificate_id", "wrong_type"),
    }


def test_a_certificate_that_the_region_does_not_have_is_refused_with_the_remedy(api: Api) -> None:
    elsewhere = api.deployed(regions=["us-west-1"])
    refused = api.client.post("/v1/listeners", body(elsewhere["id"]))
    assert ("server_certificate_id", "certificate_not_in_region") in codes(refused)
    assert "/deployments" in refused.text


def test_a_host_name_belongs_to_one_listener_whoever_asks_first(api: Api) -> None:
    server_id = server(api)

    def ask(_number: int) -> int:
        client = Client(http=api.app.test_client(), token=api.client.token)
        return client.post("/v1/listeners", body(server_id)).status_code

    with ThreadPoolExecutor(8) as threads:
        statuses = sorted(threads.map(ask, range(16)))
    assert statuses == [202] + [409] * 15


def test_another_account_neither_sees_it_nor_learns_whose_the_name_is(api: Api) -> None:
    listener = bound(api, server(api))
    stranger = api.account("stranger")
    assert stranger.get(f"/v1/listeners/{listener['id']}").status_code == 404
    assert stranger.patch(f"/v1/listeners/{listener['id']}", {"name": "mine"}).status_code == 404
    assert stranger.delete(f"/v1/listeners/{listener['id']}").status_code == 404
    assert stranger.items("/v1/listeners") == []
    own = answer(stranger.post("/v1/certificates", _submission()))["certificate"]["id"]
    api.fleet.run()
    taken = stranger.post("/v1/listeners", body(own))
    assert (taken.status_code, answer(taken)["code"]) == (409, "host_taken")
    assert listener["id"] not in taken.text


def test_nobody_takes_the_clients_of_anothers_wildcard(api: Api) -> None:
    stranger = api.account("stranger")
    wildcard = _submission("*.example.com", "shop.example.com")
    theirs = answer(stranger.post("/v1/certificates", wildcard))["certificate"]["id"]
    server_id = server(api)
    bound(api, server_id)
    covers_ours = stranger.post("/v1/listeners", body(theirs, hosts=["*.example.com"]))
    assert (covers_ours.status_code, answer(covers_ours)["code"]) == (409, "host_taken")
    elsewhere = answer(stranger.post("/v1/certificates", {**wildcard, "regions": ["us-west-1"]}))["certificate"]["id"]
    api.fleet.run()
    taken = stranger.post("/v1/listeners", body(elsewhere, hosts=["*.example.com"], region="us-west-1"))
    assert taken.status_code == 202
    within_theirs = api.client.post("/v1/listeners", body(server_id, region="us-west-1"))
    assert (within_theirs.status_code, answer(within_theirs)["code"]) == (409, "host_taken")


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


def _submission(*names: str) -> dict[str, Any]:
    issued = pki.server_with_chain(*(names or (HOST,)))
    return {
        "source": "third_party",
        "type": "server",
        "certificate": issued.chain_pem,
        "private_key": issued.key_pem,
        "regions": [REGION],
    }
