"""The periodic tasks: how often each runs, when each last did, and which of them has fallen silent."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Final

from sqlalchemy import select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from shared.config.settings import Settings
from shared.models import PeriodicRun

SILENCE: Final = timedelta(seconds=60)
"""A task that did not run for so long, and for five of its intervals, has fallen silent."""

INTERVALS: Final = 5

SCAN_SOURCES: Final = timedelta(minutes=1)
"""How often it is looked which sources are declared, and what is due for renewal; listings have times of their own."""


class Periodic(StrEnum):
    """Their names in ``periodic_runs``."""

    SWEEP = "sweep"
    PATROL = "patrol"
    REMINDERS = "reminders"
    SOURCES = "sources"
    RETENTION = "retention"


def intervals(settings: Settings) -> dict[Periodic, timedelta]:
    """How often beat has each of them run.

    The patrol looks as often as the sweep for listeners whose turn it is: how often that comes is ``patrol_every``.
    """
    return {
        Periodic.SWEEP: settings.sweep_every,
        Periodic.PATROL: min(settings.sweep_every, settings.patrol_every),
        Periodic.REMINDERS: settings.reminders_every,
        Periodic.RETENTION: settings.retention_every,
        Periodic.SOURCES: min(SCAN_SOURCES, settings.sources_every),
    }


def note_run(session: Session, name: Periodic, *, now: datetime, count: int) -> None:
    """Remember that a periodic task ran: what catches a silent scheduler."""
    statement = insert(PeriodicRun).values(name=name, last_run_at=now, last_count=count)
    session.execute(
        statement.on_conflict_do_update(
            index_elements=[PeriodicRun.name], set_={"last_run_at": now, "last_count": count}
        )
    )


def last_runs(session: Session) -> dict[Periodic, datetime | None]:
    """When each last succeeded; ``None``: never."""
    found = {row.name: row.last_run_at for row in session.execute(select(PeriodicRun.name, PeriodicRun.last_run_at))}
    return {name: found.get(name) for name in Periodic}


def silent(runs: Mapping[Periodic, datetime | None], settings: Settings, *, now: datetime) -> list[Periodic]:
    """Those that have fallen silent. A run that lies ahead of ``now`` by as much says nothing: the clock went back."""
    every = intervals(settings)
    return [name for name, last in runs.items() if last is None or abs(now - last) > _patience(every[name])]


def _patience(interval: timedelta) -> timedelta:
    return max(SILENCE, INTERVALS * interval)
