"""When a certificate is renewed without being asked to: so long before its end, spread over time."""

from __future__ import annotations

import hashlib
from datetime import datetime, timedelta
from typing import Final

from shared.domain.deadlines import Validity

PART: Final = 3
"""A third of the life before the end, unless days are set: what Let's Encrypt recommends."""

MOST: Final = 2
"""Never earlier than half a life before the end: else what was just renewed would be due again."""

SPREAD: Final = 10
"""Certificates that were issued together are not renewed together: over a tenth of the time that is left by then."""

AGAIN: Final = timedelta(days=1)
"""After a renewal that failed; somebody has been told by then."""


def renewal_due_at(validity: Validity, *, before_days: int | None, seed: str) -> datetime:
    """The moment from which the certificate is to be renewed; the same whenever it is asked.

    Args:
        validity: of the certificate.
        before_days: how many days before its end, at most half a life; ``None``: a third of its life.
        seed: what tells it from others: its id.
    """
    lead = (
        validity.lifetime / PART if before_days is None else min(timedelta(days=before_days), validity.lifetime / MOST)
    )
    number = int.from_bytes(hashlib.sha256(seed.encode()).digest()[:8])
    return validity.not_after - lead + lead / SPREAD * (number / (1 << 64))
