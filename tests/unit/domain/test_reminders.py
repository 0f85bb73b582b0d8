"""The reminder rule: boundaries one second either side, and what holds over any sequence of scans."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.domain.deadlines import Validity
from shared.domain.reminders import (
    DAY,
    EXPIRED,
    Urgency,
    bands,
    calendar_day,
    days_left,
    time_left,
    urgency,
)
from tests.support.reminder_rule import due_threshold

NOW = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)
SECOND = timedelta(seconds=1)
YEAR = 398 * DAY
THRESHOLDS = (60, 30, 15, 7, 3, 1, 0, EXPIRED)

whole_seconds = st.integers(0, 500 * 86_400).map(lambda seconds: timedelta(seconds=seconds))


def validity(*, left: timedelta, life: timedelta = YEAR) -> Validity:
    return Validity(not_before=NOW + left - life, not_after=NOW + left)


@pytest.mark.parametrize("threshold", THRESHOLDS)
def test_a_threshold_is_crossed_in_the_second_that_leaves_fewer_days_than_it_allows(threshold: int) -> None:
    crossing = (threshold + 1) * DAY
    farther = next((other for other in reversed(THRESHOLDS) if other > threshold), None)

    assert due_threshold(validity(left=crossing - SECOND), (), NOW) == threshold
    assert due_threshold(validity(left=crossing), (), NOW) == farther
    assert due_threshold(validity(left=crossing + SECOND), (), NOW) == farther


@pytest.mark.parametrize(
    ("left", "days"),
    [
        (7 * DAY + SECOND, 7),
        (7 * DAY, 7),
        (7 * DAY - SECOND, 6),
        (DAY, 1),
        (DAY - SECOND, 0),
        (SECOND, 0),
        (timedelta(0), 0),
        (-SECOND, -1),
        (-DAY, -1),
        (-DAY - SECOND, -2),
    ],
)
def test_days_left_are_whole_days_of_24_hours_rounded_down(left: timedelta, days: int) -> None:
    assert days_left(NOW + left, NOW) == days


def test_the_last_instant_of_a_certificate_is_day_0_and_not_expired() -> None:
    assert due_threshold(validity(left=timedelta(0)), (), NOW) == 0


def test_days_left_do_not_depend_on_the_calendar() -> None:
    midnight = datetime(2026, 11, 24, tzinfo=UTC)

    assert days_left(midnight + SECOND, midnight - SECOND) == 0
    assert days_left(midnight + DAY, midnight) == 1


@pytest.mark.parametrize(
    ("life", "first"),
    [
        (398 * DAY, 60),
        (200 * DAY, 60),
        (100 * DAY, 30),
        (90 * DAY - SECOND, 30),
        (64 * DAY, 30),
        (47 * DAY, 15),
        (45 * DAY, 15),
        (10 * DAY, 3),
        (timedelta(hours=160), 1),
        (2 * DAY, 0),
        (DAY, EXPIRED),
        (timedelta(hours=12), EXPIRED),
    ],
)
def test_the_first_notice_comes_in_the_second_half_of_a_certificates_life(life: timedelta, first: int) -> None:
    hours = (life // timedelta(hours=1)) + 1
    seen = [due_threshold(validity(left=life - timedelta(hours=hour), life=life), (), NOW) for hour in range(hours + 1)]

    given_at = next(hour for hour, threshold in enumerate(seen) if threshold is not None)
    assert seen[given_at] == first
    assert timedelta(hours=given_at) >= life / 2


@pytest.mark.parametrize(
    ("recorded", "due"),
    [((), 7), ((60, 30, 15), 7), ((60,), 7), ((7,), None), ((3,), None), ((EXPIRED,), None), ((60, 7), None)],
)
def test_five_days_before_the_end_only_the_seven_day_notice_can_be_due(
    recorded: tuple[int, ...], due: int | None
) -> None:
    assert due_threshold(validity(left=5 * DAY), recorded, NOW) == due


def test_an_account_may_have_thresholds_of_its_own() -> None:
    own = (45, 10)

    assert due_threshold(validity(left=20 * DAY), (), NOW, thresholds=own) == 45
    assert due_threshold(validity(left=5 * DAY), (45,), NOW, thresholds=own) == 10
    assert due_threshold(validity(left=-DAY), (45, 10), NOW, thresholds=own) == EXPIRED


@given(
    life=st.integers(1, 800 * 86_400).map(lambda seconds: timedelta(seconds=seconds)),
    steps=st.lists(st.integers(0, 90 * 86_400).map(lambda seconds: timedelta(seconds=seconds)), max_size=40),
)
def test_any_sequence_of_scans_gives_each_threshold_once_and_always_the_nearest(
    life: timedelta, steps: list[timedelta]
) -> None:
    certificate = Validity(not_before=NOW, not_after=NOW + life)
    at = NOW
    given_notices: list[int] = []
    for step in steps:
        at += step
        notice = due_threshold(certificate, given_notices, at)
        if notice is None:
            continue
        assert days_left(certificate.not_after, at) <= notice
        assert not any(days_left(certificate.not_after, at) <= other < notice for other in THRESHOLDS)
        assert due_threshold(certificate, [*given_notices, notice], at) is None
        given_notices.append(notice)

    assert given_notices == sorted(set(given_notices), reverse=True)
    if at > certificate.not_after:
        assert given_notices[-1] == EXPIRED


@given(left=whole_seconds.map(lambda left: left - 100 * DAY))
def test_the_bands_cover_every_instant_from_the_widest_threshold_on_exactly_once(left: timedelta) -> None:
    assert sum(band.holds(left) for band in bands()) == (left < 61 * DAY)


@pytest.mark.parametrize(
    ("days", "level", "words"),
    [
        (-3, Urgency.EXPIRED, "2 days ago"),
        (-2, Urgency.EXPIRED, "1 day ago"),
        (-1, Urgency.EXPIRED, "less than a day ago"),
        (0, Urgency.CRITICAL, "in less than a day"),
        (1, Urgency.CRITICAL, "in 1 day"),
        (2, Urgency.SOON, "in 2 days"),
        (15, Urgency.SOON, "in 15 days"),
        (16, Urgency.PLAN, "in 16 days"),
    ],
)
def test_what_is_left_is_said_in_words(days: int, level: Urgency, words: str) -> None:
    assert urgency(days) is level
    assert time_left(days) == words


def test_a_day_is_written_without_a_leading_zero() -> None:
    assert calendar_day(datetime(2026, 12, 1, 23, 59, tzinfo=UTC)) == "1 Dec 2026"
