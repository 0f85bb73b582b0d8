"""Beat's schedule: everything at once at first, and again at once when the wall clock went back."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from celery import Celery

from services.worker.schedule import SKEW, SteadyScheduler, beat_schedule
from shared.config.settings import Settings


class Recording(SteadyScheduler):
    """Says what it would send, to nobody."""

    def __init__(self, *arguments: Any, **named: Any) -> None:
        self.sent: list[str] = []
        super().__init__(*arguments, **named)

    def apply_entry(self, entry: Any, producer: Any = None) -> None:
        del producer
        self.sent.append(entry.name)


@pytest.fixture
def beat(tmp_path: Path) -> Iterator[Recording]:
    app = Celery("test", broker="memory://", set_as_current=False)
    settings = Settings(database_url="", redis_url="", kek_file=Path(), regions={})
    app.conf.update(beat_schedule=beat_schedule(settings), timezone="UTC", result_expires=None)
    scheduler = Recording(app, schedule_filename=str(tmp_path / "schedule"))
    yield scheduler
    scheduler._store.close()  # type: ignore[attr-defined] # noqa: SLF001 - theirs has no way to end without a broker


def run_due(beat: Recording) -> set[str]:
    """Tick until nothing is due; what was sent."""
    beat.sent.clear()
    while beat.tick() == 0:
        pass
    return set(beat.sent)


def test_a_new_beat_has_every_periodic_task_run_at_once_and_then_waits(beat: Recording) -> None:
    assert run_due(beat) == {"sweep", "patrol", "reminders", "sources", "retention"}
    assert run_due(beat) == set()


def test_a_clock_that_went_back_an_hour_silences_nothing(beat: Recording) -> None:
    run_due(beat)
    for entry in beat.schedule.values():
        entry.last_run_at = datetime.now(UTC) + timedelta(hours=1)
    assert run_due(beat) == {"sweep", "patrol", "reminders", "sources", "retention"}
    assert run_due(beat) == set()


def test_messages_live_longer_than_clocks_differ(beat: Recording) -> None:
    assert all((entry.options or {})["expires"] >= SKEW.total_seconds() for entry in beat.schedule.values())
