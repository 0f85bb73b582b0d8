"""How often we put right what somebody changes by hand: we do not fight an operator in a loop."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Final

MOST_REPAIRS: Final = 3
WINDOW: Final = timedelta(hours=1)
"""So many repairs of one thing within so long; then it is only told, until the oldest is past."""

FIRST_PAUSE: Final = timedelta(minutes=2)
"""From the first repair to the second; each further pause is twice as long."""


def recent_repairs(made: Iterable[datetime], *, now: datetime) -> list[datetime]:
    """Those that still count, oldest first."""
    return sorted(at for at in made if now - at < WINDOW)


def may_repair(made: Iterable[datetime], *, now: datetime) -> bool:
    """Whether one more may be made now, after those that were."""
    recent = recent_repairs(made, now=now)
    if not recent:
        return True
    return len(recent) < MOST_REPAIRS and now - recent[-1] >= FIRST_PAUSE * 2 ** (len(recent) - 1)
