"""A receiver's lane: how many deliveries may be on their way to it at once, and when it is left alone for a while.

A lane takes threads by what its receiver has shown. One that answers at once is served by one thread, in order: more
would be no faster. One that takes longer gets several. One that is new, or slow, or silent gets one, and only out of
the few threads that a worker keeps for such receivers (``shared/usecases/webhook_trials.py``): however many of them
there are, the other threads are free for receivers that answer. One that fails rests between tries.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Final

from shared.domain.webhooks import Answer, retry_after

SWIFT: Final = timedelta(milliseconds=20)
"""Faster than this, one thread delivers at least 50 events a second, in order."""

NOT_SWIFT: Final = timedelta(milliseconds=50)
"""Slower than this, several deliveries at once are worth their overlap. Between the two nothing changes."""

SLOW_SHARE: Final = 0.1
"""The share of the timeout after which an answer is slow: 1.5 s of 15 s."""

FAILURES: Final = 3
"""In a row; then the receiver rests. Fewer may be about one event, as with regions (``shared/domain/circuits.py``)."""

FIRST_REST: Final = timedelta(seconds=5)
"""The first rest, unless the schedule's first pause is shorter; each further one is twice as long."""

OUTAGE: Final = 8
"""Failures in a row after which the next success ends an outage: by default, minutes without a single one."""


class Pace(StrEnum):
    """How long the receiver took for its last answer, or for none."""

    NEW = "new"
    SWIFT = "swift"
    BRISK = "brisk"
    SLOW = "slow"


TRIED_OUT: Final = frozenset({Pace.NEW, Pace.SLOW})
"""Those that a worker gives only some of its threads to."""


class Condition(StrEnum):
    """A receiver, as its owner is told of it."""

    NEW = "new"
    FINE = "fine"
    SLOW = "slow"
    FAILING = "failing"
    RESTING = "resting"


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What the operator sets: deliveries at once, the time for one, the first and the longest rest."""

    most_at_once: int
    timeout: timedelta
    first_rest: timedelta
    longest_rest: timedelta


@dataclass(frozen=True, slots=True, kw_only=True)
class Lane:
    """What a receiver has shown: its pace, failures in a row, and until when it is left alone."""

    pace: Pace = Pace.NEW
    failures: int = 0
    rests_until: datetime | None = None

    def width(self, limits: Limits) -> int:
        """How many deliveries may be on their way at once."""
        return limits.most_at_once if self.pace is Pace.BRISK and not self.failures else 1

    def is_resting(self, now: datetime) -> bool:
        """Whether nothing is sent there now."""
        return self.rests_until is not None and now < self.rests_until

    def is_tried_out(self) -> bool:
        """Whether a worker gives it only some of its threads."""
        return self.pace in TRIED_OUT

    def condition(self, now: datetime) -> Condition:
        """What its owner is told."""
        if self.is_resting(now):
            return Condition.RESTING
        if self.failures:
            return Condition.FAILING
        told = {Pace.NEW: Condition.NEW, Pace.SLOW: Condition.SLOW}
        return told.get(self.pace, Condition.FINE)

    def after(self, answer: Answer, *, is_delivered: bool, limits: Limits, now: datetime) -> Lane:
        """After an attempt that ended at ``now``."""
        pace = _pace(self.pace, answer.duration, limits)
        if is_delivered:
            return Lane(pace=pace)
        failed = replace(self, pace=pace, failures=self.failures + 1)
        rest = _rest(failed.failures, answer, limits=limits, now=now)
        return replace(failed, rests_until=now + rest if rest else None)

    def ends_outage(self, following: Lane) -> bool:
        """Whether the receiver is back, after a long time of nothing but failures."""
        return self.failures >= OUTAGE and not following.failures


def callback_lane(account_id: str, host: str, port: int) -> str:
    """The lane of an account's callbacks to one receiver: each job brings an endpoint, and all of them share this."""
    return f"{account_id}/{host}:{port}"


def _rest(failures: int, answer: Answer, *, limits: Limits, now: datetime) -> timedelta:
    """Doubles with each failure, and is as long as the receiver asks for, but never above the longest one."""
    wished = retry_after(answer.retry_after, now=now)
    beyond = failures - FAILURES
    planned = limits.first_rest * (1 << min(beyond, 20)) if beyond >= 0 else timedelta(0)
    return min(max(planned, wished), limits.longest_rest)


def _pace(before: Pace, duration: timedelta, limits: Limits) -> Pace:
    if duration > limits.timeout * SLOW_SHARE:
        return Pace.SLOW
    if duration < SWIFT or (duration < NOT_SWIFT and before is Pace.SWIFT):
        return Pace.SWIFT
    return Pace.BRISK
