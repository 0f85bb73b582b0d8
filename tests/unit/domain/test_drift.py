"""Drift of two witnesses as one, and how often it may be repaired."""

from __future__ import annotations

from datetime import timedelta

import pytest

from shared.domain.drift import Finding, Witness, is_news, with_finding
from shared.domain.repairs import FIRST_PAUSE, MOST_REPAIRS, WINDOW, may_repair, recent_repairs
from tests.support.pki import NOW

pytestmark = pytest.mark.unit

SEEN = Finding(code="served_mismatch", message="shop.example.com shows another certificate.")
HELD = Finding(code="altered", message="It holds another certificate.")
LATER = NOW + timedelta(minutes=5)


def test_what_clients_meet_is_told_before_what_the_balancer_says() -> None:
    drift = with_finding(None, Witness.BALANCER, HELD, now=NOW)
    both = with_finding(drift, Witness.CLIENTS, SEEN, now=LATER)
    assert drift is not None
    assert both is not None
    assert (drift["code"], both["code"], both["message"]) == ("altered", SEEN.code, SEEN.message)
    assert both["since"] == drift["since"] == NOW.isoformat().replace("+00:00", "Z")


def test_all_is_well_only_when_neither_finds_anything() -> None:
    drift = with_finding(None, Witness.BALANCER, HELD, now=NOW)
    drift = with_finding(drift, Witness.CLIENTS, SEEN, now=NOW)
    one = with_finding(drift, Witness.CLIENTS, None, now=LATER)
    assert one is not None
    assert one["code"] == "altered"
    assert with_finding(one, Witness.BALANCER, None, now=LATER) is None
    assert with_finding(None, Witness.CLIENTS, None, now=NOW) is None


def test_the_same_thing_found_again_is_no_news_and_another_is() -> None:
    first = with_finding(None, Witness.CLIENTS, SEEN, now=NOW)
    again = with_finding(first, Witness.CLIENTS, Finding(code=SEEN.code, message="Said otherwise."), now=LATER)
    other = with_finding(first, Witness.CLIENTS, Finding(code="unreachable", message="No connection."), now=LATER)
    assert [is_news(None, first), is_news(first, again), is_news(first, other), is_news(other, None)] == [
        True,
        False,
        True,
        True,
    ]
    assert not is_news(None, None)


def test_one_of_two_witnesses_that_is_content_is_no_news_and_a_new_one_is() -> None:
    alone = with_finding(None, Witness.BALANCER, HELD, now=NOW)
    both = with_finding(alone, Witness.CLIENTS, SEEN, now=NOW)
    assert is_news(alone, both)
    assert not is_news(both, alone)


@pytest.mark.parametrize(
    ("ages", "expected"),
    [
        ([], True),
        ([FIRST_PAUSE - timedelta(seconds=1)], False),
        ([FIRST_PAUSE], True),
        ([2 * FIRST_PAUSE, 3 * FIRST_PAUSE], True),
        ([2 * FIRST_PAUSE - timedelta(seconds=1), 3 * FIRST_PAUSE], False),
        ([WINDOW - timedelta(seconds=age) for age in range(1, MOST_REPAIRS + 1)], False),
        ([WINDOW for _ in range(MOST_REPAIRS)], True),
    ],
)
def test_pauses_between_repairs_grow_and_their_number_is_bounded(ages: list[timedelta], *, expected: bool) -> None:
    assert may_repair([NOW - age for age in ages], now=NOW) is expected


def test_repairs_are_forgotten_once_they_are_past() -> None:
    made = [NOW - WINDOW, NOW, NOW - timedelta(minutes=1)]
    assert recent_repairs(made, now=NOW) == [NOW - timedelta(minutes=1), NOW]
