"""When to try again: pure decisions, so that their test is a table."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import Final

from shared.config.regions import DEFAULT_RETRY_LIMITS, RetryLimits
from shared.errors import CertfleetError, DriverError, NotServed, OutcomeUnknown, Replan, Transient

REPLAN: Final = timedelta(seconds=1)
"""Somebody else was quicker: what is there now is known at once, only not both again in the same moment."""


_UNKNOWN: Final = frozenset({OutcomeUnknown.code, NotServed.code, "worker_lost", "internal_error"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """Whether to try again, and after which pause."""

    retry: bool
    after: timedelta = timedelta(0)


def backoff(attempt: int, *, chance: float, limits: RetryLimits = DEFAULT_RETRY_LIMITS) -> timedelta:
    """Exponential back-off with full jitter (Brooker, "Exponential Backoff And Jitter", AWS 2015).

    Args:
        attempt: how many attempts have failed, from 1.
        chance: a uniform random number in [0, 1).
        limits: the region's first and longest pause.
    """
    ceiling = min(limits.cap, limits.base * (1 << min(attempt - 1, 20)))
    return timedelta(seconds=ceiling.total_seconds() * chance)


def after_failure(
    error: BaseException,
    *,
    attempt: int,
    chance: float,
    limits: RetryLimits = DEFAULT_RETRY_LIMITS,
    elapsed: timedelta = timedelta(0),
) -> Decision:
    """Retry what can heal by itself, until attempts or time are used up; a permanent refusal never.

    Args:
        error: what the attempt ended with.
        attempt: how many attempts have failed, from 1.
        chance: a uniform random number in [0, 1).
        limits: the region's.
        elapsed: since the first attempt began.
    """
    if not is_retryable(error) or attempt >= limits.max_attempts:
        return Decision(retry=False)
    after = REPLAN * chance if isinstance(error, Replan) else backoff(attempt, chance=chance, limits=limits)
    if limits.deadline is not None and elapsed + after > limits.deadline:
        return Decision(retry=False)
    return Decision(retry=True, after=after)


def must_read_first(code: str | None) -> bool:
    """Whether nobody knows what the last attempt changed, by its error's code: then look before changing anything."""
    return code in _UNKNOWN


def is_retryable(error: BaseException) -> bool:
    """Driver errors say so themselves; of our own only ``Transient``; a foreign exception may be a blip."""
    if isinstance(error, DriverError):
        return error.retryable
    if isinstance(error, CertfleetError):
        return isinstance(error, Transient)
    return True
