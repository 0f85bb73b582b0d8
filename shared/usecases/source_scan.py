"""Look, once a minute, which sources are declared, and which certificates are due for renewal."""

from __future__ import annotations

from datetime import datetime

from shared.usecases.automatic_renewal import renew_due
from shared.usecases.catalogue import keep_catalogues
from shared.usecases.context import Context
from shared.usecases.periodic import Periodic, note_run


def scan(context: Context, *, now: datetime) -> int:
    """What is new is listed at once, what is gone offers nothing more. Returns how many renewals were begun."""
    with context.transaction() as session:
        keep_catalogues(session, context.settings, now=now)
    begun = renew_due(context, now=now)
    with context.transaction() as session:
        note_run(session, Periodic.SOURCES, now=now, count=begun)
    return begun
