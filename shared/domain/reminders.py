"""When a certificate's expiry is worth a notice, which one, and how urgent it reads."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from functools import cache
from itertools import pairwise
from typing import Final

from shared.config.settings import REMINDER_THRESHOLDS
from shared.domain.deadlines import Validity

DAY: Final = timedelta(days=1)

EXPIRED: Final = -1
"""The threshold after all others: the certificate is past its notAfter."""

FARTHEST: Final = 730
"""The farthest threshold that may be set, in days: two years, for CAs that live for ten."""

MOST_THRESHOLDS: Final = 20

YOUNG: Final = 2
"""A threshold counts only if it is crossed in the second half of the certificate's life (1 / ``YOUNG`` of it).

So a certificate with a short life gets no notice at birth: lives of 398 or 200 days start with 60 days' notice, 90 days
(Let's Encrypt) with 30, 47 days (the CA/Browser Forum's limit from 2029) with 15, 160 hours with 1. "Expired" always
counts. None of today's usual lives lies on a boundary of this rule.
"""


class ReminderState(StrEnum):
    """``pending → sent | failed | suppressed``; ``recorded`` from the start where there is nobody to tell."""

    PENDING = "pending"
    SENT = "sent"
    FAILED = "failed"
    SUPPRESSED = "suppressed"
    """No longer wanted when its turn came: replaced, muted or deleted meanwhile, or a nearer notice took its place."""
    RECORDED = "recorded"


class Urgency(StrEnum):
    """How loud a notice is; most urgent first."""

    EXPIRED = "expired"
    CRITICAL = "critical"
    SOON = "soon"
    PLAN = "plan"


@dataclass(frozen=True, slots=True, kw_only=True)
class Band:
    """The stretch of time in which ``threshold`` is the nearest crossed one, by the time that is left.

    It holds while ``closes <= left < opens``; ``closes`` is ``None`` for "expired", which never ends.
    """

    threshold: int
    opens: timedelta
    closes: timedelta | None

    @property
    def shortest_life(self) -> timedelta:
        """The threshold counts for certificates that live at least so long (see ``YOUNG``)."""
        return self.opens * YOUNG

    def holds(self, left: timedelta) -> bool:
        """Whether a certificate with so much time left is in the band."""
        return left < self.opens and (self.closes is None or left >= self.closes)


def crossed(validity: Validity, now: datetime, *, thresholds: Sequence[int]) -> Band | None:
    """The nearest crossed threshold, whether it counts or not; ``None``: the end is farther than all of them."""
    left = validity.not_after - now
    return next((band for band in bands(tuple(thresholds)) if band.holds(left)), None)


def counts(band: Band, validity: Validity) -> bool:
    """Whether the certificate lives long enough for the threshold (see ``YOUNG``)."""
    return validity.lifetime >= band.shortest_life


def next_crossing(validity: Validity, now: datetime, *, thresholds: Sequence[int]) -> datetime | None:
    """The first instant after ``now`` at which another threshold is crossed that counts; ``None``: none will be.

    Threshold t is crossed when less than t + 1 days are left, so one microsecond after that boundary.
    """
    ahead = (
        validity.not_after - band.opens + datetime.resolution
        for band in bands(tuple(thresholds))
        if counts(band, validity) and validity.not_after - band.opens >= now
    )
    return min(ahead, default=None)


@cache
def bands(thresholds: tuple[int, ...] = REMINDER_THRESHOLDS) -> tuple[Band, ...]:
    """The thresholds as stretches of time, nearest first, without gaps.

    Threshold t is crossed when t whole days or fewer are left (:func:`days_left`), that is less than t + 1 days: so
    day 0 is the last 24 hours, and "expired" is t = -1.
    """
    ascending = (EXPIRED, *sorted(set(thresholds)))
    later = tuple(
        Band(threshold=threshold, opens=(threshold + 1) * DAY, closes=(nearer + 1) * DAY)
        for nearer, threshold in pairwise(ascending)
    )
    return (Band(threshold=EXPIRED, opens=timedelta(0), closes=None), *later)


def days_left(not_after: datetime, now: datetime) -> int:
    """Whole days of 24 hours until ``not_after``, rounded down: 0 in the last 24 hours, negative afterwards."""
    return (not_after - now) // DAY


def urgency(days: int) -> Urgency:
    """How urgent it is with so many whole days left."""
    if days < 0:
        return Urgency.EXPIRED
    if days <= 1:
        return Urgency.CRITICAL
    return Urgency.SOON if days <= 15 else Urgency.PLAN  # noqa: PLR2004 - half a month: the third default threshold


def time_left(days: int) -> str:
    """In words, to follow "expires" or "expired": ``in 7 days``, ``in less than a day``, ``3 days ago``."""
    if days == 0:
        return "in less than a day"
    if days > 0:
        return f"in {days} day{'' if days == 1 else 's'}"
    ago = -days - 1
    return f"{ago} day{'' if ago == 1 else 's'} ago" if ago else "less than a day ago"


def calendar_day(at: datetime) -> str:
    """``30 Nov 2026``, of an instant in UTC."""
    return f"{at.day} {at:%b %Y}"
