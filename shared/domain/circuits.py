"""A region's circuit breaker: after failures in a row the region is left alone for a while, then asked once.

The pattern is Nygard's ("Release It!", "Circuit Breaker"): closed, open, half-open. What waits meanwhile does not use
up its attempts, and no worker waits for a load balancer that is known not to answer.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Final

from shared.errors import Busy, OutcomeUnknown, Unreachable

THRESHOLD: Final = 3
"""Failures in a row that open it: one may be a blip, and two of one certificate as well."""

FIRST_PAUSE: Final = timedelta(seconds=5)
LONGEST_PAUSE: Final = timedelta(minutes=1)
"""So long after it has healed, at most, a region is found to have healed."""


class CircuitState(StrEnum):
    """``half_open``: the pause is over, and the next attempt decides."""

    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half_open"


@dataclass(frozen=True, slots=True, kw_only=True)
class Circuit:
    """How often in a row the region did not answer; since when it is left alone, and until when."""

    failures: int = 0
    opened_at: datetime | None = None
    retry_at: datetime | None = None

    def state(self, now: datetime) -> CircuitState:
        """Where it stands."""
        if self.retry_at is None:
            return CircuitState.CLOSED
        return CircuitState.OPEN if now < self.retry_at else CircuitState.HALF_OPEN

    def after(self, error: BaseException | None, *, now: datetime) -> Circuit:
        """After an attempt that ended with ``error``; ``None``, or an answer of whatever kind, closes it."""
        if not is_silence(error):
            return Circuit()
        failures = self.failures + 1
        if failures < THRESHOLD:
            return Circuit(failures=failures)
        pause = min(LONGEST_PAUSE, FIRST_PAUSE * (1 << min(failures - THRESHOLD, 10)))
        return Circuit(failures=failures, opened_at=self.opened_at or now, retry_at=now + pause)


def is_silence(error: BaseException | None) -> bool:
    """Whether the load balancer itself did not answer, or asked to be left alone; a refusal is an answer."""
    return isinstance(error, (Unreachable, Busy, OutcomeUnknown))
