"""The regions' pages: room, health, and what is there; and whose it is."""

from __future__ import annotations

from shared.errors import InvalidMaterial
from tests.support.api import Api
from tests.support.console import signed_in, stranger
from tests.support.fleet import REGIONS
from tests.support.listeners import add_listener
from tests.support.memory_balancers import balancer
from tests.support.patrols import after_a_period, foreign_material

HOST = "shop.example.com"


def test_a_region_shows_its_room_in_words_and_what_is_there(api: Api) -> None:
    api.deployed()
    page = signed_in(api).page("/regions")
    for region in REGIONS:
        assert f'href="/regions/{region}"' in page
    assert page.count("1 of 100 used") == 3
    assert page.count("0 of 100 used") == 3
    assert page.count(">1 certificate</a>") == 3
    assert page.count('<span class="badge good">ok</span>') == 3
    assert "rsa-2048" in page


def test_a_region_that_failed_says_so_and_why(reachable: Api) -> None:
    balancer(REGIONS[0]).faults.add("stage", InvalidMaterial)
    reachable.deployed()
    one = signed_in(reachable)
    page = one.page("/regions")
    assert "1 failed" in page
    assert page.count(">1 certificate</a>") == 2
    assert "invalid_material" in one.page(f"/regions/{REGIONS[0]}")


def test_a_regions_page_shows_drift_and_the_listeners_that_show_it(reachable: Api) -> None:
    certificate = reachable.deployed()
    listener = add_listener(reachable.fleet, REGIONS[0], [HOST], server=certificate["id"])
    reachable.fleet.run()
    balancer(REGIONS[0]).swap_by_hand(HOST, foreign_material(HOST))
    after_a_period(reachable.fleet)
    one = signed_in(reachable)
    page = one.page(f"/regions/{REGIONS[0]}")
    assert "something else is served" in page
    assert "served_mismatch" in page
    assert f'href="/listeners/{listener}"' in page
    assert "served_mismatch" not in one.page(f"/regions/{REGIONS[1]}")
    assert "1 drifted" in one.page("/regions")


def test_an_unknown_region_is_not_found(api: Api) -> None:
    assert signed_in(api).get("/regions/nowhere").status_code == 404


def test_a_region_counts_and_shows_the_own_account_only(api: Api) -> None:
    api.deployed()
    eve = stranger(api)
    assert eve.page("/regions").count("0 of 100 used") == 6
    assert "No certificate of this account is here" in eve.page(f"/regions/{REGIONS[0]}")
