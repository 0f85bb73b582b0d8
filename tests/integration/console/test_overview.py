"""The start page: what ends when, what needs somebody, what is served; whose it is; and the rules of its chart."""

from __future__ import annotations

import re
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from services.api.console.chart import HEIGHT, WIDTH, chart
from shared.errors import InvalidMaterial
from shared.models import WebhookEndpoint
from shared.usecases.outlook import EXPIRED, WEEKS, Ending, Urgency, endings
from tests.support import pki
from tests.support.api import Api
from tests.support.console import signed_in, stranger
from tests.support.fleet import REGIONS
from tests.support.listeners import add_listener
from tests.support.memory_balancers import balancer
from tests.support.patrols import after_a_period, foreign_material

HOST = "shop.example.com"
SECOND = timedelta(seconds=1)


def ending_in(api: Api, left: timedelta, name: str = HOST, **overrides: Any) -> str:
    """A deployed certificate with so much time left."""
    issued = pki.server(
        name, issuer=pki.authority(), not_before=pki.NOW - 300 * pki.DAY, not_after=api.fleet.now + left
    )
    pems = {"certificate": issued.chain_pem, "private_key": issued.key_pem}
    return str(api.deployed(**pems, **overrides)["id"])


def count(page: str, words: str) -> int:
    found = re.search(rf"<strong>(\d+)</strong> <span>{words}</span>", page)
    assert found, words
    return int(found[1])


def test_an_empty_account_is_told_what_will_be_here(api: Api) -> None:
    page = signed_in(api).page("/overview")
    assert "Nothing here yet" in page
    assert "<svg" not in page.split("<main")[1]


def test_the_home_is_the_overview(api: Api) -> None:
    assert signed_in(api).get("/").headers["Location"] == "/overview"


def test_all_well_says_so(api: Api) -> None:
    api.deployed()
    page = signed_in(api).page("/overview")
    assert "Nothing: no certificate ends soon" in page
    assert count(page, "end within 7 days") == 0


@pytest.mark.parametrize(
    ("left", "week", "urgency"),
    [
        (timedelta(0), 0, Urgency.WEEK),
        (timedelta(days=7), 1, Urgency.WEEK),
        (timedelta(days=7) + SECOND, 1, Urgency.MONTH),
        (timedelta(days=30), 4, Urgency.MONTH),
        (timedelta(days=30) + SECOND, 4, Urgency.LATER),
        (timedelta(weeks=WEEKS) - SECOND, WEEKS - 1, Urgency.LATER),
        (timedelta(weeks=WEEKS), WEEKS, Urgency.LATER),
        (timedelta(days=3000), WEEKS, Urgency.LATER),
    ],
)
def test_what_ends_when_is_counted_to_the_second(api: Api, left: timedelta, week: int, urgency: Urgency) -> None:
    ending_in(api, left)
    with api.fleet.transaction() as session:
        found = endings(session, api.fleet.caller, now=api.fleet.now)
    assert found == [Ending(week=week, urgency=urgency, count=1)]


def test_what_has_expired_is_counted_apart_and_what_was_replaced_not_at_all(api: Api) -> None:
    old = ending_in(api, timedelta(days=1))
    ending_in(api, timedelta(days=2), "other.example.com")
    issued = pki.server_with_chain(HOST)
    body = {"certificate": issued.chain_pem, "private_key": issued.key_pem}
    assert api.client.post(f"/v1/certificates/{old}/replace", body).status_code == 202
    api.fleet.run()
    api.fleet.now += timedelta(days=3)
    with api.fleet.transaction() as session:
        found = endings(session, api.fleet.caller, now=api.fleet.now)
    assert found[0] == Ending(week=EXPIRED, urgency=Urgency.EXPIRED, count=1)
    assert sum(one.count for one in found) == 2
    page = signed_in(api).page("/overview")
    assert count(page, "expired") == 1
    assert count(page, "end within 7 days") == 0
    assert "before now" in page, "the table says it, too"


def test_every_count_leads_to_a_list_of_so_many(api: Api) -> None:
    for number, days in enumerate((1, 5, 20, 100)):
        ending_in(api, timedelta(days=days), f"host{number}.example.com")
    one = signed_in(api)
    for days, expected in ((7, 2), (30, 3), (90, 3), (0, 0)):
        assert one.page(f"/certificates?expires={days}").count('<th scope="row">') == expected


def test_what_is_wrong_is_counted(reachable: Api) -> None:
    balancer(REGIONS[2]).faults.add("stage", InvalidMaterial)
    certificate = reachable.deployed()
    for region in REGIONS[:2]:
        add_listener(reachable.fleet, region, [HOST], server=certificate["id"])
    reachable.fleet.run()
    balancer(REGIONS[0]).swap_by_hand(HOST, foreign_material(HOST))
    balancer(REGIONS[1]).unreachable = True
    for _ in range(2):
        after_a_period(reachable.fleet)
    page = signed_in(reachable).page("/overview")
    assert count(page, "failed in a region") == 1
    assert count(page, "listeners show something else") == 1
    assert count(page, "listeners not reachable") == 1
    assert count(page, "drifted") == 2


def test_webhooks_that_fail_are_counted_and_those_that_were_switched_off_are_not(api: Api) -> None:
    created = {"account_id": api.fleet.caller.account_id, "url": "https://example.com", "created_at": api.fleet.now}
    switched_off = {"types": ["*"], "enabled": False, "disabled_reason": "Disabled by request."}
    given_up = {"types": ["*"], "enabled": False, "disabled_reason": "Its receiver failed."}
    with api.fleet.transaction() as session:
        session.add(WebhookEndpoint(id="whk_1", types=["*"], enabled=True, failing_since=api.fleet.now, **created))
        session.add(WebhookEndpoint(id="whk_2", types=["*"], enabled=True, **created))
        session.add(WebhookEndpoint(id="whk_3", **switched_off, **created))
        session.add(WebhookEndpoint(id="whk_4", **given_up, **created))
    api.deployed()
    assert count(signed_in(api).page("/overview"), "webhooks failing") == 2


def test_the_matrix_says_in_words_what_clients_get_and_where_it_is_not(reachable: Api) -> None:
    certificate = reachable.deployed(name="the shop", regions=list(REGIONS[:2]))
    add_listener(reachable.fleet, REGIONS[0], [HOST], server=certificate["id"])
    reachable.fleet.run()
    matrix = signed_in(reachable).page("/overview").split('<table class="matrix">')[1]
    row = matrix.split("<tbody>")[1]
    assert '<span class="badge good">served</span>' in row
    assert '<span class="badge quiet">not checked</span>' in row
    assert "no listener" in row
    assert row.count('<span class="unseen"> not in this region</span>') == 1


def test_the_matrix_is_filtered_by_state_region_name_and_drift(reachable: Api) -> None:
    certificate = reachable.deployed(name="the shop")
    add_listener(reachable.fleet, REGIONS[0], [HOST], server=certificate["id"])
    reachable.fleet.run()
    one = signed_in(reachable)
    name = ">the shop</a>"
    assert name in one.page("/overview?state=match")
    assert name not in one.page(f"/overview?state=match&region={REGIONS[1]}")
    assert name in one.page("/overview?q=SHOP.example")
    assert name not in one.page("/overview?q=nothing")
    assert name not in one.page("/overview?drift=1")
    balancer(REGIONS[0]).swap_by_hand(HOST, foreign_material(HOST))
    after_a_period(reachable.fleet)
    assert name in one.page("/overview?drift=1")


def test_the_matrix_is_paged(api: Api) -> None:
    for number in range(21):
        api.submit(name=f"number {number}")
    one = signed_in(api)
    first = one.page("/overview")
    assert first.count('<th scope="row">') == 20
    following = first.split('rel="next" href="')[1].split('"')[0].replace("&amp;", "&")
    assert ">number 0</a>" in one.page(f"/overview{following}")


def test_a_stranger_sees_nothing_of_it(api: Api) -> None:
    ending_in(api, timedelta(days=3))
    assert "Nothing here yet" in stranger(api).page("/overview")


ONE = Ending(week=3, urgency=Urgency.MONTH, count=1)


@pytest.mark.parametrize("most", [0, 1, 4, 5, 8, 21, 99, 101, 10_000])
def test_no_bar_leaves_the_drawing_and_lines_are_few_and_round(most: int) -> None:
    found = [replace(ONE, week=week, count=most) for week in (EXPIRED, 0, WEEKS - 1)] if most else []
    drawn = chart(found, pki.NOW)
    assert all(bar.y >= 0 and bar.y + bar.height <= HEIGHT + 0.2 for bar in drawn.bars)
    assert all(bar.x >= 0 and bar.x + bar.width <= WIDTH for bar in drawn.bars)
    assert 2 <= len(drawn.lines) <= 5
    assert drawn.lines[0] == (float(HEIGHT), 0)
    assert drawn.lines[-1][1] >= most


def test_bars_of_one_week_stand_on_one_another() -> None:
    urgent = replace(ONE, urgency=Urgency.WEEK, count=2)
    below, above = chart([urgent, ONE], pki.NOW).bars
    assert (below.x, below.y + below.height) == (above.x, HEIGHT)
    assert above.y + above.height == pytest.approx(below.y, abs=0.2)


def test_what_ends_beyond_the_year_is_said_and_not_drawn() -> None:
    drawn = chart([replace(ONE, week=WEEKS, count=7)], pki.NOW)
    assert (drawn.bars, drawn.later) == ([], 7)


def test_months_begin_where_they_begin_in_order_within_the_drawing() -> None:
    places = [x for x, _month in chart([], pki.NOW).months]
    assert len(places) == 12
    assert places == sorted(places)
    assert 0 < places[0] < places[-1] < WIDTH
