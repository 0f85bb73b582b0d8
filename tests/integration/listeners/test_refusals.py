"""Listeners that cannot be as they are asked for: every fault at once, by field, with its reason and its remedy."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from shared.config.regions import Region
from tests.support.api import Api, answer, build_api, codes, submission
from tests.support.listener_requests import HOST, REGION, body, bound, ca, server, server_of
from tests.support.memory_balancers import memory_region

LONG = ".".join(["a" * 63] * 4) + ".example"


@pytest.mark.parametrize(
    ("overrides", "expected"),
    [
        ({"region": "mars"}, {("region", "unknown_region")}),
        ({"region": "mars\u202e"}, {("region", "unknown_region")}),
        (
            {"region": "files-only"},
            {("region", "listeners_not_supported"), ("server_certificate_id", "certificate_not_in_region")},
        ),
        ({"server_certificate_id": ...}, {("server_certificate_id", "missing_field")}),
        ({"name": " "}, {("name", "invalid_character")}),
        ({"hosts": []}, {("hosts", "wrong_length")}),
        ({"hosts": [f"h{number}.example.com" for number in range(101)]}, {("hosts", "wrong_length")}),
        ({"hosts": ["other.example.com"]}, {("hosts", "host_not_covered")}),
        ({"hosts": ["*.shop.example.com"]}, {("hosts", "host_not_covered")}),
        ({"hosts": ["10.0.0.1"]}, {("hosts.0", "invalid_host")}),
        ({"hosts": ["[::1]"]}, {("hosts.0", "invalid_host")}),
        ({"hosts": ["localhost"]}, {("hosts.0", "invalid_host")}),
        ({"hosts": [LONG]}, {("hosts.0", "wrong_length")}),
        ({"hosts": ["a.*.example.com"]}, {("hosts.0", "invalid_host")}),
        ({"hosts": [f"{HOST}\nx"]}, {("hosts.0", "invalid_host")}),
        ({"hosts": ["   "]}, {("hosts.0", "invalid_host")}),
        ({"hosts": [HOST, HOST.upper() + "."]}, {("hosts.1", "duplicate")}),
        ({"authentication": "mutual"}, {("ca_certificate_id", "ca_required")}),
        ({"authentication": "anonymous"}, {("authentication", "not_one_of")}),
        ({"server_certificate_id": "cert_nobody"}, {("server_certificate_id", "unknown_certificate")}),
        ({"server_certificate_id": None}, {("server_certificate_id", "null_not_allowed")}),
        ({"callback_url": "http://127.0.0.1/"}, {("callback_url", "address_not_allowed")}),
        ({"port": 443}, {("port", "unknown_field")}),
    ],
)
def test_what_cannot_be_is_refused_by_field(
    api: Api, overrides: dict[str, Any], expected: set[tuple[str, str]]
) -> None:
    refused = api.client.post("/v1/listeners", body(server(api), **overrides))
    assert codes(refused) == expected
    assert all(one["message"] and one["hint"] for one in answer(refused)["errors"])


def test_every_fault_is_named_at_once(api: Api) -> None:
    wanted = body(
        ca(api),
        region="mars",
        hosts=["one.example.com", "one.example.com", "10.0.0.1"],
        authentication="one_way",
        ca_certificate_id="cert_nobody",
    )
    assert codes(api.client.post("/v1/listeners", wanted)) == {
        ("region", "unknown_region"),
        ("hosts.1", "duplicate"),
        ("hosts.2", "invalid_host"),
        ("server_certificate_id", "wrong_type"),
        ("ca_certificate_id", "ca_not_allowed"),
        ("ca_certificate_id", "unknown_certificate"),
    }


def test_host_names_are_taken_as_they_are_usually_written(api: Api) -> None:
    assert bound(api, server(api), hosts=["WWW.Shop.Example.com.", HOST])["hosts"] == [HOST, f"www.{HOST}"]


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("bücher.example", "Write it as xn--bcher-kva.example."),
        ("Bücher.example", "Write it as xn--bcher-kva.example."),
        ("straße.example", "Write it in ASCII, as an A-label (xn--…)."),
        ("…\u200b.example", "Write it in ASCII, as an A-label (xn--…)."),
    ],
)
def test_a_name_in_another_script_is_refused_with_its_spelling(api: Api, name: str, hint: str) -> None:
    refused = api.client.post("/v1/listeners", body("cert_nobody", hosts=[name]))
    assert ("hosts.0", "invalid_host") in codes(refused)
    assert answer(refused)["errors"][0]["hint"] == hint


def test_names_that_a_certificate_lacks_are_told_with_those_that_it_has(api: Api) -> None:
    wanted = body(server(api), hosts=[HOST, "a.example.com", "b.example.com"])
    (error,) = answer(api.client.post("/v1/listeners", wanted))["errors"]
    assert error["message"] == (
        "The certificate is not valid for a.example.com, b.example.com;"
        " it covers shop.example.com, www.shop.example.com."
    )


def test_a_ca_certificate_is_no_server_certificate_nor_the_other_way_round(api: Api) -> None:
    server_id, ca_id = server(api), ca(api)
    wanted = body(ca_id, authentication="mutual", ca_certificate_id=server_id)
    assert codes(api.client.post("/v1/listeners", wanted)) == {
        ("server_certificate_id", "wrong_type"),
        ("ca_certificate_id", "wrong_type"),
    }


def test_a_certificate_that_the_region_does_not_have_is_refused_with_the_remedy(api: Api) -> None:
    elsewhere = server_of(api, api.client, regions=("us-west-1",))
    refused = api.client.post("/v1/listeners", body(elsewhere))
    assert codes(refused) == {("server_certificate_id", "certificate_not_in_region")}
    assert f"POST /v1/certificates/{elsewhere}/deployments" in refused.text


def test_a_certificate_that_is_not_valid_yet_or_never_is_refused(api: Api) -> None:
    waiting = api.submit()["certificate"]["id"]
    refused = api.client.post("/v1/listeners", body(waiting))
    assert codes(refused) == {("server_certificate_id", "certificate_not_valid")}
    rejected = api.deployed(certificate="no PEM")["id"]
    refused = api.client.post("/v1/listeners", body(rejected))
    assert codes(refused) == {("server_certificate_id", "certificate_not_valid")}
    assert "rejected" in refused.text


def test_a_certificate_that_was_replaced_is_refused_and_the_new_one_named(api: Api) -> None:
    old = server(api)
    content = {name: submission()[name] for name in ("certificate", "private_key")}
    new = answer(api.client.post(f"/v1/certificates/{old}/replace", content))["certificate"]["id"]
    api.fleet.run()
    refused = api.client.post("/v1/listeners", body(old))
    assert codes(refused) == {("server_certificate_id", "certificate_replaced")}
    assert answer(refused)["errors"][0]["hint"] == f"Use {new}."


def test_anothers_certificate_is_answered_like_none_at_all(api: Api) -> None:
    theirs = server_of(api, api.account("stranger"))
    mine, nobodys = (api.client.post("/v1/listeners", body(one)) for one in (theirs, "cert_nobody"))
    assert answer(mine)["errors"] == answer(nobodys)["errors"]


@pytest.mark.parametrize(
    ("region", "authentication", "field"),
    [
        (memory_region(REGION, settings={"balancer": REGION, "listeners": False}), "one_way", "region"),
        (memory_region(REGION, settings={"balancer": REGION, "mutual_auth": False}), "mutual", "authentication"),
        (replace(memory_region(REGION), listener_address=None), "one_way", "region"),
        (replace(memory_region(REGION), driver="nobody-wrote-it"), "one_way", "region"),
        (replace(memory_region(REGION), settings={}), "one_way", "region"),
    ],
)
def test_a_region_that_cannot_says_so(api: Api, region: Region, authentication: str, field: str) -> None:
    wanted = body(server(api), authentication=authentication, ca_certificate_id=ca(api))
    if authentication == "one_way":
        del wanted["ca_certificate_id"]
    refused = declaring(api, region).client.post("/v1/listeners", wanted)
    assert codes(refused) == {(field, "listeners_not_supported")}


def test_a_listener_of_a_region_that_is_gone_says_so(api: Api) -> None:
    listener_id = bound(api, server(api))["id"]
    settings = api.fleet.context.settings
    del settings.regions[REGION]
    refused = api.client.patch(f"/v1/listeners/{listener_id}", {"name": "other"})
    assert (refused.status_code, answer(refused)["code"]) == (409, "unknown_region")


def test_a_change_is_held_to_the_same_rules(api: Api) -> None:
    listener_id = bound(api, server(api))["id"]
    for changes, expected in (
        ({"region": "us-west-1"}, ("region", "unknown_field")),
        ({"hosts": ["other.example.com"]}, ("hosts", "host_not_covered")),
        ({"authentication": "mutual"}, ("ca_certificate_id", "ca_required")),
        ({"ca_certificate_id": ca(api)}, ("ca_certificate_id", "ca_not_allowed")),
        ({"server_certificate_id": server_of(api, api.client, "a.example.com")}, ("hosts", "host_not_covered")),
    ):
        assert codes(api.client.patch(f"/v1/listeners/{listener_id}", changes)) == {expected}


def test_a_mutual_listener_that_becomes_one_way_loses_its_ca(api: Api) -> None:
    listener = bound(api, server(api), authentication="mutual", ca_certificate_id=ca(api))
    accepted = api.client.patch(f"/v1/listeners/{listener['id']}", {"authentication": "one_way"})
    assert (accepted.status_code, answer(accepted)["listener"]["change"]["ca_certificate_id"]) == (202, None)


def test_what_was_refused_takes_no_name(api: Api) -> None:
    server_id = server(api)
    bound(api, server_id, hosts=[HOST])
    both = api.client.post("/v1/listeners", body(server_id, hosts=[HOST, f"www.{HOST}"]))
    assert (both.status_code, answer(both)["context"]["hosts"]) == (409, [HOST])
    assert bound(api, server_id, hosts=[f"www.{HOST}"])["state"] == "bound"


def test_the_reference_names_every_refusal(api: Api) -> None:
    paths = answer(api.client.get("/openapi.json"))["paths"]
    assert {"409", "422"} <= set(paths["/v1/listeners"]["post"]["responses"])
    assert {"404", "409", "422"} <= set(paths["/v1/listeners/{listener_id}"]["patch"]["responses"])
    assert {"404", "409"} <= set(paths["/v1/listeners/{listener_id}"]["delete"]["responses"])


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=10), inner, max_size=4),
    max_leaves=6,
)
known_fields = st.sampled_from(
    ["region", "name", "hosts", "authentication", "server_certificate_id", "ca_certificate_id", "callback_url", "x"]
)
plausible = st.sampled_from([REGION, "shop", [HOST], "mutual", "one_way", "cert_nobody", "https://a.example/"])
names = st.lists(st.text(max_size=30) | st.from_regex(r"(\*\.)?[a-zß.-]{1,20}\.example", fullmatch=True), max_size=4)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(extra=st.dictionaries(known_fields, plausible | json_values, max_size=4), hosts=names)
def test_no_body_makes_a_server_error(api: Api, extra: dict[str, Any], hosts: list[str]) -> None:
    asked = {**body("cert_nobody", hosts=hosts), **extra}
    assert api.client.post("/v1/listeners", asked).status_code in {422, 400}
    assert api.client.patch("/v1/listeners/lsn_nobody", extra).status_code in {404, 422, 400}


def declaring(api: Api, region: Region) -> Api:
    """The API where the operator has declared the region like this."""
    context = api.fleet.context
    declared = {**context.settings.regions, region.id: region}
    changed = replace(context, settings=replace(context.settings, regions=declared))
    return build_api(api.fleet, context=changed)
