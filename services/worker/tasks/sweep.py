"""Queue ``sweep``: wake what is due and unowned, the patrol, and what is old."""

from __future__ import annotations

from celery import Celery

from services.worker.task import task
from shared.usecases import patrol as patrolling
from shared.usecases import retention
from shared.usecases import sweep as sweeping
from shared.usecases.clock import utc_now
from shared.usecases.context import Context
from shared.wakeups import Task


def register(app: Celery) -> None:
    """Register the queue's tasks."""

    @task(app, Task.SWEEP)
    def sweep(context: Context, _row_id: str) -> None:
        sweeping.sweep(context, now=utc_now())

    @task(app, Task.PATROL)
    def patrol(context: Context, _row_id: str) -> None:
        patrolling.tick(context, now=utc_now())

    @task(app, Task.RETENTION)
    def retain(context: Context, _row_id: str) -> None:
        retention.forget(context, now=utc_now())
