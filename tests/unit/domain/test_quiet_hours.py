"""The quiet window, on the wall clock: over midnight, and on the days when the clock changes."""

from __future__ import annotations

from datetime import UTC, datetime, time, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from shared.domain.quiet_hours import LONGEST_WAIT, QuietWindow

BERLIN = ZoneInfo("Europe/Berlin")
SECOND = timedelta(seconds=1)
MINUTE = timedelta(minutes=1)

minutes = st.integers(0, 1439).map(lambda number: time(number // 60, number % 60))
zones = st.sampled_from(
    [
        "UTC",
        "Europe/Berlin",
        "America/New_York",
        "Asia/Shanghai",
        "Asia/Kolkata",
        "Australia/Lord_Howe",
        "Pacific/Apia",
        "America/St_Johns",
    ]
)


def window(begins: str, ends: str, zone: ZoneInfo = BERLIN) -> QuietWindow:
    return QuietWindow(begins=time.fromisoformat(begins), ends=time.fromisoformat(ends), zone=zone)


def berlin(text: str, *, fold: int = 0) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=BERLIN, fold=fold).astimezone(UTC)


@pytest.mark.parametrize(
    ("at", "end"),
    [
        ("2026-11-23T21:59:59", None),
        ("2026-11-23T22:00:00", "2026-11-24T07:00:00"),
        ("2026-11-23T23:59:59", "2026-11-24T07:00:00"),
        ("2026-11-24T00:00:00", "2026-11-24T07:00:00"),
        ("2026-11-24T06:59:59", "2026-11-24T07:00:00"),
        ("2026-11-24T07:00:00", None),
    ],
)
def test_a_window_over_midnight_holds_from_its_first_second_until_the_one_before_its_end(
    at: str, end: str | None
) -> None:
    assert window("22:00", "07:00").end_of(berlin(at)) == (berlin(end) if end else None)


@pytest.mark.parametrize(("at", "end"), [("2026-11-23T12:00:00", "2026-11-23T13:30:00"), ("2026-11-23T13:30:00", None)])
def test_a_window_within_a_day_ends_on_that_day(at: str, end: str | None) -> None:
    assert window("12:00", "13:30").end_of(berlin(at)) == (berlin(end) if end else None)


def test_an_end_in_the_hour_that_summer_time_skips_is_the_moment_of_the_skip() -> None:
    """On 29 March 2026 the clock goes from 02:00 to 03:00 at 01:00 UTC."""
    assert window("22:00", "02:30").end_of(berlin("2026-03-29T01:59:59")) == datetime(2026, 3, 29, 1, tzinfo=UTC)


def test_an_hour_that_comes_twice_is_quiet_twice() -> None:
    """On 25 October 2026 the clock goes from 03:00 back to 02:00 at 01:00 UTC."""
    quiet = window("02:10", "02:30")

    assert quiet.end_of(berlin("2026-10-25T02:15:00", fold=0)) == datetime(2026, 10, 25, 0, 30, tzinfo=UTC)
    assert quiet.end_of(berlin("2026-10-25T02:15:00", fold=1)) == datetime(2026, 10, 25, 1, 30, tzinfo=UTC)


@given(begins=minutes, ends=minutes, zone=zones, at=st.datetimes(datetime(2020, 1, 1), datetime(2040, 1, 1)))  # noqa: DTZ001 - made aware below
def test_the_end_is_the_first_moment_that_is_not_quiet(begins: time, ends: time, zone: str, at: datetime) -> None:
    assume(begins != ends)
    quiet = QuietWindow(begins=begins, ends=ends, zone=ZoneInfo(zone))
    moment = at.replace(tzinfo=UTC)
    end = quiet.end_of(moment)

    assert (end is not None) == quiet.covers(moment)
    if end is not None:
        assert moment < end <= moment + LONGEST_WAIT
        assert not quiet.covers(end)
        assert quiet.covers(max(end - SECOND, moment))
