"""What certificate services offer is listed by workers, and read by users without asking anybody."""

from __future__ import annotations

import dataclasses
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import select, update

from shared.config.sources import CertificateService
from shared.errors import AuthRefused, Unreachable
from shared.models import Account, SourceCatalogue
from tests.support.api import Api, answer, codes
from tests.support.fleet import Fleet
from tests.support.managed import HOST, list_anew, pick, wait
from tests.support.memory_sources import MemoryService, MemorySource, certificate_service

PATH = "/v1/managed-certificates"


def declare(fleet: Fleet, *services: CertificateService) -> None:
    """Another sources file."""
    settings = dataclasses.replace(fleet.context.settings, sources={each.id: each for each in services})
    fleet.context = dataclasses.replace(fleet.context, settings=settings)


def ids(api: Api, query: str = "") -> list[str]:
    return [item["id"] for item in api.client.items(f"{PATH}{query}")]


def source_of(api: Api) -> dict[str, object]:
    (source,) = answer(api.client.get(PATH))["sources"]
    return dict(source)


def test_what_the_service_offers_is_listed_with_what_it_tells(api: Api, fleet: Fleet, service: MemoryService) -> None:
    offer = service.issue("shop.example.com", "www.shop.example.com")
    assert ids(api) == []
    list_anew(fleet)
    service.calls.clear()
    (item,) = api.client.items(PATH)
    assert item["id"] == f"memory:{offer.id}"
    assert item["names"] == ["shop.example.com", "www.shop.example.com"]
    assert item["not_after"] == "2026-04-15T12:00:00Z"
    assert (item["source"], item["key_algorithm"], item["certificate_id"]) == ("memory", "rsa-2048", None)
    assert source_of(api) == {
        "id": "memory",
        "name": "Memory",
        "offers": 1,
        "refreshed_at": "2026-01-15T12:00:00Z",
        "error": None,
    }
    assert service.calls == []


def test_it_names_the_certificate_that_came_from_it(api: Api, fleet: Fleet, service: MemoryService) -> None:
    offer = service.issue(HOST)
    list_anew(fleet)
    _, certificate_id = pick(fleet, offer.id)
    fleet.run()
    (item,) = api.client.items(PATH)
    assert item["certificate_id"] == certificate_id
    shown = answer(api.client.get(f"/v1/certificates/{certificate_id}"))
    assert shown["managed_certificate_id"] == item["id"]


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ("q=SHOP", ["memory:m0001"]),
        ("q=www.", ["memory:m0001", "memory:m0002"]),
        ("q=m0003", ["memory:m0003"]),
        ("q=%25", []),
        ("source=memory&q=example.org", ["memory:m0003"]),
        ("source=other", []),
    ],
)
def test_a_search_finds_parts_of_names_and_ids(
    api: Api, fleet: Fleet, service: MemoryService, query: str, found: list[str]
) -> None:
    service.issue("shop.example.com", "www.shop.example.com")
    service.issue("www.example.net")
    service.issue("api.example.org")
    list_anew(fleet)
    assert ids(api, f"?{query}") == found


def test_pages_hold_each_once_and_cursors_keep_their_filters(api: Api, fleet: Fleet, service: MemoryService) -> None:
    for number in range(5):
        service.issue(f"host{number}.example.com")
    list_anew(fleet)
    seen: list[str] = []
    query = "?limit=2"
    while True:
        page = answer(api.client.get(f"{PATH}{query}"))
        seen += [item["id"] for item in page["items"]]
        if page["next_cursor"] is None:
            break
        query = f"?limit=2&cursor={page['next_cursor']}"
    assert seen == [f"memory:m000{number}" for number in range(1, 6)]
    first = answer(api.client.get(f"{PATH}?limit=2"))["next_cursor"]
    refused = api.client.get(f"{PATH}?q=host&cursor={first}")
    assert (refused.status_code, answer(refused)["code"]) == (422, "invalid_cursor")


def test_many_pages_of_the_service_are_read_to_the_end(api: Api, fleet: Fleet, service: MemoryService) -> None:
    for number in range(101):
        service.issue(f"host{number}.example.com")
    list_anew(fleet)
    assert source_of(api)["offers"] == 101
    assert service.calls == ["list_offers", "list_offers"]


def test_a_list_that_goes_round_in_circles_ends(
    api: Api, fleet: Fleet, service: MemoryService, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A service that takes no notice of the page that it is asked for."""
    service.issue(HOST)
    page = fleet.sources["memory"].list_offers(limit=1)
    pages = iter([dataclasses.replace(page, next_cursor="2")] * 10)
    monkeypatch.setattr(fleet.sources["memory"], "list_offers", lambda **_asked: next(pages))
    list_anew(fleet)
    error = source_of(api)["error"]
    assert isinstance(error, dict)
    assert error["code"] == "corrupt"


@pytest.mark.parametrize("name", ["half \ud800 a pair", "nul \x00 in it"])
def test_text_that_no_database_takes_hides_no_other_offer(
    api: Api, fleet: Fleet, service: MemoryService, name: str
) -> None:
    offer, content = service.offers[service.issue(HOST).id]
    service.offers[offer.id] = (dataclasses.replace(offer, name=name, issuer=name), content)
    service.issue("shop.example.com")
    list_anew(fleet)
    first, _second = api.client.items(PATH)
    assert first["name"] == first["issuer"] == name.replace("\ud800", "\ufffd").replace("\x00", "\ufffd")


def test_a_list_that_cannot_be_stored_is_told_and_tried_again(api: Api, fleet: Fleet, service: MemoryService) -> None:
    offer, content = service.offers[service.issue(HOST).id]
    no_time: Any = "never"
    service.offers[offer.id] = (dataclasses.replace(offer, not_after=no_time), content)
    list_anew(fleet)
    error = source_of(api)["error"]
    assert isinstance(error, dict)
    assert error["code"] == "internal_error"
    service.offers[offer.id] = (offer, content)
    wait(fleet)
    assert ids(api) == [f"memory:{offer.id}"]


def test_it_is_listed_anew_in_time_and_on_request(api: Api, fleet: Fleet, service: MemoryService) -> None:
    list_anew(fleet)
    service.issue(HOST)
    wait(fleet, step=timedelta(minutes=5))
    assert ids(api) == ["memory:m0001"]
    service.issue("shop.example.com")
    response = api.client.post(f"{PATH}/refresh")
    assert (response.status_code, answer(response)["sources"][0]["offers"]) == (202, 1)
    fleet.run()
    assert ids(api) == ["memory:m0001", "memory:m0002"]


def test_a_service_that_is_away_leaves_what_was_listed_and_says_so(
    api: Api, fleet: Fleet, service: MemoryService
) -> None:
    service.issue(HOST)
    list_anew(fleet)
    service.faults.add("list_offers", AuthRefused)
    wait(fleet, step=timedelta(minutes=5))
    assert ids(api) == ["memory:m0001"]
    error = source_of(api)["error"]
    assert isinstance(error, dict)
    assert (error["code"], error["message"]) == ("auth_refused", "as told: list_offers")
    wait(fleet)
    assert source_of(api)["error"] is None


def test_a_worker_that_died_over_a_list_is_followed_by_another(api: Api, fleet: Fleet, service: MemoryService) -> None:
    def die(_verb: str) -> None:
        raise KeyboardInterrupt

    service.issue(HOST)
    service.on_call = die
    with pytest.raises(KeyboardInterrupt):
        list_anew(fleet)
    service.on_call = lambda _verb: None
    wait(fleet)
    assert ids(api) == ["memory:m0001"]


def test_a_source_that_is_declared_no_more_offers_nothing_and_comes_back(
    api: Api, fleet: Fleet, service: MemoryService
) -> None:
    service.issue(HOST)
    list_anew(fleet)
    declared = fleet.context.settings.sources.values()
    declare(fleet)
    list_anew(fleet)
    assert ids(api) == []
    declare(fleet, *declared)
    list_anew(fleet)
    assert ids(api) == ["memory:m0001"]
    with fleet.transaction() as session:
        assert [row.state for row in session.execute(select(SourceCatalogue)).scalars()] == ["declared"]


def test_another_account_sees_picks_and_refreshes_none_of_it(api: Api, fleet: Fleet, service: MemoryService) -> None:
    offer = service.issue(HOST)
    stranger = api.account("stranger")
    list_anew(fleet)
    service.calls.clear()
    page = answer(stranger.get(PATH))
    assert (page["items"], page["sources"]) == ([], [])
    body = {"source": "managed", "type": "server", "managed_certificate_id": f"memory:{offer.id}", "regions": ["x"]}
    refused = stranger.post("/v1/certificates", body)
    assert (refused.status_code, answer(refused)["code"]) == (422, "managed_source_unavailable")
    assert stranger.post(f"{PATH}/refresh").status_code == 202
    fleet.run()
    assert service.calls == []


def test_a_service_of_an_account_that_is_not_there_waits_for_it(api: Api, fleet: Fleet, service: MemoryService) -> None:
    service.issue(HOST)
    declare(fleet, certificate_service(account="later"))
    list_anew(fleet)
    assert service.calls == []
    later = api.account("later")
    list_anew(fleet)
    assert service.calls == ["list_offers"]
    assert [item["id"] for item in later.items(PATH)] == ["memory:m0001"]


def test_no_account_calls_itself_into_the_possession_of_a_service(
    api: Api, fleet: Fleet, service: MemoryService
) -> None:
    """A service belongs to an account's name or id, and accounts choose their names."""
    declare(fleet, certificate_service(account=fleet.caller.account_id), certificate_service("later", account="later"))
    api.app.extensions["certfleet"] = fleet.context
    service.issue(HOST)
    thief = api.account("thief")

    refused = [thief.patch("/v1/account", {"name": name}) for name in (fleet.caller.account_id, "later")]
    list_anew(fleet)

    assert [codes(one) for one in refused] == [{("name", "name_reserved")}] * 2
    assert (thief.items(PATH), ids(api)) == ([], ["memory:m0001"])
    assert api.client.patch("/v1/account", {"name": "default"}).status_code == 200
    with fleet.transaction() as session:
        session.execute(update(Account).where(Account.name == "thief").values(name=fleet.caller.account_id))
    list_anew(fleet)
    assert thief.items(PATH) == []


def test_two_sources_are_listed_apart(api: Api, fleet: Fleet, service: MemoryService) -> None:
    other = MemoryService(clock=lambda: fleet.now)
    fleet.sources["other"] = MemorySource(other)
    declare(fleet, certificate_service(), certificate_service("other"))
    service.issue(HOST)
    other.issue("shop.example.com")
    service.faults.add("list_offers", Unreachable, times=9)
    list_anew(fleet)
    assert ids(api) == ["other:m0001"]


def test_a_renewal_over_http_is_accepted_and_an_uploaded_one_names_replace(
    api: Api, fleet: Fleet, service: MemoryService
) -> None:
    _, managed = pick(fleet, service.issue(HOST).id)
    fleet.run()
    response = api.client.post(f"/v1/certificates/{managed}/renew")
    document = answer(response)
    assert response.status_code == 202
    assert response.headers["Location"] == f"/v1/jobs/{document['job']['id']}"
    assert (document["job"]["kind"], document["certificate"]["replaces"]) == ("renew", managed)
    fleet.run()
    assert answer(api.client.get(response.headers["Location"]))["state"] == "succeeded"
    uploaded = api.deployed()
    refused = api.client.post(f"/v1/certificates/{uploaded['id']}/renew")
    assert (refused.status_code, answer(refused)["code"]) == (409, "not_managed")
    assert "/replace" in answer(refused)["hint"]


def test_validation_says_what_a_submission_would_without_asking_the_service(
    api: Api, fleet: Fleet, service: MemoryService
) -> None:
    offer = service.issue(HOST)
    body = {"source": "managed", "type": "server", "managed_certificate_id": f"memory:{offer.id}"}
    assert answer(api.client.post("/v1/certificates/validate", body))["valid"]
    report = answer(api.client.post("/v1/certificates/validate", {**body, "managed_certificate_id": "other:1"}))
    assert [finding["code"] for finding in report["findings"]] == ["unknown_managed_certificate"]
    assert fleet.room.waiting == type(fleet.room.waiting)()
    assert service.calls == []
