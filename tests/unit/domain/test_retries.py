"""When a region is tried again, and when not."""

from __future__ import annotations

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared import errors
from shared.domain.retries import BASE, CAP, after_failure, backoff, is_retryable


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
    assert after_failure(error, attempt=5, max_attempts=6, chance=0.5).retry
    assert not after_failure(error, attempt=6, max_attempts=6, chance=0.5).retry


@pytest.mark.parametrize(("attempt", "ceiling"), [(1, BASE), (2, 2 * BASE), (4, 8 * BASE), (9, 256 * BASE), (10, CAP)])
def test_the_ceiling_doubles_up_to_the_cap(attempt: int, ceiling: timedelta) -> None:
    assert backoff(attempt, chance=1.0) == ceiling


@given(st.integers(1, 10**6), st.floats(0, 1, exclude_max=True))
def test_no_attempt_overflows_or_leaves_the_bounds(attempt: int, chance: float) -> None:
    assert timedelta(0) <= backoff(attempt, chance=chance) <= CAP
