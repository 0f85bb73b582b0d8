"""When a certificate is renewed by itself: early enough, never before it was asked for, spread over time."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.domain.deadlines import Validity
from shared.domain.renewals import renewal_due_at

pytestmark = pytest.mark.unit

BIRTH = datetime(2026, 1, 1, tzinfo=UTC)
DAY = timedelta(days=1)


def due(days: int, before: int | None = None, seed: str = "cert_1") -> timedelta:
    """How long before the end."""
    validity = Validity(not_before=BIRTH, not_after=BIRTH + days * DAY)
    return validity.not_after - renewal_due_at(validity, before_days=before, seed=seed)


@given(days=st.integers(1, 3650), before=st.none() | st.integers(1, 3650), seed=st.text(max_size=30))
def test_it_is_in_the_first_tenth_of_the_time_that_was_asked_for(days: int, before: int | None, seed: str) -> None:
    asked = days * DAY / 3 if before is None else min(before, days / 2) * DAY
    assert asked * 0.9 - timedelta(seconds=1) <= due(days, before, seed) <= asked + timedelta(seconds=1)


def test_those_that_were_issued_together_are_spread() -> None:
    moments = sorted(due(90, 30, seed=f"cert_{number}") for number in range(300))
    days = {moment // (DAY / 2) for moment in moments}
    assert len(days) == 6


def test_it_is_the_same_whenever_it_is_asked() -> None:
    assert due(90, 30) == due(90, 30)
