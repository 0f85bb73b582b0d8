"""Whatever workers own is swept, and every task has a queue that somebody consumes."""

from __future__ import annotations

from pathlib import Path
from typing import get_args

from services.cli.embedded.programs import WORKER_QUEUES
from shared.config.settings import Settings
from shared.models import leases
from shared.usecases import clock_jumps, figures, sweep
from shared.wakeups import QUEUES, Task
from tests.support.leased import leased_models


def test_every_leased_model_is_claimed_swept_pulled_back_and_counted() -> None:
    settings = Settings(database_url="", redis_url="", kek_file=Path(), regions={})
    leased = set(leased_models())
    assert set(get_args(leases.LeasedRow)) == leased
    assert {model for model, _task in sweep.WAKES} | set(sweep.OF_REGIONS) | set(sweep.OF_LANES) == leased
    assert set(clock_jumps.farthest(settings, is_certain=False)) == leased
    assert set(figures.WAITING.values()) == leased


def test_every_task_is_routed_to_a_queue_that_one_worker_consumes() -> None:
    consumed = [queue for queues in WORKER_QUEUES.values() for queue in queues.split(",")]
    assert sorted(consumed) == sorted(QUEUES)
    assert {task.split(".")[1] for task in Task} == set(QUEUES)
