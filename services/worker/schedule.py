"""Beat: when the periodic tasks run. Two beats are harmless: the database decides who does what."""

from __future__ import annotations

from typing import Any

from shared.config.settings import Settings
from shared.wakeups import Task


def beat_schedule(settings: Settings) -> dict[str, dict[str, Any]]:
    """Sweep often, scan for reminders every few minutes; a message that nobody took within its period is dropped.

    The patrol looks as often as the sweep for listeners whose turn it is: how often that comes is ``patrol_every``.
    """
    return {
        "sweep": _every(Task.SWEEP, settings.sweep_every.total_seconds()),
        "patrol": _every(Task.PATROL, min(settings.sweep_every, settings.patrol_every).total_seconds()),
        "reminders": _every(Task.SCAN_REMINDERS, settings.reminders_every.total_seconds()),
    }


def _every(task: Task, seconds: float) -> dict[str, Any]:
    return {"task": task.value, "schedule": seconds, "options": {"expires": max(seconds, 1.0)}}
