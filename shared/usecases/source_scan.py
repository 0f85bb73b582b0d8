"""Look, once a minute, which sources are declared: what is new is listed at once, what is gone offers nothing more."""

from __future__ import annotations

from datetime import datetime

from shared.usecases.catalogue import keep_catalogues
from shared.usecases.context import Context
from shared.usecases.periodic import Periodic, note_run


def scan(context: Context, *, now: datetime) -> int:
    """Returns how many sources were new."""
    with context.transaction() as session:
        fresh = keep_catalogues(session, context.settings, now=now)
    with context.transaction() as session:
        note_run(session, Periodic.SOURCES, now=now, count=len(fresh))
    return len(fresh)
