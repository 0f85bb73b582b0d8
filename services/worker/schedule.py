"""Beat: when the periodic tasks run. Two beats are harmless: the database decides who does what."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any, Final

from celery.beat import PersistentScheduler

from shared.config.settings import Settings
from shared.usecases.periodic import Periodic, intervals
from shared.wakeups import Task

SCHEDULER: Final = "services.worker.schedule:SteadyScheduler"
"""What beat runs: ``beat_scheduler`` of Celery's settings."""

SKEW: Final = timedelta(seconds=60)
"""A message lives for at least so long: beat's clock and the worker's need not agree to the second."""

_TOLERANCE: Final = timedelta(seconds=1)

_LONG_AGO: Final = datetime(2000, 1, 1, tzinfo=UTC)
"""A beat without a past has everything run at once, the scan for reminders too."""

_TASKS: Final = {
    Periodic.SWEEP: Task.SWEEP,
    Periodic.PATROL: Task.PATROL,
    Periodic.REMINDERS: Task.SCAN_REMINDERS,
    Periodic.SOURCES: Task.SCAN_SOURCES,
    Periodic.RETENTION: Task.RETENTION,
}


def beat_schedule(settings: Settings) -> dict[str, dict[str, Any]]:
    """Sweep often, scan for reminders every few minutes; a message that nobody took in time is dropped."""
    return {name.value: _every(_TASKS[name], interval) for name, interval in intervals(settings).items()}


def _every(task: Task, interval: timedelta) -> dict[str, Any]:
    return {
        "task": task.value,
        "schedule": interval.total_seconds(),
        "options": {"expires": max(interval, SKEW).total_seconds()},
        "last_run_at": _LONG_AGO,
    }


class SteadyScheduler(PersistentScheduler):
    """Celery's own, which goes on when the wall clock goes back; theirs is silent until the clock has caught up."""

    def tick(self, *arguments: Any, **named: Any) -> float:
        """As theirs. An entry that ran "in the future" is due."""
        now = datetime.now(UTC)
        for entry in self.schedule.values():
            if entry.last_run_at is not None and entry.last_run_at > now + _TOLERANCE:
                entry.last_run_at = _LONG_AGO
                self._heap = None
        return float(super().tick(*arguments, **named))
