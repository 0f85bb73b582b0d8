"""Lanes: how wide they are, when their receivers rest, and when an outage is over."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.domain.lanes import FAILURES, OUTAGE, Condition, Lane, Limits, Pace, callback_lane
from shared.domain.webhooks import Answer

NOW = datetime(2030, 1, 1, tzinfo=UTC)
LIMITS = Limits(
    most_at_once=4,
    timeout=timedelta(seconds=15),
    first_rest=timedelta(seconds=5),
    longest_rest=timedelta(seconds=60),
)


def answered(milliseconds: float, *, status: int | None = 204, wish: str | None = None) -> Answer:
    return Answer(status=status, duration=timedelta(milliseconds=milliseconds), retry_after=wish)


def after(lane: Lane, *milliseconds: float, delivered: bool = True) -> Lane:
    for each in milliseconds:
        lane = lane.after(answered(each), is_delivered=delivered, limits=LIMITS, now=NOW)
    return lane


def failed(count: int) -> Lane:
    return after(Lane(), *[1] * count, delivered=False)


@pytest.mark.parametrize(
    ("durations", "pace"),
    [
        ((), Pace.NEW),
        ((19,), Pace.SWIFT),
        ((20,), Pace.BRISK),
        ((5, 49), Pace.SWIFT),
        ((5, 50), Pace.BRISK),
        ((60, 49), Pace.BRISK),
        ((60, 19), Pace.SWIFT),
        ((1500,), Pace.BRISK),
        ((1501,), Pace.SLOW),
        ((15_000, 30), Pace.BRISK),
    ],
)
def test_the_pace_is_that_of_the_last_answer_with_room_between_swift_and_brisk(
    durations: tuple[float, ...], pace: Pace
) -> None:
    assert after(Lane(), *durations).pace is pace


@pytest.mark.parametrize(
    ("lane", "width"),
    [
        (Lane(), 1),
        (Lane(pace=Pace.SWIFT), 1),
        (Lane(pace=Pace.BRISK), 4),
        (Lane(pace=Pace.BRISK, failures=1), 1),
        (Lane(pace=Pace.SLOW), 1),
    ],
)
def test_only_a_receiver_that_answers_well_and_not_at_once_gets_several(lane: Lane, width: int) -> None:
    assert lane.width(LIMITS) == width


@pytest.mark.parametrize(("pace", "is_tried_out"), [*zip(Pace, (True, False, False, True), strict=True)])
def test_new_and_slow_receivers_are_tried_out(pace: Pace, is_tried_out: bool) -> None:  # noqa: FBT001 - a column of the table
    assert Lane(pace=pace).is_tried_out() is is_tried_out


@pytest.mark.parametrize(
    ("failures", "seconds"), [(1, 0), (2, 0), (FAILURES, 5), (4, 10), (6, 40), (7, 60), (60, 60), (10**6, 60)]
)
def test_from_the_third_failure_in_a_row_it_rests_for_longer_and_longer(failures: int, seconds: int) -> None:
    lane = after(Lane(failures=failures - 1), 1, delivered=False)
    assert (lane.rests_until or NOW) - NOW == timedelta(seconds=seconds)
    assert lane.is_resting(NOW) is bool(seconds)
    assert not lane.is_resting(NOW + timedelta(seconds=seconds))


@pytest.mark.parametrize(("wish", "seconds"), [("30", 30), ("61", 60), ("86400", 60), ("soon", 0), ("-5", 0)])
def test_it_rests_as_long_as_the_receiver_asks_for_but_not_longer_than_the_longest_rest(
    wish: str, seconds: int
) -> None:
    busy = answered(1, status=429, wish=wish)
    lane = Lane().after(busy, is_delivered=False, limits=LIMITS, now=NOW)
    assert (lane.rests_until or NOW) - NOW == timedelta(seconds=seconds)


def test_a_success_ends_rests_and_failures() -> None:
    assert after(failed(9), 1) == Lane(pace=Pace.SWIFT)


@pytest.mark.parametrize(("failures", "ends"), [(OUTAGE - 1, False), (OUTAGE, True), (OUTAGE + 50, True)])
def test_an_outage_ends_with_the_first_success_after_many_failures(failures: int, ends: bool) -> None:  # noqa: FBT001 - a column of the table
    lane = failed(failures)
    assert lane.ends_outage(after(lane, 1)) is ends
    assert not lane.ends_outage(after(lane, 1, delivered=False))


@given(st.lists(st.tuples(st.floats(0, 20_000), st.booleans(), st.sampled_from([None, "5", "99999999"])), max_size=30))
def test_whatever_it_answers_it_is_never_left_alone_for_longer_than_the_longest_rest(
    answers: list[tuple[float, bool, str | None]],
) -> None:
    lane = Lane()
    for milliseconds, is_delivered, wish in answers:
        answer = answered(milliseconds, wish=wish)
        lane = lane.after(answer, is_delivered=is_delivered, limits=LIMITS, now=NOW)
        assert not lane.is_resting(NOW + LIMITS.longest_rest)
        assert 1 <= lane.width(LIMITS) <= LIMITS.most_at_once
        assert not (is_delivered and lane.is_resting(NOW))


@pytest.mark.parametrize(
    ("lane", "condition"),
    [
        (Lane(), Condition.NEW),
        (Lane(pace=Pace.SWIFT), Condition.FINE),
        (Lane(pace=Pace.BRISK), Condition.FINE),
        (Lane(pace=Pace.SLOW), Condition.SLOW),
        (Lane(pace=Pace.SLOW, failures=1), Condition.FAILING),
        (Lane(failures=3, rests_until=NOW + timedelta(seconds=1)), Condition.RESTING),
        (Lane(failures=3, rests_until=NOW), Condition.FAILING),
    ],
)
def test_its_owner_is_told_in_one_word(lane: Lane, condition: Condition) -> None:
    assert lane.condition(NOW) is condition


def test_callbacks_of_an_account_to_one_receiver_share_a_lane() -> None:
    assert callback_lane("acc_1", "ci.example.com", 443) == "acc_1/ci.example.com:443"
    others = {callback_lane("acc_2", "ci.example.com", 443), callback_lane("acc_1", "ci.example.com", 8443)}
    assert callback_lane("acc_1", "ci.example.com", 443) not in others
