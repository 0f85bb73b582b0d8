"""When to try again: pure decisions, so that their test is a table."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import Final

from shared.errors import CertfleetError, DriverError, Transient

BASE: Final = timedelta(seconds=2)
CAP: Final = timedelta(minutes=10)


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """Whether to try again, and after which pause."""

    retry: bool
    after: timedelta = timedelta(0)


def backoff(attempt: int, *, chance: float) -> timedelta:
    """Exponential back-off with full jitter (Brooker, "Exponential Backoff And Jitter", AWS 2015).

    Args:
        attempt: how many attempts have failed, from 1.
        chance: a uniform random number in [0, 1).
    """
    ceiling = min(CAP, BASE * (1 << min(attempt - 1, 20)))
    return timedelta(seconds=ceiling.total_seconds() * chance)


def after_failure(error: BaseException, *, attempt: int, max_attempts: int, chance: float) -> Decision:
    """Retry what can heal by itself, until the attempts are used up; a permanent refusal never."""
    if not is_retryable(error) or attempt >= max_attempts:
        return Decision(retry=False)
    return Decision(retry=True, after=backoff(attempt, chance=chance))


def is_retryable(error: BaseException) -> bool:
    """Driver errors say so themselves; of our own only ``Transient``; a foreign exception may be a blip."""
    if isinstance(error, DriverError):
        return error.retryable
    if isinstance(error, CertfleetError):
        return isinstance(error, Transient)
    return True
