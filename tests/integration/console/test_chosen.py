"""Several certificates at once: who is touched is shown first, each is done by itself; and whose they are."""

from __future__ import annotations

from typing import Any

import pytest
from werkzeug.test import TestResponse

from tests.support import pki
from tests.support.api import Api, answer
from tests.support.console import Browser, signed_in, stranger
from tests.support.fleet import REGIONS
from tests.support.listeners import add_listener

PATH = "/certificates/chosen"


def deployed(api: Api, name: str, **overrides: Any) -> str:
    issued = pki.server_with_chain(f"{name}.example.com")
    pems = {"certificate": issued.chain_pem, "private_key": issued.key_pem}
    return str(api.deployed(name=name, **pems, **overrides)["id"])


def used(api: Api, name: str) -> str:
    certificate = deployed(api, name)
    add_listener(api.fleet, REGIONS[0], [f"{name}.example.com"], server=certificate)
    api.fleet.run()
    return certificate


def do(one: Browser, what: str, ids: list[str], **fields: Any) -> TestResponse:
    return one.submit(f"{PATH}?do={what}&ids={ids[0]}", PATH, {"do": what, "ids": ids, **fields})


def show(api: Api, certificate: str) -> dict[str, Any]:
    return answer(api.client.get(f"/v1/certificates/{certificate}"))


def test_the_list_lets_one_choose_and_says_what_for(api: Api) -> None:
    certificate = deployed(api, "a")
    page = signed_in(api).page("/certificates")
    assert f'name="ids" value="{certificate}"' in page
    assert 'aria-label="Choose a"' in page
    for what in ("regions", "mute", "unmute", "delete"):
        assert f'name="do" value="{what}"' in page


def test_deletion_shows_whom_it_touches_and_spares_who_is_in_use(reachable: Api) -> None:
    free, busy = deployed(reachable, "free"), used(reachable, "busy")
    one = signed_in(reachable)
    page = one.page(f"{PATH}?do=delete&ids={free}&ids={busy}")
    assert "1 certificate is removed from its regions" in page
    assert "1 is in use and stays." in page
    assert page.count("in use, stays") == 1
    assert ">busy.example.com</a>" in page
    assert do(one, "delete", [free, busy]).headers["Location"] == "/jobs"
    said = one.page("/jobs")
    assert "Done for 1 certificate." in said
    assert "busy: The certificate is in use by" in said
    reachable.fleet.run()
    assert reachable.client.get(f"/v1/certificates/{free}").status_code == 404
    assert show(reachable, busy)["state"] == "valid"


def test_only_what_is_in_use_leaves_nothing_to_confirm(reachable: Api) -> None:
    page = signed_in(reachable).page(f"{PATH}?do=delete&ids={used(reachable, 'busy')}")
    assert "Delete for good" not in page


def test_regions_are_added_where_they_are_missing_only(api: Api) -> None:
    here, there = deployed(api, "here", regions=[REGIONS[0]]), deployed(api, "there", regions=list(REGIONS[:2]))
    one = signed_in(api)
    assert do(one, "regions", [here, there], regions=list(REGIONS[:2])).status_code == 303
    assert "there: It is in these regions already." in one.page("/jobs")
    api.fleet.run()
    for certificate in (here, there):
        states = {each["region"]: each["state"] for each in show(api, certificate)["deployments"]}
        assert states == {REGIONS[0]: "deployed", REGIONS[1]: "deployed"}


def test_an_unknown_region_is_refused_for_each(api: Api) -> None:
    certificate = deployed(api, "a")
    one = signed_in(api)
    do(one, "regions", [certificate], regions=["nowhere"])
    page = one.page("/certificates")
    assert "Done for 0 certificates." in page
    assert "nowhere" in page


def test_reminders_are_muted_and_come_again(api: Api) -> None:
    ids = [deployed(api, name) for name in ("a", "b")]
    one = signed_in(api)
    assert do(one, "mute", ids).headers["Location"] == "/certificates"
    assert "Done for 2 certificates." in one.page("/certificates")
    assert [show(api, each)["reminders_muted"] for each in ids] == [True, True]
    assert "Nobody is reminded." in one.page(f"/certificates/{ids[0]}")
    do(one, "unmute", ids)
    assert [show(api, each)["reminders_muted"] for each in ids] == [False, False]


def test_none_chosen_says_how_to_choose(api: Api) -> None:
    assert "Tick certificates in the list" in signed_in(api).page(f"{PATH}?do=delete")


@pytest.mark.parametrize("what", ["", "nonsense"])
def test_what_is_not_offered_is_not_found(api: Api, what: str) -> None:
    one = signed_in(api)
    assert one.get(f"{PATH}?do={what}").status_code == 404
    assert one.submit("/certificates", PATH, {"do": what}).status_code == 404


def test_more_than_a_page_is_cut(api: Api) -> None:
    ids = "&".join(f"ids=cert_{number}" for number in range(500))
    assert signed_in(api).get(f"{PATH}?do=delete&{ids}").status_code == 200


def test_a_stranger_touches_nobody_elses(api: Api) -> None:
    certificate = deployed(api, "mine")
    eve = stranger(api)
    page = eve.page(f"{PATH}?do=delete&ids={certificate}")
    assert "mine" not in page
    for what in ("delete", "mute"):
        eve.submit("/certificates", PATH, {"do": what, "ids": [certificate]})
    found = show(api, certificate)
    assert (found["state"], found["reminders_muted"]) == ("valid", False)
