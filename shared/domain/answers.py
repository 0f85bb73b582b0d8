"""What people answer to reminders: how long that holds later ones back, and what a link in a mail stands for."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Final

FLOOR: Final = timedelta(days=3)
"""From so long before the end on, neither an acknowledgement nor a snooze holds anything back."""

LINK_LIFE: Final = timedelta(days=30)
"""How long after its mail a link works; the next mail has new ones."""


class LinkScope(StrEnum):
    """What a link lets its holder do."""

    CERTIFICATE = "certificate"
    """Acknowledge, snooze, mute and resume the reminders of one certificate."""
    UNSUBSCRIBE = "unsubscribe"
    """End, and begin again, the mail to one recipient from one account."""


class Answer(StrEnum):
    """What can be answered to a reminder."""

    ACKNOWLEDGE = "acknowledge"
    SNOOZE = "snooze"
    MUTE = "mute"
    RESUME = "resume"
    """Take all of it back."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Hold:
    """What holds a certificate's reminders back for a while."""

    acknowledged_at: datetime | None
    snoozed_until: datetime | None

    def until(self, not_after: datetime) -> datetime | None:
        """Reminders come again from then on; ``None``: nothing holds them back, now or earlier."""
        if self.acknowledged_at is not None:
            return floor_of(not_after)
        return None if self.snoozed_until is None else min(self.snoozed_until, floor_of(not_after))


def floor_of(not_after: datetime) -> datetime:
    """The last moment until which reminders of a certificate that ends then can be held back."""
    return not_after - FLOOR


def snooze_choices(not_after: datetime, now: datetime) -> tuple[datetime, ...]:
    """Until when a snooze is offered: a day, three, a week, two weeks, a month, and the floor; soonest first."""
    latest = floor_of(not_after)
    if latest <= now:
        return ()
    steps = (now + timedelta(days=days) for days in (1, 3, 7, 14, 30))
    return (*(end for end in steps if end < latest), latest)
