"""Listeners in the console: list, one, create and change with faults by field, delete; and whose they are."""

from __future__ import annotations

from typing import Any

import pytest

from tests.support import pki
from tests.support.api import Api
from tests.support.console import Browser, signed_in, stranger
from tests.support.fleet import REGIONS
from tests.support.listeners import add_listener, listener_of
from tests.support.memory_balancers import balancer
from tests.support.patrols import after_a_period, foreign_material

HERE = REGIONS[0]
HOST = "shop.example.com"


@pytest.fixture
def api(reachable: Api) -> Api:
    return reachable


def bound(api: Api, server: str, *, host: str = HOST, region: str = HERE, ca: str | None = None) -> str:
    listener = add_listener(api.fleet, region, [host], server=server, ca=ca)
    api.fleet.run()
    return listener


def ca(api: Api) -> str:
    issued = pki.authority("Clients")
    return str(api.deployed(type="ca", certificate=issued.pem, private_key=..., regions=[HERE])["id"])


def form(server: str, **overrides: Any) -> dict[str, Any]:
    fields = {"region": HERE, "name": "shop", "hosts": HOST, "authentication": "one_way"}
    return {**fields, "server_certificate_id": server, "ca_certificate_id": "", **overrides}


def create(one: Browser, server: str, **overrides: Any) -> Any:
    return one.submit(f"/listeners/add?region={HERE}", "/listeners/add", form(server, **overrides))


def test_nothing_yet_teaches_what_a_listener_is(api: Api) -> None:
    assert "Your first listener" in signed_in(api).page("/listeners")


def test_a_row_says_hosts_certificate_and_what_clients_really_get(api: Api) -> None:
    certificate = api.deployed(name="the shop")
    listener = bound(api, certificate["id"], ca=ca(api))
    page = signed_in(api).page("/listeners")
    assert f'href="/listeners/{listener}"' in page
    assert ">the shop</a>" in page
    assert "mutual TLS" in page
    assert ">Clients</span>" in page, "the CA's name"
    assert '<span class="badge good">bound</span>' in page
    assert "badge good" in page
    assert "just now" in page


def test_what_is_not_served_as_wished_can_be_asked_for_and_says_what_is(api: Api) -> None:
    certificate = api.deployed()
    good, swapped = (bound(api, certificate["id"], region=region) for region in REGIONS[:2])
    balancer(REGIONS[1]).swap_by_hand(HOST, foreign_material(HOST))
    after_a_period(api.fleet)
    one = signed_in(api)
    page = one.page("/listeners?served=mismatch")
    assert swapped in page
    assert good not in page
    assert "CN=shop.example.com" in one.page(f"/listeners/{swapped}")
    assert [item["id"] for item in api.client.items("/v1/listeners?served=mismatch")] == [swapped]


def test_search_and_region_filter(api: Api) -> None:
    certificate = api.deployed()
    here, there = (bound(api, certificate["id"], region=region) for region in REGIONS[:2])
    one = signed_in(api)
    assert there not in one.page(f"/listeners?region={HERE}")
    assert here in one.page("/listeners?q=SHOP.example")
    assert "No listener of this account fits" in one.page("/listeners?q=nothing")


def test_the_form_asks_for_the_region_first_and_offers_what_is_deployed_there(api: Api) -> None:
    certificate = api.deployed(name="the shop", regions=[HERE])
    one = signed_in(api)
    assert "Choose a region first" in one.page("/listeners/add")
    assert f'<option value="{certificate["id"]}"' in one.page(f"/listeners/add?region={HERE}")
    assert certificate["id"] not in one.page(f"/listeners/add?region={REGIONS[1]}")
    assert certificate["id"] not in one.page(f"/listeners/add?region={HERE}&q=nothing")
    chosen = one.page(f"/listeners/add?region={HERE}&certificate_id={certificate['id']}")
    assert f'<option value="{certificate["id"]}" selected>' in chosen


def test_what_is_created_becomes_a_job_that_binds_and_proves_it(api: Api) -> None:
    certificate = api.deployed()
    one = signed_in(api)
    answer = create(one, certificate["id"], hosts=f"{HOST}\r\n www.shop.example.com")
    assert answer.status_code == 303
    assert 'aria-label="Listeners"' in one.page(answer.headers["Location"])
    api.fleet.run()
    page = one.page("/listeners")
    assert "shop.example.com, www.shop.example.com" in page
    assert "bound" in page


def test_a_mutual_one_needs_a_ca_and_gets_it(api: Api) -> None:
    certificate, authority = api.deployed(), ca(api)
    one = signed_in(api)
    refused = create(one, certificate["id"], authentication="mutual")
    assert refused.status_code == 422
    assert 'id="ca_certificate_id-mistake"' in refused.text
    assert create(one, certificate["id"], authentication="mutual", ca_certificate_id=authority).status_code == 303


@pytest.mark.parametrize(
    ("fields", "mistake"),
    [
        ({"hosts": ""}, "hosts"),
        ({"hosts": "not a host"}, "hosts"),
        ({"hosts": "elsewhere.example.org"}, "hosts"),
        ({"name": ""}, "name"),
        ({"authentication": "nonsense"}, "authentication"),
        ({"server_certificate_id": "cert_nowhere"}, "server_certificate_id"),
        ({"server_certificate_id": ""}, "server_certificate_id"),
    ],
)
def test_what_cannot_be_is_said_at_its_field_and_what_was_typed_stays(
    api: Api, fields: dict[str, str], mistake: str
) -> None:
    certificate = api.deployed()
    refused = create(signed_in(api), certificate["id"], **fields)
    assert refused.status_code == 422
    assert f'id="{mistake}-mistake"' in refused.text
    assert fields.get("name", "shop") in refused.text
    assert 'role="alert"' in refused.text


def test_an_unknown_region_is_refused_on_the_page(api: Api) -> None:
    certificate = api.deployed()
    refused = create(signed_in(api), certificate["id"], region="nowhere")
    assert refused.status_code == 422
    assert 'id="region-mistake"' in refused.text


def test_a_host_name_that_is_taken_is_a_conflict_on_the_page(api: Api) -> None:
    certificate = api.deployed()
    bound(api, certificate["id"])
    refused = create(signed_in(api), certificate["id"])
    assert refused.status_code == 409
    assert 'role="alert"' in refused.text


def test_a_change_is_a_job_and_keeps_what_is_served_until_it_is_proven(api: Api) -> None:
    certificate, authority = api.deployed(), ca(api)
    listener = bound(api, certificate["id"])
    one = signed_in(api)
    path = f"/listeners/{listener}/change"
    assert f'<option value="{certificate["id"]}" selected>' in one.page(path)
    mutual = form(certificate["id"], authentication="mutual", ca_certificate_id=authority)
    answer = one.submit(path, path, mutual)
    assert answer.status_code == 303
    waiting = one.page(f"/listeners/{listener}")
    assert "What it is to become" in waiting
    assert "Follow the job" in waiting
    api.fleet.run()
    assert listener_of(api.fleet, listener).authentication == "mutual"
    back = one.submit(path, path, form(certificate["id"], hosts="www.shop.example.com"))
    assert back.status_code == 303
    api.fleet.run()
    changed = listener_of(api.fleet, listener)
    assert (changed.authentication, changed.hosts) == ("one_way", ["www.shop.example.com"])


def test_a_change_that_cannot_be_is_said_at_its_field(api: Api) -> None:
    certificate = api.deployed()
    path = f"/listeners/{bound(api, certificate['id'])}/change"
    refused = signed_in(api).submit(path, path, form(certificate["id"], hosts="elsewhere.example.org"))
    assert refused.status_code == 422
    assert 'id="hosts-mistake"' in refused.text


def test_proving_again_is_a_job(api: Api) -> None:
    certificate = api.deployed()
    listener = bound(api, certificate["id"])
    balancer(HERE).swap_by_hand(HOST, foreign_material(HOST))
    one = signed_in(api)
    page = f"/listeners/{listener}"
    assert one.submit(page, f"{page}/prove").status_code == 303
    api.fleet.run()
    assert listener_of(api.fleet, listener).served == "match"


def test_deletion_says_which_host_names_go_and_what_stays(api: Api) -> None:
    certificate = api.deployed(name="the shop")
    path = f"/listeners/{bound(api, certificate['id'])}/delete"
    one = signed_in(api)
    page = one.page(path)
    assert f"<li>{HOST}</li>" in page
    assert ">the shop</a>" in page
    assert one.submit(path, path).status_code == 303
    api.fleet.run()
    assert "Your first listener" in one.page("/listeners")


def test_a_stranger_sees_none_and_may_not_use_anothers_certificate(api: Api) -> None:
    certificate = api.deployed(name="the shop")
    listener = bound(api, certificate["id"])
    eve = stranger(api)
    assert "Your first listener" in eve.page("/listeners")
    for path in ("", "/change", "/delete"):
        assert eve.get(f"/listeners/{listener}{path}").status_code == 404
    assert "the shop" not in eve.page(f"/listeners/add?region={HERE}&certificate_id={certificate['id']}")
    refused = create(eve, certificate["id"], hosts="other.example.com")
    assert refused.status_code == 422
    assert "the shop" not in refused.text
