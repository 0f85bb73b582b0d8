"""What a receiver's answer leads to."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.config.settings import WEBHOOK_RETRY_SCHEDULE
from shared.domain.webhooks import (
    REMOVED,
    Answer,
    DeliveryState,
    Failing,
    Verdict,
    after_failure,
    clean_head,
    judge,
    retry_after,
)

NOW: Final = datetime(2030, 1, 1, tzinfo=UTC)
SCHEDULE: Final = tuple(timedelta(seconds=seconds) for seconds in (5, 300, 1800))


def judged(*, attempt: int = 1, chance: float = 0.5, error: str | None = None, **answer: object) -> Verdict:
    given_answer = Answer(error=error, **answer)  # type: ignore[arg-type]  # keyword overrides of a test builder
    return judge(given_answer, attempt=attempt, schedule=SCHEDULE, chance=chance, now=NOW)


@pytest.mark.parametrize("status", [200, 201, 202, 204, 299])
def test_any_2xx_is_delivered(status: int) -> None:
    assert judged(status=status) == Verdict(state=DeliveryState.DELIVERED)


@pytest.mark.parametrize("status", [199, 300, 301, 302, 304, 307, 308, 400, 401, 404, 429, 500, 502, 503, 504, 999])
def test_anything_else_is_tried_again(status: int) -> None:
    assert judged(status=status) == Verdict(state=DeliveryState.PENDING, pause=timedelta(seconds=5))


def test_no_answer_is_tried_again() -> None:
    assert judged(error="deadline_exceeded").pause == timedelta(seconds=5)


def test_gone_ends_the_delivery_and_the_endpoint() -> None:
    assert judged(status=410) == Verdict(state=DeliveryState.CANCELLED, disables_endpoint=True)


@pytest.mark.parametrize(("attempt", "seconds"), [(1, 5), (2, 300), (3, 1800)])
def test_the_pauses_are_the_schedules(attempt: int, seconds: int) -> None:
    assert judged(status=500, attempt=attempt).pause == timedelta(seconds=seconds)


def test_the_attempt_after_the_last_pause_exhausts_the_delivery() -> None:
    assert judged(status=500, attempt=4) == Verdict(state=DeliveryState.EXHAUSTED)


def test_without_a_schedule_the_first_failure_exhausts() -> None:
    verdict = judge(Answer(status=500), attempt=1, schedule=(), chance=0.5, now=NOW)
    assert verdict.state is DeliveryState.EXHAUSTED


@given(st.floats(0, 1, exclude_max=True), st.integers(1, 3))
def test_jitter_stays_within_a_fifth(chance: float, attempt: int) -> None:
    pause = judged(status=500, attempt=attempt, chance=chance).pause
    assert pause is not None
    assert SCHEDULE[attempt - 1] * 0.8 <= pause <= SCHEDULE[attempt - 1] * 1.2


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("120", 120),
        ("1", 5),  # never sooner than planned
        ("999999999", 1800),  # never later than the longest pause
        ("9" * 50, 5),
        ("Tue, 01 Jan 2030 00:02:00 GMT", 120),
        ("Mon, 31 Dec 2029 00:00:00 GMT", 5),
        ("Tue, 01 Jan 2030 00:02:00", 5),  # no zone: not an HTTP date
        ("soon", 5),
        ("-5", 5),
        ("", 5),
        (None, 5),
    ],
)
def test_retry_after_lengthens_a_pause_within_bounds(value: str | None, seconds: int) -> None:
    assert judged(status=503, retry_after=value).pause == timedelta(seconds=seconds)


@given(st.text())
def test_no_retry_after_can_raise_or_be_negative(value: str) -> None:
    assert retry_after(value, now=NOW) >= timedelta(0)


def test_the_default_schedule_is_the_specifications() -> None:
    assert sum(WEBHOOK_RETRY_SCHEDULE) == 5 + 300 + 1800 + 3600 * (2 + 5 + 10 + 14 + 20 + 24)


def test_a_head_is_cut_and_cleaned() -> None:
    assert clean_head(b"a\0b\x1b[31m\r\nc\td\xff" + "é".encode()) == "ab[31m\nc\td\ufffdé"
    assert len(clean_head(b"x" * 10_000)) == 4_096


@given(st.binary(max_size=64))
def test_a_head_can_always_be_stored(raw: bytes) -> None:
    head = clean_head(raw)
    head.encode()
    assert "\0" not in head


DAYS: Final = timedelta(days=5)


@pytest.mark.parametrize(
    ("failing_for", "warned_for", "then"),
    [
        (None, None, Failing.BEGUN),
        (timedelta(days=1, seconds=-1), None, Failing.KNOWN),
        (timedelta(days=1), None, Failing.WARN),
        (timedelta(days=100), None, Failing.WARN),  # nothing was sent for long: nobody is disabled unwarned
        (timedelta(days=5, seconds=-1), timedelta(days=4), Failing.KNOWN),
        (timedelta(days=5), timedelta(days=4), Failing.DISABLE),
        (timedelta(days=100), timedelta(days=1, seconds=-1), Failing.KNOWN),
        (timedelta(days=100), timedelta(days=1), Failing.DISABLE),
    ],
)
def test_a_receiver_that_only_fails_is_warned_of_and_then_disabled(
    failing_for: timedelta | None, warned_for: timedelta | None, then: Failing
) -> None:
    since = None if failing_for is None else NOW - failing_for
    warned_at = None if warned_for is None else NOW - warned_for
    assert after_failure(failing_since=since, warned_at=warned_at, disable_after=DAYS, now=NOW) is then


@given(pauses=st.lists(st.timedeltas(timedelta(0), timedelta(days=9)), min_size=1, max_size=40))
def test_nobody_is_disabled_before_the_days_are_over_or_within_a_day_of_the_warning(pauses: list[timedelta]) -> None:
    now, since, warned_at = NOW, None, None
    for pause in pauses:
        now += pause
        match after_failure(failing_since=since, warned_at=warned_at, disable_after=DAYS, now=now):
            case Failing.BEGUN:
                since = now
            case Failing.WARN:
                warned_at = now
            case Failing.DISABLE:
                assert since is not None
                assert warned_at is not None
                assert now - since >= DAYS
                assert now - warned_at >= DAYS / 5
                return
            case Failing.KNOWN:
                pass


@pytest.mark.parametrize(
    "secret",
    [
        "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
        "whsk_6Xb/dCcHpPea21PS1N9VY/NZW723CEc77N4rJCubMbfVKIDij2HKpMKkioLlX0dRqSKJp4AJ6p9lMicMFs6Kvg==",
        "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=",
        "v1a,hnO3f9T8Ytu9HwrXslvumlUpqtNVqkhqw/enGzPCXe5BdqzCInXqYXFymVJaA7AZdpXwVLPo3mNl8EM+m7TBAg==",
        "Bearer eyJhbGciOiJIUzI1NiJ9.e30.abc",
        "authorization: basic dXNlcjpwYXNzd29yZA==".removeprefix("authorization: "),
        "certfleet_Sguwsm5NOz1Gb0xdCXxRTFnUUmHt0LAekbjf34GSoHb2QdZkB",
        "-----BEGIN RSA PRIVATE KEY-----\nMIIEow\n-----END RSA PRIVATE KEY-----",
        "-----BEGIN PRIVATE KEY-----\nMIIEow, and cut off",
    ],
)
def test_what_a_receiver_lets_slip_is_not_kept(secret: str) -> None:
    assert clean_head(f"failed: {secret}".encode()) == f"failed: {REMOVED}"
    harmless = "failed with v1, 500: Basic authentication needed"
    assert clean_head(harmless.encode()) == harmless
