"""When a region is tried again, and when not."""

from __future__ import annotations

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared import errors
from shared.config.regions import DEFAULT_RETRY_LIMITS, RetryLimits
from shared.domain.retries import REPLAN, after_failure, backoff, is_retryable, must_read_first


@pytest.mark.parametrize(
    ("error", "retry"),
    [
        (errors.Unreachable("x"), True),
        (errors.Busy("x"), True),
        (errors.OutcomeUnknown("x"), True),
        (errors.Replan("x"), True),
        (errors.Transient("x"), True),
        (ValueError("a bug, or a blip"), True),
        (errors.InvalidMaterial("x"), False),
        (errors.Unsupported("x"), False),
        (errors.AuthRefused("x"), False),
        (errors.QuotaExceeded("x"), False),
        (errors.InUse("x"), False),
        (errors.Corrupt("x"), False),
        (errors.NotFound("x"), False),
        (errors.Misconfigured(("x",)), False),
    ],
)
def test_what_can_heal_by_itself_is_tried_again(error: Exception, retry: bool) -> None:  # noqa: FBT001 - a table's column
    assert is_retryable(error) is retry


def test_the_last_attempt_is_the_last() -> None:
    error = errors.Unreachable("x")
    assert after_failure(error, attempt=5, chance=0.5).retry
    assert not after_failure(error, attempt=6, chance=0.5).retry
    assert not after_failure(error, attempt=5, chance=0.5, limits=RetryLimits(max_attempts=5)).retry


def test_somebody_who_was_overtaken_plans_anew_at_once_however_often() -> None:
    for attempt in range(1, 6):
        assert after_failure(errors.Replan("x"), attempt=attempt, chance=0.999).after <= REPLAN


def test_nothing_is_tried_beyond_the_deadline() -> None:
    limits = RetryLimits(max_attempts=100, base=timedelta(seconds=10), deadline=timedelta(seconds=60))
    error = errors.Busy("x")
    assert after_failure(error, attempt=1, chance=0.9, limits=limits, elapsed=timedelta(seconds=51)).retry
    assert not after_failure(error, attempt=1, chance=0.9, limits=limits, elapsed=timedelta(seconds=52)).retry


@pytest.mark.parametrize(
    ("code", "unknown"),
    [
        (errors.OutcomeUnknown.code, True),
        (errors.NotServed.code, True),
        ("worker_lost", True),
        ("internal_error", True),
        (errors.Busy.code, False),
        (errors.Unreachable.code, False),
        (None, False),
    ],
)
def test_after_an_unknown_outcome_one_looks_first(code: str | None, unknown: bool) -> None:  # noqa: FBT001 - a table's column
    assert must_read_first(code) is unknown


@pytest.mark.parametrize(("attempt", "ceiling"), [(1, 2), (2, 4), (4, 16), (9, 512), (10, 600)])
def test_the_ceiling_doubles_up_to_the_cap(attempt: int, ceiling: int) -> None:
    assert backoff(attempt, chance=1.0) == timedelta(seconds=ceiling)


@given(st.integers(1, 10**6), st.floats(0, 1, exclude_max=True))
def test_no_attempt_overflows_or_leaves_the_bounds(attempt: int, chance: float) -> None:
    assert timedelta(0) <= backoff(attempt, chance=chance) <= DEFAULT_RETRY_LIMITS.cap
