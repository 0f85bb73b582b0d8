"""The quiet window: hours of an account's wall clock in which only urgent mail goes out."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, time, timedelta
from itertools import count
from typing import Final
from zoneinfo import ZoneInfo

from shared.domain.reminders import Urgency

LONGEST_WAIT: Final = timedelta(days=2)
"""No window lasts for longer: at least one minute of each day is outside, though not if summer time skips just it."""

URGENT: Final = frozenset({Urgency.EXPIRED, Urgency.CRITICAL})
"""What is mailed at once, also at night: expired, or one day or less is left."""

_MINUTE: Final = timedelta(minutes=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class QuietWindow:
    """From ``begins`` (included) until ``ends`` (excluded) on the wall clock of ``zone``; over midnight if earlier.

    Both are whole minutes, and differ. A day on which the clock changes has the window that the clock shows: an hour
    that is skipped is not waited for, one that comes twice is quiet twice.
    """

    begins: time
    ends: time
    zone: ZoneInfo

    def covers(self, moment: datetime) -> bool:
        """Whether it is quiet at that moment."""
        wall = moment.astimezone(self.zone).time()
        if self.begins < self.ends:
            return self.begins <= wall < self.ends
        return wall >= self.begins or wall < self.ends

    def end_of(self, moment: datetime) -> datetime | None:
        """The first moment after this one at which it is not quiet any more; ``None`` if it is not quiet.

        Minute by minute (a day has 1440), because no arithmetic on wall clocks is right on all days and in all zones.
        """
        if not self.covers(moment):
            return None
        minute = moment - timedelta(seconds=moment.second, microseconds=moment.microsecond)
        return next(at for number in count(1) if not self.covers(at := minute + number * _MINUTE))
