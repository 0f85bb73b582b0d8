"""The rule of reminders for one recipient, in a few lines: scans and decisions are held against it."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import datetime

from shared.config.settings import REMINDER_THRESHOLDS
from shared.domain.deadlines import Validity
from shared.domain.reminders import counts, crossed


def due_threshold(
    validity: Validity, recorded: Collection[int], now: datetime, *, thresholds: Sequence[int] = REMINDER_THRESHOLDS
) -> int | None:
    """The one threshold to give notice of now, or ``None``.

    It is the nearest crossed one, whatever was missed before it; once it or a nearer one is recorded, never a farther
    one again. ``thresholds`` are days before expiry without ``EXPIRED``, which is always watched.
    """
    band = crossed(validity, now, thresholds=thresholds)
    if band is None or not counts(band, validity) or any(past <= band.threshold for past in recorded):
        return None
    return band.threshold
