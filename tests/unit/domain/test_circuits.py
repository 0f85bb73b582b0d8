"""A region's circuit breaker, as a table."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from shared import errors
from shared.domain.circuits import FIRST_PAUSE, LONGEST_PAUSE, THRESHOLD, Circuit, CircuitState

NOW = datetime(2026, 11, 24, tzinfo=UTC)
SILENT = errors.Unreachable("x")


def after(*outcomes: Exception | None, now: datetime = NOW) -> Circuit:
    circuit = Circuit()
    for outcome in outcomes:
        circuit = circuit.after(outcome, now=now)
    return circuit


def test_it_opens_at_the_threshold_and_not_before() -> None:
    assert after(*[SILENT] * (THRESHOLD - 1)).state(NOW) is CircuitState.CLOSED
    assert after(*[SILENT] * THRESHOLD).state(NOW) is CircuitState.OPEN


@pytest.mark.parametrize("answer", [None, errors.InvalidMaterial("x"), errors.QuotaExceeded("x"), ValueError("a bug")])
def test_an_answer_of_any_kind_closes_it(answer: Exception | None) -> None:
    assert after(*[SILENT] * 5, answer) == Circuit()
    assert after(SILENT, SILENT, answer, SILENT).state(NOW) is CircuitState.CLOSED


@pytest.mark.parametrize("error", [errors.Unreachable("x"), errors.Busy("x"), errors.OutcomeUnknown("x")])
def test_silence_is_what_counts(error: Exception) -> None:
    assert after(*[error] * THRESHOLD).state(NOW) is CircuitState.OPEN


def test_after_the_pause_the_next_attempt_decides() -> None:
    opened = after(*[SILENT] * THRESHOLD)
    later = NOW + FIRST_PAUSE
    assert opened.state(later) is CircuitState.HALF_OPEN
    assert opened.after(None, now=later) == Circuit()
    again = opened.after(SILENT, now=later)
    assert (again.state(later), again.opened_at) == (CircuitState.OPEN, NOW)
    assert again.retry_at == later + 2 * FIRST_PAUSE


def test_pauses_double_up_to_the_longest() -> None:
    pauses = [(after(*[SILENT] * (THRESHOLD + more)).retry_at or NOW) - NOW for more in range(1000)]
    assert pauses[:4] == [FIRST_PAUSE, 2 * FIRST_PAUSE, 4 * FIRST_PAUSE, 8 * FIRST_PAUSE]
    assert max(pauses) == pauses[-1] == LONGEST_PAUSE
    assert pauses == sorted(pauses)
    assert timedelta(0) not in pauses
